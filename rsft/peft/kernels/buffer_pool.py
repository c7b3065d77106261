"""Memory that is used again from step to step, for what is kept until the backward pass.

PyTorch has no caching allocator on the CPU: activations go through malloc, which hands large blocks back to the system
when they are freed, so that the next step faults in each of their pages anew, 6 % of its time; and what does stay in
the heap is so cut up that it takes a quarter more than is in use. Here a block goes to a list when the last tensor on
it has gone, and from there to the next tensor that fits.
"""

from __future__ import annotations

import ctypes
import math
import mmap
import weakref
from threading import Lock

import torch
from torch import Tensor

# without it the memory would be shared with processes forked later
_PRIVATE = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}


class Recycler:
    """Blocks of memory, of which those that no tensor uses wait for the next one that fits.

    It never holds more than 9/8 of what was in use at once, plus `slack`.

    Args:
        smallest: size from which on it serves, in bytes; below, malloc does well.
        slack: bytes that may lie idle in any case.
    """

    def __init__(self, smallest: int = 2**18, slack: int = 2**22) -> None:
        self.smallest, self.slack = smallest, slack
        self.held = 0  # bytes, in use or idle
        self._most_used = 0  # bytes, at once
        self._idle: list[mmap.mmap] = []  # the longest idle first
        self._lock = Lock()

    def empty(self, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """A tensor with arbitrary content, of the number type of another and on its device."""
        size = math.prod(shape) * like.element_size()
        if like.device.type != "cpu" or size < max(1, self.smallest):
            return like.new_empty(shape)
        block = self._take(size)
        lease = (ctypes.c_char * size).from_buffer(block)  # held by the storage of the tensor and of all its views
        weakref.finalize(lease, self._idle.append, block).atexit = False
        return torch.frombuffer(lease, dtype=like.dtype).view(shape)

    def release(self) -> None:
        """Give what is idle back to the system."""
        with self._lock:
            self._drop(0)
            self._most_used = self.held

    def _take(self, size: int) -> mmap.mmap:
        """The smallest and most recent of the idle blocks that fit closely, or else a new one."""
        with self._lock:
            fitting = [block for block in reversed(self._idle) if size <= len(block) <= size * 9 // 8]
            if fitting:
                block = min(fitting, key=len)
                self._idle.remove(block)
            else:
                block = mmap.mmap(-1, size, **_PRIVATE)
                self.held += size
            self._most_used = max(self._most_used, self.held - sum(map(len, self._idle)))
            self._drop(self._most_used * 9 // 8 + self.slack)
            return block

    def _drop(self, limit: int) -> None:
        while self._idle and self.held > limit:
            self.held -= len(self._idle.pop(0))


recycler = Recycler()
"""The one that the lean layers use."""
