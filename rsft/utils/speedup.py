"""Measure how fast a device computes, and how much faster one function is."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

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
    first = statistics.median(pair[0] for pair in durations)
    return float(first / statistics.median(pair[1] for pair in durations))


def product_speedup(device: torch.device, dtype: torch.dtype) -> float:
    """Return the speedup of a matrix product over float32.

    The matrices are small: emulated, one product of a ViT-L can take half a minute.
    """
    import torch

    tokens, matrix = _make_factors(device, 32, 384)
    cast_tokens = tokens.to(dtype)
    cast_matrix = matrix.to(dtype)
    return measure_speedup(
        lambda: torch.mm(tokens, matrix), lambda: torch.mm(cast_tokens, cast_matrix)
    )


def operations_per_second(device: torch.device, dtype: torch.dtype) -> float:
    """Return the floating-point operations per second of a matrix product."""
    import torch

    rows, width = (8192, 1024) if device.type == "cuda" else (1024, 384)
    tokens, matrix = _make_factors(device, rows, width)
    tokens = tokens.to(dtype)
    matrix = matrix.to(dtype)
    # the first call is slower
    seconds = [_measure_seconds(lambda: torch.mm(tokens, matrix)) for _ in range(6)]
    return 2 * tokens.numel() * matrix.shape[1] / statistics.median(seconds[1:])


def _make_factors(
    device: torch.device, rows: int, width: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return tokens (rows, width) and a matrix (width, 4 width)."""
    import torch

    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn((rows, width), generator=generator)
    matrix = torch.randn((width, 4 * width), generator=generator)
    return tokens.to(device), matrix.to(device)


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
