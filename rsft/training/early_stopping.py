"""Stop training early."""

from __future__ import annotations

import math
from typing import Any


class EarlyStopping:
    """Stops training after `patience` validations without a better macro accuracy.

    Args:
        patience: number of validations; None never stops.
        min_delta: smallest improvement that counts, as accuracy 0-1.
    """

    def __init__(self, patience: int | None, min_delta: float) -> None:
        self.patience, self.min_delta = patience, min_delta
        self.best_score, self.wait_count = -math.inf, 0

    @property
    def is_due(self) -> bool:
        """Whether training must stop."""
        return self.patience is not None and self.wait_count >= self.patience

    def update(self, score: float) -> None:
        """Compare an accuracy with the best one so far.

        Args:
            score: macro accuracy of a validation, 0-1.
        """
        is_better = score - self.min_delta > self.best_score
        self.best_score, self.wait_count = (score, 0) if is_better else (self.best_score, self.wait_count + 1)

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
