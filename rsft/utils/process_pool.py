"""Work shared out to processes: a bounded queue, results as they come, no worker that outlives its parent."""

from __future__ import annotations

import os
import signal
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

_QUEUED = 3  # tasks a process that wait or run


def imap_unordered(work: Callable[[Task], Result], tasks: Iterable[Task], jobs: int) -> Iterator[Result]:
    """`work` done on each of `tasks` by `jobs` processes; results in any order. One job runs in this process.

    No more tasks are drawn than can be worked on soon, so `tasks` may be endless.

    Raises:
        RsftError: a process was killed. What `work` raises is raised here.
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
        raise RsftError("a worker process was killed", "", "if memory was short, use fewer --jobs") from error
    finally:
        pool.shutdown(cancel_futures=True)


def _start_worker() -> None:
    cv2.setNumThreads(0)  # its threads do not survive a fork, and the processes are the parallelism
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent answers Ctrl-C
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent() -> None:
    """A parent that was killed cannot stop its workers, and they would wait for it for ever."""
    parent = parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)
