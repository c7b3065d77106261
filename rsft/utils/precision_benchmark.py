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

    Returns:
        "fp32", "bf16" or "fp16"; and the speedup of a training step over float32 by precision.
    """
    import torch

    dtypes = {"bf16": torch.bfloat16} | ({"fp16": torch.float16} if device.type == "cuda" else {})  # CPUs emulate fp16
    speedups = {name: training_step_speedup(device, dtype) for name, dtype in dtypes.items()}
    best, best_speedup = "fp32", 1.0
    for name, speedup in speedups.items():
        if speedup > MIN_SPEEDUP * best_speedup:
            best, best_speedup = name, speedup
    return best, {name: round(value, 2) for name, value in speedups.items()}


def training_step_speedup(device: torch.device, dtype: torch.dtype) -> float:
    """Return the speedup of a training step under autocast over float32.

    The step is a gradient through the frozen MLP of a vision transformer.
    """
    import torch

    tokens, _ = _matrices(device)
    tokens.requires_grad_()
    width = tokens.shape[1]
    mlp = torch.nn.Sequential(torch.nn.Linear(width, 4 * width), torch.nn.GELU(), torch.nn.Linear(4 * width, width))
    mlp.to(device).requires_grad_(False)

    def step(uses_autocast: bool) -> None:
        with torch.autocast(device.type, dtype, enabled=uses_autocast):
            loss = mlp(tokens).float().square().mean()
        loss.backward()

    return measure_speedup(lambda: step(False), lambda: step(True))


def matmul_speedup(device: torch.device, dtype: torch.dtype) -> float:
    """Return the speedup of a matrix product over float32."""
    tokens, matrix = _matrices(device)
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


def _matrices(device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Return tokens (N, D) and a matrix (D, 4 D) of a ViT-S, or larger on a GPU, where launching kernels takes long."""
    import torch

    rows, width = (8192, 1024) if device.type == "cuda" else (1024, 384)
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn((rows, width), generator=generator).to(device)
    return tokens, torch.randn((width, 4 * width), generator=generator).to(device)


def _measure_seconds(work: Work) -> float:
    import torch

    synchronize: Work = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    synchronize()
    start = time.perf_counter()
    work()
    synchronize()
    return time.perf_counter() - start
