"""Precision of a run."""

from __future__ import annotations

from typing import Any

import torch

from rsft.errors import RequestError
from rsft.recipe.schema import Recipe
from rsft.utils.precision_benchmark import select_precision

HALF_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
"""Precision -> dtype of matrix products, for half precision."""


def resolve_precision(recipe: Recipe, device: torch.device) -> tuple[Recipe, dict[str, Any]]:
    """Replace the precision "auto" of a recipe by the fastest one.

    Args:
        recipe: the recipe of the run.
        device: the device on which the run trains.

    Returns:
        The recipe with its precision, and entries of run.json: "precision", and for "auto" the measured
        "precision_speeds".

    Raises:
        RequestError: float16 without a GPU or with a second-order outer step, or bfloat16 with both a second-order
            outer step and sharded weights.
    """
    precision, is_second_order = recipe.train.precision, recipe.meta is not None and recipe.meta.order == 2
    if precision == "fp16" and device.type != "cuda":
        raise RequestError("fp16 needs a GPU", "train.precision", "use train.precision=auto, or bf16 or fp32")
    if precision == "fp16" and is_second_order:
        message = "float16 needs a scaled loss, and the unrolled step of a second-order gradient has none"
        raise RequestError(message, "train.precision", "use bf16 or fp32")
    if precision == "bf16" and is_second_order and recipe.train.strategy == "fsdp":
        message = "a second-order step needs float32, and sharded weights stay in half precision"
        raise RequestError(message, "train.precision", "use train.precision=fp32, or train.strategy=ddp")
    if precision != "auto":
        return recipe, {"precision": precision}
    fastest, speeds = select_precision(device)
    train = recipe.train.model_copy(update={"precision": fastest})
    return recipe.model_copy(update={"train": train}), {"precision": fastest, "precision_speeds": speeds}
