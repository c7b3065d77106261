"""The number types of a run: which one, how Lightning is told, and the scaling of losses that float16 needs."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch.plugins.precision import MixedPrecision
from torch.amp.grad_scaler import GradScaler

from rsft.errors import RequestError
from rsft.recipe.schema import Recipe
from rsft.utils.precision_benchmark import choose_precision

Scalers = tuple[GradScaler, GradScaler]
"""Of the inner and the outer loss."""

HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}
"""Number types of a matrix product, by precision."""


def settle_precision(recipe: Recipe, device: torch.device) -> tuple[Recipe, dict[str, Any]]:
    """The recipe with a precision in the place of "auto", and what was measured for it, for run.json.

    Raises:
        RequestError: float16 where it is not to be had.
    """
    wish = recipe.train.precision
    if wish == "fp16" and device.type != "cuda":
        raise RequestError("fp16 needs a GPU", "train.precision", "use train.precision=auto, or bf16 or 32")
    if wish == "fp16" and recipe.meta is not None and recipe.meta.order == 2:
        raise RequestError(
            "the finite difference of a second-order step drowns in float16", "train.precision", "use bf16 or 32"
        )
    if wish != "auto":
        return recipe, {"precision": wish}
    chosen, speeds = choose_precision(device)
    train = recipe.train.model_copy(update={"precision": chosen})
    return recipe.model_copy(update={"train": train}), {"precision": chosen, "precision_speeds": speeds}


def trainer_precision(precision: str, device: str) -> dict[str, Any]:
    """The arguments of Lightning's trainer for it."""
    if precision != "fp16":
        return {"precision": "bf16-mixed" if precision == "bf16" else "32-true"}
    plugin = MixedPrecision("16-mixed", device)
    plugin.scaler = None  # it has one for all; each of the two loops scales its own loss
    return {"plugins": [plugin]}


def loss_scalers(precision: str, device: str) -> Scalers:
    """Scalers for both loops, which do nothing but for float16."""
    return GradScaler(device, enabled=precision == "fp16"), GradScaler(device, enabled=precision == "fp16")
