"""Fine-tuning: train the model of a recipe, and write a run folder with a bundle.

The public names are imported when they are first used, so that the check of a recipe
does not import torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rsft.training.lightning_module import FineTuningModule

__all__ = ["FineTuningModule"]


def __getattr__(name: str) -> Any:
    if name == "FineTuningModule":
        from rsft.training.lightning_module import FineTuningModule

        return FineTuningModule
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
