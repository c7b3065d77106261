"""Stop training early."""

from __future__ import annotations

import math
from typing import Any

from lightning import Callback, Trainer


class EarlyStopping(Callback):
    """Callback that stops training after `patience` validations without a better macro accuracy.

    Unlike Lightning's `EarlyStopping`, it continues exactly after a resume, also within an epoch.

    Args:
        patience: number of validations.
        min_delta: smallest improvement that counts, as accuracy 0-1.
    """

    state_key = "Patience"  # the key in checkpoints of version 0.1

    def __init__(self, patience: int, min_delta: float) -> None:
        self.patience, self.min_delta = patience, min_delta
        self.best_score, self.wait_count = -math.inf, 0

    def on_train_start(self, trainer: Trainer, module: Any) -> None:
        """Stop at once if the resumed run had already met the criterion.

        Args:
            trainer: the trainer of the run.
            module: the `FineTuningModule` of the run.
        """
        trainer.should_stop = self.wait_count >= self.patience

    def on_validation_end(self, trainer: Trainer, module: Any) -> None:
        """Compare the accuracy with the best one so far.

        Args:
            trainer: the trainer of the run.
            module: the `FineTuningModule` of the run.
        """
        score = float(module.val_macro)
        is_better = score - self.min_delta > self.best_score
        self.best_score, self.wait_count = (score, 0) if is_better else (self.best_score, self.wait_count + 1)
        trainer.should_stop = self.wait_count >= self.patience

    def state_dict(self) -> dict[str, Any]:
        """Return the state for a checkpoint.

        Returns:
            "best" and "waited", the keys of version 0.1.
        """
        return {"best": self.best_score, "waited": self.wait_count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state of a checkpoint.

        Args:
            state: the state, from `state_dict`.
        """
        self.best_score, self.wait_count = state["best"], state["waited"]
