"""Measure the time of inner and outer steps. In the remaining time the device mostly waits for data."""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


class StepTimer:
    """Timer of the phases of training. On a GPU it uses CUDA events, so that no measurement waits for the GPU.

    Args:
        cuda: whether to use CUDA events.

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
            **weights: share of each phase in the time: `inner=1`, or by number of rows as in `inner=32, outer=8`.

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
        """Return the seconds of a phase since the last reset; blocks that the GPU has not finished do not count.

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
