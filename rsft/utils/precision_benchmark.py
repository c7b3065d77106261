"""Which number type makes a training step fastest on this machine, by measuring."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

PAYS = 1.2
"""How many times as fast as float32 a step must be to be worth fewer digits."""

Work = Callable[[], object]


def choose_precision(device: torch.device) -> tuple[str, dict[str, float]]:
    """What "auto" stands for on `device`, and how many times as fast as in float32 a training step is in each.

    bfloat16 is taken before float16, which needs its losses scaled.

    Returns:
        "32", "bf16" or "fp16", and the measured ratios by precision.
    """
    import torch

    speeds = {"bf16": step_speed(device, torch.bfloat16)}
    if device.type == "cuda":  # float16 on a processor is emulated, as bfloat16 is on old GPUs
        speeds["fp16"] = step_speed(device, torch.float16)
    return fastest(speeds), {name: round(speed, 2) for name, speed in speeds.items()}


def fastest(speeds: dict[str, float]) -> str:
    """The first precision that pays and that no later one beats by as much again; "32" where none does."""
    best, best_speed = "32", 1.0
    for name, speed in speeds.items():
        if speed > PAYS * best_speed:
            best, best_speed = name, speed
    return best


def step_speed(device: torch.device, half: torch.dtype) -> float:
    """Time of a training step in float32 over that under autocast to `half`: the MLP of a vision transformer, frozen, a
    gradient passing through it.
    """
    import torch

    rows, width = _size(device)
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(rows, width, generator=generator).to(device).requires_grad_()
    mlp = torch.nn.Sequential(torch.nn.Linear(width, 4 * width), torch.nn.GELU(), torch.nn.Linear(4 * width, width))
    mlp.to(device).requires_grad_(False)

    def step(short: bool) -> None:
        with torch.autocast(device.type, half, enabled=short):
            loss = mlp(tokens).float().square().mean()
        loss.backward()

    return speed_up(lambda: step(False), lambda: step(True))


def product_speed(device: torch.device, half: torch.dtype) -> float:
    """The same of one matrix product."""
    import torch

    rows, width = _size(device)
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(rows, width, generator=generator).to(device)
    matrix = torch.randn(width, 4 * width, generator=generator).to(device)
    short_tokens, short_matrix = tokens.to(half), matrix.to(half)
    return speed_up(lambda: tokens @ matrix, lambda: short_tokens @ short_matrix)


def speed_up(plain: Work, short: Work, repeats: int = 9, limit: float = 2.0) -> float:
    """Median time of `plain` over that of `short`, taken in turns; fewer repeats once `limit` seconds are spent."""
    _time(plain), _time(short)  # the first call of each pays for its set-up
    times: list[tuple[float, float]] = []
    while len(times) < repeats and sum(map(sum, times)) < limit:
        times.append((_time(plain), _time(short)))
    first, second = (statistics.median(column) for column in zip(*times, strict=True))
    return float(first / second)


def _size(device: torch.device) -> tuple[int, int]:
    """Rows and width: those of a ViT-S, or on a GPU enough of a ViT-L that starting the work does not count."""
    return (8192, 1024) if device.type == "cuda" else (1024, 384)


def _time(work: Work) -> float:
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start
