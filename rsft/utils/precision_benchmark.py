"""Measure which precision makes a training step fastest on this machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

MIN_SPEEDUP = 1.2
"""Smallest speedup over float32 for which a lower precision is used."""

Work = Callable[[], object]
"""A function whose duration is measured."""


PROBE_ROWS = 32
"""Rows of the first measurement. An emulated precision can make a measurement with all
rows take a minute."""

EMULATED_SPEEDUP = 0.1
"""Speedup below which the first measurement is the result."""


def measure_speedups(
    device: torch.device, precisions: Iterable[str]
) -> dict[str, float]:
    """Return the speedup of a training step over float32 by precision."""
    import torch

    dtypes = {"bf16": torch.bfloat16, "fp16": torch.float16}
    return {
        name: float(f"{training_step_speedup(device, dtypes[name]):.3g}")
        for name in precisions
    }


def fastest_precision(speedups: Mapping[str, float]) -> str:
    """Return the precision that "auto" selects.

    A later precision must be clearly faster than an earlier one: bfloat16 is preferred
    to float16, which needs a scaled loss.
    """
    best = "fp32"
    best_speedup = 1.0
    for name, speedup in speedups.items():
        if speedup > MIN_SPEEDUP * best_speedup:
            best = name
            best_speedup = speedup
    return best


def training_step_speedup(device: torch.device, dtype: torch.dtype) -> float:
    """Return the speedup of a training step under autocast over float32.

    The step is a gradient through the frozen MLP of a vision transformer.
    """
    import torch

    def make_steps(tokens: torch.Tensor, matrix: torch.Tensor) -> tuple[Work, Work]:
        width = len(matrix)
        layers = (
            torch.nn.Linear(width, 4 * width),
            torch.nn.GELU(),
            torch.nn.Linear(4 * width, width),
        )
        mlp = torch.nn.Sequential(*layers).to(device).requires_grad_(False)
        tokens = tokens.requires_grad_()

        def step(uses_autocast: bool) -> None:
            with torch.autocast(device.type, dtype, enabled=uses_autocast):
                loss = mlp(tokens).float().square().mean()
            loss.backward()

        return lambda: step(False), lambda: step(True)

    return _measure_growing(device, make_steps)


def matmul_speedup(device: torch.device, dtype: torch.dtype) -> float:
    """Return the speedup of a matrix product over float32."""

    def make_products(tokens: torch.Tensor, matrix: torch.Tensor) -> tuple[Work, Work]:
        cast_tokens = tokens.to(dtype)
        cast_matrix = matrix.to(dtype)
        return lambda: tokens @ matrix, lambda: cast_tokens @ cast_matrix

    return _measure_growing(device, make_products)


def _measure_growing(
    device: torch.device, make_pair: Callable[..., tuple[Work, Work]]
) -> float:
    """Return the speedup of the second function of a pair over the first.

    Args:
        make_pair: takes tokens (N, D) and a matrix (D, 4 D), and returns the two
            functions.
    """
    tokens, matrix = _matrices(device)
    speedup = measure_speedup(
        *make_pair(tokens[:PROBE_ROWS].clone(), matrix), repeats=3
    )
    if speedup < EMULATED_SPEEDUP:
        return speedup
    return measure_speedup(*make_pair(tokens, matrix))


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


def _matrices(device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Return tokens (N, D) and a matrix (D, 4 D) of a ViT-S, or larger on a GPU."""
    import torch

    rows, width = (8192, 1024) if device.type == "cuda" else (1024, 384)
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn((rows, width), generator=generator).to(device)
    return tokens, torch.randn((width, 4 * width), generator=generator).to(device)


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


def operations_per_second(
    device: torch.device, precision: str, repeats: int = 5
) -> float:
    """Return the floating-point operations per second of a matrix product.

    Args:
        device: where to multiply.
        precision: fp32, bf16 or fp16.
        repeats: number of measured products, of which the median counts.
    """
    import torch

    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(
        precision, torch.float32
    )
    tokens, matrix = (values.to(dtype) for values in _matrices(device))
    _measure_seconds(lambda: tokens @ matrix)  # the first call is slower
    seconds = statistics.median(
        _measure_seconds(lambda: tokens @ matrix) for _ in range(repeats)
    )
    return 2 * tokens.numel() * matrix.shape[1] / seconds
