"""Precision of a run: its choice, and its name in Lightning Fabric."""

from __future__ import annotations

from typing import Any, Literal

import torch

from rsft.errors import RequestError
from rsft.recipe.schema import Recipe
from rsft.utils.precision_benchmark import select_precision

HALF_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
"""Precision -> dtype of matrix products, for half precision."""

_FabricPrecision = Literal["32-true", "bf16-mixed", "16-mixed"]
FABRIC_PRECISIONS: dict[str, _FabricPrecision] = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}
"""Precision -> its name in Fabric, whose single loss scaler is not used: each loop has its own."""


def resolve_precision(recipe: Recipe, device: torch.device) -> tuple[Recipe, dict[str, Any]]:
    """Replace the precision "auto" of a recipe by the fastest one.

    Args:
        recipe: the recipe of the run.
        device: the device on which the run trains.

    Returns:
        The recipe with its precision, and entries of run.json: "precision", and for "auto" the measured
        "precision_speeds".

    Raises:
        RequestError: float16 without a GPU, or with a second-order outer step.
    """
    precision = recipe.train.precision
    if precision == "fp16" and device.type != "cuda":
        raise RequestError("fp16 needs a GPU", "train.precision", "use train.precision=auto, or bf16 or fp32")
    if precision == "fp16" and recipe.meta is not None and recipe.meta.order == 2:
        message = "float16 is too coarse for the finite difference of a second-order step"
        raise RequestError(message, "train.precision", "use bf16 or fp32")
    if precision != "auto":
        return recipe, {"precision": precision}
    fastest, speeds = select_precision(device)
    train = recipe.train.model_copy(update={"precision": fastest})
    return recipe.model_copy(update={"train": train}), {"precision": fastest, "precision_speeds": speeds}
