"""Memory that is used again from step to step.

PyTorch has no caching allocator on the CPU: every activation goes through malloc, which hands large blocks back to the
system when they are freed, so that the next step faults in each of their pages anew; and what does stay in the heap is
so cut up that it takes a quarter more than is in use. Here a block goes to a list when the last tensor on it has gone,
and from there to the next tensor that fits.
"""

from __future__ import annotations

import ctypes
import math
import mmap
import os
import weakref
from threading import Lock

import torch
from torch import Tensor

_SMALL, _SLACK = 2**18, 2**26  # bytes: below the first malloc does well, the second may idle beyond what was in use
_PRIVATE = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}


class Recycler:
    """Blocks of memory, of which those that no tensor uses wait for the next one.

    It never holds more than 9/8 of what was in use at once, and 64 MB.
    """

    def __init__(self) -> None:
        self.idle: list[mmap.mmap] = []  # the longest idle first
        self.held = self.peak = 0  # bytes: in use or idle; ever in use at once
        self._lock = Lock()

    def empty(self, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """A tensor with arbitrary content, of the number type of another and on its device."""
        size = math.prod(shape) * like.element_size()
        if like.device.type != "cpu" or size < _SMALL:
            return like.new_empty(shape)
        block = self._take(size)
        lease = (ctypes.c_char * size).from_buffer(block)  # the tensor's storage holds it, and so it ends with that
        weakref.finalize(lease, self.idle.append, block).atexit = False
        return torch.frombuffer(lease, dtype=like.dtype).view(shape)

    def release(self) -> None:
        """Give what is idle back to the system."""
        with self._lock:
            self.peak = -_SLACK
            self._drop()

    def _take(self, size: int) -> mmap.mmap:
        """The smallest and most recent of the idle blocks that fit without waste, or else a new one."""
        with self._lock:
            fitting = [block for block in reversed(self.idle) if size <= len(block) <= size * 9 // 8]
            if fitting:
                block = min(fitting, key=len)
                self.idle.remove(block)
            else:
                block = mmap.mmap(-1, size, **_PRIVATE)
                if os.environ.get("THP"): block.madvise(mmap.MADV_HUGEPAGE)
                self.held += size
            self.peak = max(self.peak, self.held - sum(map(len, self.idle)))
            self._drop()
            return block

    def _drop(self) -> None:
        while self.idle and self.held > self.peak * 9 // 8 + _SLACK:
            self.held -= len(self.idle.pop(0))


_memory = Recycler()
empty, release = _memory.empty, _memory.release
