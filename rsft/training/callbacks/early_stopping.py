"""Early stopping."""

from __future__ import annotations

import math
from typing import Any

from lightning import Callback, Trainer


class Patience(Callback):
    """Ends training after `validations` of them without a better macro accuracy.

    Beside Lightning's own it goes on after a resume exactly where it was, wherever in the epoch that is.

    Args:
        least: what counts as better, in points of accuracy as 0-1.
    """

    def __init__(self, validations: int, least: float) -> None:
        self.validations, self.least = validations, least
        self.best, self.waited = -math.inf, 0

    def on_train_start(self, trainer: Trainer, task: Any) -> None:
        """A resumed run may be at its end already."""
        trainer.should_stop = self.waited >= self.validations

    def on_validation_end(self, trainer: Trainer, task: Any) -> None:
        """Compare."""
        macro = float(task.val_macro)
        better = macro - self.least > self.best
        self.best, self.waited = (macro, 0) if better else (self.best, self.waited + 1)
        trainer.should_stop = self.waited >= self.validations

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"best": self.best, "waited": self.waited}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """From a checkpoint."""
        self.best, self.waited = state["best"], state["waited"]
