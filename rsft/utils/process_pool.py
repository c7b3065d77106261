"""A process pool with a bounded queue, whose workers end with their parent."""

import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
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
    # a fork server started earlier, with the environment of then
    pool = ProcessPoolExecutor(jobs, None, _start_worker, (dict(os.environ),))
    pending = set()
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
            "a worker process was killed",
            "",
            "if memory was short, use fewer processes",
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _start_worker(environment: Mapping[str, str]) -> None:
    os.environ.update(environment)
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
