"""Pool of CPU memory for tensors that are stored until the backward pass.

PyTorch has no caching allocator on the CPU. Activations go through malloc, which
returns large blocks to the system as soon as they are freed. The next step then faults
in every page again, which takes 6 % of its time. If malloc keeps the blocks in its heap
instead, fragmentation takes a quarter more memory than is in use. The pool puts a
buffer on a list when its last tensor is deleted, and gives it to the next tensor that
fits.
"""

import ctypes
import math
import mmap
import weakref
from threading import Lock

import torch
from torch import Tensor

# by default, processes that are forked later would share the memory
_PRIVATE = (
    {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS}
    if hasattr(mmap, "MAP_PRIVATE")
    else {}
)


class CpuBufferPool:
    """Pool of CPU buffers.

    A buffer that no tensor references is reused for the next request it fits.

    The memory of the pool is at most 9/8 of the peak memory in use, plus `slack`.

    Args:
        smallest: smallest request in bytes that the pool serves; torch allocates
            smaller tensors.
        slack: idle bytes beyond 9/8 of the peak memory in use.
    """

    def __init__(self, smallest: int = 2**18, slack: int = 2**22) -> None:
        self.smallest = smallest
        self.slack = slack
        self.allocated_bytes = 0  # in use or idle
        self._peak_used_bytes = 0
        self._idle: list[mmap.mmap] = []  # oldest first
        self._lock = Lock()

    def empty(self, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Return an uninitialized tensor.

        Args:
            shape: the shape of the tensor.
            like: a tensor with the dtype and device to use.

        Returns:
            A tensor in a buffer of the pool; one that torch allocates if it is small or
            not on the CPU.
        """
        size = math.prod(shape) * like.element_size()
        if like.device.type != "cpu" or size < max(1, self.smallest):
            return like.new_empty(shape)
        buffer = self._acquire(size)
        # the tensor and its views keep the lease alive
        lease = (ctypes.c_char * size).from_buffer(buffer)
        weakref.finalize(lease, self._idle.append, buffer).atexit = False
        # no view, so that it may be changed in place
        return torch.frombuffer(lease, dtype=like.dtype).resize_(shape)

    def release(self) -> None:
        """Return all idle buffers to the system."""
        with self._lock:
            self._shrink(0)
            self._peak_used_bytes = self.allocated_bytes

    def _acquire(self, size: int) -> mmap.mmap:
        """Return the smallest idle buffer that fits closely, or else a new one.

        Of equal buffers, it is the most recently used one.
        """
        with self._lock:
            fitting = [
                buffer
                for buffer in reversed(self._idle)
                if size <= len(buffer) <= size * 9 // 8
            ]
            if fitting:
                buffer = min(fitting, key=len)
                self._idle.remove(buffer)
            else:
                buffer = mmap.mmap(-1, size, **_PRIVATE)
                self.allocated_bytes += size
            self._peak_used_bytes = max(
                self._peak_used_bytes, self.allocated_bytes - sum(map(len, self._idle))
            )
            self._shrink(self._peak_used_bytes * 9 // 8 + self.slack)
            return buffer

    def _shrink(self, limit: int) -> None:
        while self._idle and self.allocated_bytes > limit:
            self.allocated_bytes -= len(self._idle.pop(0))


default_pool = CpuBufferPool()
"""The pool that `low_rank_linear` uses."""
