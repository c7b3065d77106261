"""A process pool with a bounded queue, whose workers end with their parent; and memory that a network frees is kept."""

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection, parent_process
from typing import TypeVar

import cv2

from rsft.errors import RsftError

Task = TypeVar("Task")
Result = TypeVar("Result")

_QUEUED = 3  # waiting or running tasks per process


def imap_unordered(
    work: Callable[[Task], Result], tasks: Iterable[Task], jobs: int
) -> Iterator[Result]:
    """Call `work` on each task in parallel, like `multiprocessing.Pool.imap_unordered`.

    Exceptions of `work` are raised in this process. Tasks are taken from the iterable
    only when a process will soon be free, so their number is not limited.

    Args:
        work: the function; it must be picklable.
        tasks: its arguments.
        jobs: number of worker processes; 1 works in this process.

    Yields:
        The results in order of completion.

    Raises:
        RsftError: a process was killed.
    """
    if jobs == 1:
        yield from map(work, tasks)
        return
    pool = ProcessPoolExecutor(jobs, initializer=_start_worker)
    pending: set[Future[Result]] = set()
    try:
        for task in tasks:
            pending.add(pool.submit(work, task))
            if len(pending) >= _QUEUED * jobs:
                done, pending = wait(pending, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
        while pending:
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in done)
    except BrokenProcessPool as error:
        raise RsftError(
            "a worker process was killed", "", "if memory was short, use fewer --jobs"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _start_worker() -> None:
    # OpenCV's threads do not survive a fork, and the processes use all cores already
    cv2.setNumThreads(0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    end_with_parent(lambda: os._exit(1))


def end_with_parent(end: Callable[[], object]) -> None:
    """Call a function in a thread as soon as the parent of this process has ended.

    A killed parent cannot stop its workers, which would wait forever.

    Args:
        end: ends this process.
    """
    parent = parent_process()
    assert parent is not None

    def wait_for_parent() -> None:
        connection.wait([parent.sentinel])
        end()

    threading.Thread(target=wait_for_parent, daemon=True).start()


_TRIM_THRESHOLD = -1
_MMAP_THRESHOLD = -3
_ARENA_MAX = -8  # options of <malloc.h>
_RETAINED = 2**29  # free bytes at the top of the heap
_LARGEST_BLOCKS = (
    2**25,
    2**27,
)  # bytes of a block from the heap; an older glibc only accepts the first value


def retain_freed_memory() -> bool:
    """Let this process retain up to 512 MiB of freed memory; return whether the C library supports it.

    PyTorch allocates activations with malloc. glibc returns blocks of tens of MB to the
    system at once, and each layer then faults its pages in again: about 5 % of the time
    of a ViT-B/16 on two cores. All threads share one heap after the call, because glibc
    always returns the memory of per-thread heaps, and a job computes in a thread. The
    setting changes the whole process, so only commands call this function, not library
    functions.
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


def return_freed_memory() -> None:
    """Return freed memory of this process to the system, where the C library can."""
    if (
        sys.platform == "linux"
        and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None
    ):
        trim(0)
