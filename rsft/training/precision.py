"""The precision of a run: what the recipe names, or what the device computes fast."""

import logging

import torch

from rsft.errors import RequestError
from rsft.recipe.schema import Recipe, TrainSection
from rsft.training.processes import HALF_DTYPES, is_rank_zero
from rsft.utils.speedup import has_instructions, product_speedup

_log = logging.getLogger(__name__)

MAX_SLOWDOWN = 4.0
"""Largest factor by which a precision may be slower than float32 without
`train.allow_slow_precision`."""


def resolve_precision(recipe: Recipe, device: torch.device) -> Recipe:
    """Replace the precision "auto" by the fastest one; reject one that is impossible.

    Returns:
        The recipe with its precision.

    Raises:
        RequestError: float16 without a GPU or with a second-order outer step, bfloat16
            with both a second-order outer step and sharded weights, or a precision that
            is more than `MAX_SLOWDOWN` times slower than float32.
    """
    precision = recipe.train.precision
    if precision == "auto":
        for fast in HALF_DTYPES:  # bfloat16 first: float16 needs a scaled loss
            if has_instructions(fast, device) and not _find_fault(recipe, device, fast):
                return recipe.with_keys("train", precision=fast)
        return recipe.with_keys("train", precision="fp32")
    error = _find_fault(recipe, device, precision)
    if error:
        raise error
    is_slow = precision != "fp32" and not has_instructions(precision, device)
    if is_slow and is_rank_zero():
        _check_speed(recipe.train, device)
    return recipe


def _check_speed(train: TrainSection, device: torch.device) -> None:
    """Warn of a precision without instructions; reject one that is much slower.

    Raises:
        RequestError: it is more than `MAX_SLOWDOWN` times slower than float32, and the
            recipe does not allow it.
    """
    factor = 1 / product_speedup(device, HALF_DTYPES[train.precision])
    message = (
        f"this {device.type} has no instructions for {train.precision}: a product takes"
        f" {factor:.3g} times as long as in float32"
    )
    hint = "train.precision=auto takes the fastest precision"
    if factor > MAX_SLOWDOWN and not train.allow_slow_precision:
        hint += "; train.allow_slow_precision=true trains with this one"
        raise RequestError(message, "train.precision", hint)
    _log.warning("%s; %s", message, hint)


def _find_fault(
    recipe: Recipe, device: torch.device, precision: str
) -> RequestError | None:
    """Return why a run cannot use a precision; None if it can."""
    is_second_order = recipe.meta is not None and recipe.meta.order == 2
    fault = ""
    if precision == "fp16" and device.type != "cuda":
        fault = "fp16 needs a GPU"
    elif precision == "fp16" and is_second_order:
        fault = (
            "fp16 needs a scaled loss, and the unrolled step of a second-order gradient"
            " has none"
        )
    elif precision == "bf16" and is_second_order and recipe.train.strategy == "fsdp":
        fault = (
            "a second-order step needs float32, and sharded weights stay in half"
            " precision"
        )
    if not fault:
        return None
    return RequestError(fault, "train.precision", "use auto, bf16 or fp32")
