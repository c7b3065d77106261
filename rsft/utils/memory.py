"""Memory that this process retains or returns to the system, with glibc's malloc."""

import ctypes
import sys
from typing import Any

_TRIM_THRESHOLD = -1
_MMAP_THRESHOLD = -3
_ARENA_MAX = -8  # options of <malloc.h>
_RETAINED = 2**29  # free bytes at the top of the heap
_LARGEST_BLOCKS = (2**25, 2**27)
"""Bytes of a block from the heap; an older glibc only accepts the first value."""


def retain_freed_memory() -> bool:
    """Let this process retain up to 512 MiB of freed memory.

    PyTorch allocates activations with malloc. glibc returns blocks of tens of MB to the
    system at once, and each layer then faults its pages in again: about 5 % of the time
    of a ViT-B/16 on two cores. All threads share one heap after the call, because glibc
    always returns the memory of per-thread heaps, and a job computes in a thread. The
    setting changes the whole process, so only commands call this function, not library
    functions.

    Returns:
        Whether the C library supports it.
    """
    set_option = _find_function("mallopt")
    if not set_option:
        return False
    set_option(_ARENA_MAX, 1)
    for size in _LARGEST_BLOCKS:
        set_option(_MMAP_THRESHOLD, size)
    return bool(set_option(_TRIM_THRESHOLD, _RETAINED))


def return_freed_memory() -> None:
    """Return freed memory of this process to the system, where the C library can."""
    trim = _find_function("malloc_trim")
    if trim:
        trim(0)


def _find_function(name: str) -> Any:
    """Return a function of glibc; None elsewhere: musl has none of these."""
    if sys.platform != "linux":
        return None
    return getattr(ctypes.CDLL(None), name, None)
