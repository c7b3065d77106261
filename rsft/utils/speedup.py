"""Measure how much faster one function is than another."""

import statistics
import time
from collections.abc import Callable

Work = Callable[[], object]
"""A function whose duration is measured."""


def measure_speedup(
    baseline: Work, candidate: Work, repeats: int = 9, limit: float = 2.0
) -> float:
    """Return the median duration of `baseline` divided by that of `candidate`.

    Args:
        baseline: the reference function, usually the slower one.
        candidate: the function to compare with it.
        repeats: number of calls of each.
        limit: seconds after which no further call is started.
    """
    _measure_seconds(baseline), _measure_seconds(candidate)  # first calls are slower
    durations: list[tuple[float, float]] = []
    while len(durations) < repeats and sum(map(sum, durations)) < limit:
        durations.append((_measure_seconds(baseline), _measure_seconds(candidate)))
    first, second = (
        statistics.median(column) for column in zip(*durations, strict=True)
    )
    return float(first / second)


def _measure_seconds(work: Work) -> float:
    import torch

    synchronize: Work = (
        torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    )
    synchronize()
    start = time.perf_counter()
    work()
    synchronize()
    return time.perf_counter() - start
