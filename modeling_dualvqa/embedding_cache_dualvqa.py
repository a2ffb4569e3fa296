"""Embeddings of what was asked about before, kept by content."""

import hashlib
import itertools
import threading
from collections import OrderedDict

import torch


class EmbeddingCache:
    """The most recently used embeddings, up to a number of bytes. Threads may share it; a copy of it is empty."""

    def __init__(self, max_bytes):
        self.max_bytes = max_bytes
        self.entries, self.bytes = OrderedDict(), 0
        self.lock = threading.Lock()

    def __reduce__(self):
        return type(self), (self.max_bytes,)  # for a process or a pipeline of its own: locks can't be copied

    def __len__(self):
        return len(self.entries)

    def get(self, key):
        """The embedding of that key, which now counts as just used; None if there is none."""
        with self.lock:
            if key in self.entries:
                self.entries.move_to_end(key)
            return self.entries.get(key)

    def put(self, key, embedding):
        """Keeps a copy of an embedding. What was not used for longest goes; what is larger than all is not kept."""
        if embedding.nbytes > self.max_bytes:
            return
        copy = embedding.clone()  # a row of a batch would keep the whole batch
        with self.lock:
            if key in self.entries:
                return
            self.entries[key] = copy
            self.bytes += copy.nbytes
            while self.bytes > self.max_bytes:
                self.bytes -= self.entries.popitem(last=False)[1].nbytes

    def clear(self):
        with self.lock:
            self.entries.clear()
            self.bytes = 0


def tensor_digest(tensor):
    """Hash of a tensor's values and of its shape: a black image is as many zeros lying as it is standing."""
    digest = hashlib.sha256(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
    digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy())
    return digest.hexdigest()


def weights_version(model):
    """A value that changes when an optimizer, `load_state_dict`, a cast or a move changes the model's tensors."""
    tensors = itertools.chain(model.parameters(), model.buffers()) if hasattr(model, "parameters") else ()
    memory = getattr(model, "memory", None)  # what is taught changes no embedding
    own = {id(buffer) for buffer in memory.buffers()} if memory is not None else ()
    # Tensors made in inference mode have no version; nothing can train them.
    versions = tuple((id(t), 0 if t.is_inference() else t._version) for t in tensors if id(t) not in own)
    return hash((versions, str(model.dtype), str(model.device)))
