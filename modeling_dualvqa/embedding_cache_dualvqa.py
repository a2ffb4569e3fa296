"""Embeddings of what was asked about before, kept by content."""

import hashlib
import itertools
import os
from collections import OrderedDict


class EmbeddingCache:
    """The most recently used embeddings, up to a number of bytes."""

    def __init__(self, max_bytes):
        self.max_bytes = max_bytes
        self.entries, self.bytes = OrderedDict(), 0

    def __len__(self):
        return len(self.entries)

    def get(self, key):
        """The embedding of that key, which now counts as just used; None if there is none."""
        if key in self.entries:
            self.entries.move_to_end(key)
        return self.entries.get(key)

    def put(self, key, embedding):
        """Keeps a copy of an embedding. What was not used for longest goes; what is larger than all is not kept."""
        if key in self.entries or embedding.nbytes > self.max_bytes:
            return
        self.entries[key] = embedding.clone()  # a row of a batch would keep the whole batch
        self.bytes += embedding.nbytes
        while self.bytes > self.max_bytes:
            self.bytes -= self.entries.popitem(last=False)[1].nbytes

    def clear(self):
        self.entries.clear()
        self.bytes = 0


def file_digest(image):
    """Hash of a local file's content; None for anything else."""
    if not isinstance(image, (str, os.PathLike)) or not os.path.isfile(image):
        return None
    with open(image, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def tensor_digest(tensor):
    return hashlib.sha256(tensor.contiguous().numpy()).hexdigest()


def weights_version(model):
    """A value that changes when an optimizer, `load_state_dict`, a cast or a move changes the model's tensors."""
    tensors = itertools.chain(model.parameters(), model.buffers()) if hasattr(model, "parameters") else ()
    # Tensors made in inference mode have no version; nothing can train them.
    versions = tuple((id(t), 0 if t.is_inference() else t._version) for t in tensors)
    return hash((versions, str(model.dtype), str(model.device)))
