"""Measure which precision (fp32, bf16 or fp16) makes a training step fastest on this machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

MIN_SPEEDUP = 1.2
"""Smallest speedup over float32 for which a lower precision is used."""

Work = Callable[[], object]
"""A function whose duration is measured."""


def select_precision(device: torch.device) -> tuple[str, dict[str, float]]:
    """Return the precision that "auto" selects, and the measured speedups.

    bfloat16 is preferred to float16, which needs a scaled loss.

    Args:
        device: where the model is trained.

    Returns:
        "fp32", "bf16" or "fp16"; and the speedup of a training step over float32 by precision.
    """
    import torch

    speedups = {"bf16": training_step_speedup(device, torch.bfloat16)}
    if device.type == "cuda":  # CPUs emulate float16, and old GPUs emulate bfloat16
        speedups["fp16"] = training_step_speedup(device, torch.float16)
    return fastest_precision(speedups), {name: round(value, 2) for name, value in speedups.items()}


def fastest_precision(speedups: dict[str, float]) -> str:
    """Return the first precision that is faster than its predecessor by `MIN_SPEEDUP`; "fp32" if none is.

    Args:
        speedups: speedup over float32 by precision, the preferred one first.
    """
    best, best_speedup = "fp32", 1.0
    for name, speedup in speedups.items():
        if speedup > MIN_SPEEDUP * best_speedup:
            best, best_speedup = name, speedup
    return best


def training_step_speedup(device: torch.device, dtype: torch.dtype) -> float:
    """Return the speedup of a training step under autocast over float32.

    The step is a gradient through the frozen MLP of a vision transformer.

    Args:
        device: where to measure.
        dtype: data type of autocast.
    """
    import torch

    rows, width = _matrix_size(device)
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(rows, width, generator=generator).to(device).requires_grad_()
    mlp = torch.nn.Sequential(torch.nn.Linear(width, 4 * width), torch.nn.GELU(), torch.nn.Linear(4 * width, width))
    mlp.to(device).requires_grad_(False)

    def step(uses_autocast: bool) -> None:
        with torch.autocast(device.type, dtype, enabled=uses_autocast):
            loss = mlp(tokens).float().square().mean()
        loss.backward()

    return measure_speedup(lambda: step(False), lambda: step(True))


def matmul_speedup(device: torch.device, dtype: torch.dtype) -> float:
    """Return the speedup of a matrix product over float32.

    Args:
        device: where to measure.
        dtype: data type of both matrices.
    """
    import torch

    rows, width = _matrix_size(device)
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(rows, width, generator=generator).to(device)
    matrix = torch.randn(width, 4 * width, generator=generator).to(device)
    cast_tokens, cast_matrix = tokens.to(dtype), matrix.to(dtype)
    return measure_speedup(lambda: tokens @ matrix, lambda: cast_tokens @ cast_matrix)


def measure_speedup(baseline: Work, candidate: Work, repeats: int = 9, limit: float = 2.0) -> float:
    """Return the median duration of `baseline` divided by that of `candidate`; the two are called alternately.

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
    first, second = (statistics.median(column) for column in zip(*durations, strict=True))
    return float(first / second)


def _matrix_size(device: torch.device) -> tuple[int, int]:
    """Return rows and width: those of a ViT-S, or larger on a GPU, where launching kernels takes long."""
    return (8192, 1024) if device.type == "cuda" else (1024, 384)


def _measure_seconds(work: Work) -> float:
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start
