"""Measure how fast a device computes, and how much faster one function is."""

from __future__ import annotations

import hashlib
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from filelock import FileLock
from platformdirs import user_cache_path

from rsft.utils.atomic_files import write_text
from rsft.utils.operating_system import multiplies_bfloat16, processor_name

if TYPE_CHECKING:
    import torch

_FIRST_CAPABILITY = {"bf16": (8, 0), "fp16": (7, 0)}
"""First compute capability of GPUs whose tensor cores multiply in a precision."""

_MOST_CALLS = 9
_LIMIT_S = 2.0  # after which no further call is started

Work = Callable[[], object]
"""A function whose duration is measured."""


def measure_speedup(
    baseline: Work,
    candidate: Work,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Return the shortest duration of `baseline` divided by that of `candidate`.

    Calls alternate, and the shortest ones were the least disturbed by other processes.

    Args:
        baseline: the reference function, usually the slower one.
        candidate: the function to compare with it.
        clock: returns seconds; `time.thread_time` for work of this thread alone.
    """
    baseline(), candidate()  # first calls are slower
    durations: list[tuple[float, float]] = []
    while len(durations) < _MOST_CALLS and sum(map(sum, durations)) < _LIMIT_S:
        durations.append(
            (_measure_seconds(baseline, clock), _measure_seconds(candidate, clock))
        )
    shortest = min(pair[0] for pair in durations)
    return float(shortest / min(pair[1] for pair in durations))


def has_instructions(precision: str, device: torch.device) -> bool:
    """Return whether a device has instructions for matrix products in half precision.

    Without them, a product is computed in float32 with conversions, and can take 200
    times as long.
    """
    import torch

    if device.type == "cuda":
        capability = torch.cuda.get_device_capability(device)
        return capability >= _FIRST_CAPABILITY[precision]
    return precision == "bf16" and multiplies_bfloat16()


def measure_once(
    subject: str, choices: Sequence[str], measure: Callable[[], str]
) -> str:
    """Return the choice of a measurement, which the cache of the user keeps.

    It is kept by processor and version of torch. Processes that need it at the same
    time measure once. Without a folder for the cache, each process measures.

    Args:
        subject: name of the files in the cache.
        choices: names that are valid; a damaged file has another content.
        measure: returns one of them.
    """
    import torch

    machine = f"{processor_name()}, torch {torch.__version__}"
    digest = hashlib.sha256(machine.encode()).hexdigest()[:16]
    # the user has no home, the folder is read-only, or its file system has no locks
    with suppress(OSError, RuntimeError, NotImplementedError):
        folder = user_cache_path("rsft").expanduser()
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f"{subject}.lock", timeout=10):
            file = folder / f"{subject}-{digest}.txt"
            with suppress(OSError, ValueError):
                if (choice := file.read_text("utf-8")) in choices:
                    return choice
            choice = measure()
            write_text(file, choice)
            return choice
    return measure()


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


def _measure_seconds(
    work: Work, clock: Callable[[], float] = time.perf_counter
) -> float:
    import torch

    synchronize: Work = (
        torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    )
    synchronize()
    start = clock()
    work()
    synchronize()
    return clock() - start
