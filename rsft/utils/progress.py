"""Report the progress of a task."""

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rsft.types import Progress

T = TypeVar("T")

PERIOD_S = 1.0
"""Smallest number of seconds between two reports of many small steps."""


def announce(progress: Progress | None, task: str) -> None:
    """Report that a task of unknown length begins."""
    if progress:
        progress(0, 0, task)


def track(
    items: Iterable[T], total: int, progress: Progress | None, task: str
) -> Iterator[T]:
    """Yield items, and report after each one how many of `total` are done.

    Args:
        items: what is worked on in a loop.
        total: number of items.
        progress: called after each item; None reports nothing.
        task: what the loop does, such as "reading chips".

    Yields:
        The items.
    """
    for done, item in enumerate(items, 1):
        yield item
        if progress:
            progress(done, total, task)


def limit_rate(progress: Progress) -> Progress:
    """Return a callable that reports at most once a second, and at the end."""
    next_report = 0.0

    def report(done: int, total: int, task: str) -> None:
        nonlocal next_report
        now = time.monotonic()
        if now >= next_report or done == total:
            next_report = now + PERIOD_S
            progress(done, total, task)

    return report
