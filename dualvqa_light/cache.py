"""Embeddings of what was asked about before, kept by content."""

import threading
from collections import OrderedDict


class EmbeddingCache:
    """The most recently used arrays, up to a number of bytes. Threads may share it."""

    def __init__(self, max_bytes):
        self.max_bytes, self.bytes = max_bytes, 0
        self.entries, self.lock = OrderedDict(), threading.Lock()

    def __reduce__(self):
        return type(self), (self.max_bytes,)  # a copy for another process is empty: locks can't be copied

    def __len__(self):
        return len(self.entries)

    def get(self, key):
        """The array of that key, which now counts as just used; None if there is none."""
        with self.lock:
            if key in self.entries:
                self.entries.move_to_end(key)
            return self.entries.get(key)

    def put(self, key, array):
        """Keeps a copy of an array. What was not used for longest goes; what is larger than all is not kept."""
        if array.nbytes > self.max_bytes:
            return
        with self.lock:
            if key not in self.entries:
                self.entries[key] = array.copy()  # a row of a batch would keep the whole batch
                self.bytes += array.nbytes
            while self.bytes > self.max_bytes:
                self.bytes -= self.entries.popitem(last=False)[1].nbytes
