"""Where the time of training goes: inner steps, outer steps, and the rest, in which the device waits for data."""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


class Stopwatch:
    """Seconds by phase. On a GPU they are the GPU's own, taken by events, so that nothing waits for the clock."""

    def __init__(self, cuda: bool = False) -> None:
        self.cuda = cuda
        self._laps: deque[tuple[Any, Any, dict[str, float]]] = deque()
        self._seconds: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def __call__(self, **shares: float) -> Iterator[None]:
        """Time the block and share it among phases: `inner=1`, or by rows as `inner=32, outer=8`."""
        start = self._mark()
        yield
        self._laps.append((start, self._mark(), shares))

    def reset(self) -> None:
        """Start from 0."""
        self._laps.clear()
        self._seconds.clear()

    def seconds(self, phase: str) -> float:
        """Of `phase` since the last reset; on a GPU without the laps that it still works on."""
        while self._laps and (not self.cuda or self._laps[0][1].query()):
            start, end, shares = self._laps.popleft()
            lap = start.elapsed_time(end) / 1000 if self.cuda else end - start
            for name, share in shares.items():
                self._seconds[name] += lap * share / sum(shares.values())
        return self._seconds[phase]

    def _mark(self) -> Any:
        if not self.cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event
