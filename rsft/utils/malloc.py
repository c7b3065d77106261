"""Set the C library's allocator to retain the memory that a network frees."""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # options of <malloc.h>
_RETAINED = 2**29  # free bytes at the top of the heap
_LARGEST_BLOCKS = (2**25, 2**27)  # bytes of a block from the heap; an older glibc only accepts the first value


def retain_freed_memory() -> bool:
    """Let this process retain up to 512 MiB of freed memory; return whether the C library supports it.

    PyTorch allocates activations with malloc. glibc returns blocks of tens of MB to the system at once, and each layer
    then faults its pages in again: about 5 % of the time of a ViT-B/16 on two cores. All threads share one heap after
    the call, because glibc always returns the memory of per-thread heaps, and a job computes in a thread. The setting
    changes the whole process, so only commands call this function, not library functions.
    """
    if sys.platform != "linux":
        return False
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if set_option is None:
        return False
    set_option(_ARENA_MAX, 1)
    for size in _LARGEST_BLOCKS:
        set_option(_MMAP_THRESHOLD, size)
    return bool(set_option(_TRIM_THRESHOLD, _RETAINED))
