"""Time of training by phase: inner steps, outer steps, and the remainder, in which the device waits for data."""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


class StepTimer:
    """Measures seconds by phase; on a GPU with events of the GPU, so that no measurement waits for it.

    Args:
        cuda: use events of the GPU.

    Example:
        >>> timer = StepTimer()
        >>> with timer(inner=1):
        ...     pass
        >>> timer.seconds("inner") < 1
        True
    """

    def __init__(self, cuda: bool = False) -> None:
        self.cuda = cuda
        self._pending: deque[tuple[Any, Any, dict[str, float]]] = deque()
        self._seconds: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def __call__(self, **weights: float) -> Iterator[None]:
        """Measure the block.

        Args:
            **weights: how the time is shared among phases: `inner=1`, or by rows as in `inner=32, outer=8`.

        Yields:
            Nothing.
        """
        start = self._now()
        yield
        self._pending.append((start, self._now(), weights))

    def reset(self) -> None:
        """Start from 0."""
        self._pending.clear()
        self._seconds.clear()

    def seconds(self, phase: str) -> float:
        """Return the seconds of a phase since the last reset, without blocks that a GPU has not finished.

        Args:
            phase: name of the phase.
        """
        while self._pending and (not self.cuda or self._pending[0][1].query()):
            start, end, weights = self._pending.popleft()
            elapsed = start.elapsed_time(end) / 1000 if self.cuda else end - start
            for name, weight in weights.items():
                self._seconds[name] += elapsed * weight / sum(weights.values())
        return self._seconds[phase]

    def _now(self) -> Any:
        if not self.cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event
