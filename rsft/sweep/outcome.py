"""Outcome of a trial: one JSON file in its folder, written at its end. A resume reads this file only."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from rsft.recipe.renames import rename_keys
from rsft.utils.atomic_files import write_text

OUTCOME, RECIPE, ERRORS, LOCK = "trial.json", "recipe.yaml", "errors.txt", "lock"
"""Files in the folder of a trial. RECIPE is an ordinary recipe for `rsft finetune`."""


@dataclass(frozen=True)
class TrialOutcome:
    """Outcome of a trial.

    Attributes:
        keys: recipe keys that the sweep set.
        status: "done" or "failed".
        reason: reason of the failure; "" if it did not fail.
        metrics: last row of metrics.csv, and the accuracy on the evaluated split.
        seconds: duration of the run, summed over all resumed sessions.
        run: run folder; "" if the trial failed before it was made.
        data: SHA-256 of the manifest of the training data.
    """

    keys: dict[str, Any]
    status: Literal["done", "failed"]
    reason: str = ""
    metrics: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    run: str = ""
    data: str = ""

    def save(self, folder: Path) -> None:
        """Write the outcome to the folder of the trial, whole or not at all."""
        write_text(folder / OUTCOME, json.dumps(asdict(self), indent=1))


def read_outcome(folder: Path) -> TrialOutcome | None:
    """Read the outcome of a trial.

    Args:
        folder: folder of the trial.

    Returns:
        The outcome; None if it is missing or damaged, so that the trial must be run.
    """
    try:
        outcome = TrialOutcome(**json.loads((folder / OUTCOME).read_text("utf-8")))
        return replace(outcome, keys=rename_keys(outcome.keys))
    except (OSError, ValueError, TypeError, AttributeError):
        return None
