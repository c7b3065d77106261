"""Lines that say what a command waits for, where no bar can be redrawn."""

import math
import threading
import time
from collections.abc import Callable
from typing import Self

FIRST_LINE_SECONDS = 0.5
"""Seconds after which a task has its first line."""

SECONDS_PER_LINE = 30.0
"""Seconds between two lines of a task."""

_SECONDS_PER_CHECK = 0.1


class WaitingLines:
    """Prints the running task within a `with` block, if it takes long.

    A thread prints, because one step of a task may take minutes.

    Args:
        print_line: prints a line.
    """

    def __init__(self, print_line: Callable[[str], object]) -> None:
        self.print_line = print_line
        self._task = self._line = ""
        self._due = math.inf
        self._lock = threading.Lock()
        self._is_over = threading.Event()
        self._thread = threading.Thread(
            target=self._run, name="waiting lines", daemon=True
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def report(self, done: int, total: int, task: str) -> None:
        """Set the running task; its arguments are those of `rsft.types.Progress`."""
        with self._lock:
            if task != self._task:
                self._due = time.monotonic() + FIRST_LINE_SECONDS
            self._task = task
            if total:
                self._line = f"{task}: {done:,} of {total:,}"
            else:
                self._line = task

    def next_line(self) -> str:
        """Return the line that is due now; "" for none."""
        with self._lock:
            now = time.monotonic()
            if now < self._due:
                return ""
            self._due = now + SECONDS_PER_LINE
            return self._line

    def _run(self) -> None:
        while not self._is_over.wait(_SECONDS_PER_CHECK):
            line = self.next_line()
            if line:
                self.print_line(line)
