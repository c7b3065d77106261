"""Outcome of a trial: one JSON file in its folder. These files alone decide which trials have ended."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from rsft.recipe.renames import rename_keys
from rsft.utils.atomic_files import write_text
from rsft.utils.untrusted.documents import parse_json

TRIALS, OUTCOME, RECIPE, ERRORS, LOCK = "trials", "trial.json", "recipe.yaml", "errors.txt", "lock"
"""Folder of all trials, and files in the folder of a trial. RECIPE is an ordinary recipe for `rsft finetune`."""


@dataclass(frozen=True)
class TrialOutcome:
    """Outcome of a trial.

    Attributes:
        keys: recipe keys that the sweep set.
        status: "done", "failed", or "stopped" by the scheduler of the sweep.
        reason: why it failed or was stopped; "" if it is done.
        metrics: last row of metrics.csv, and the accuracy on the evaluated split.
        seconds: duration of the run, summed over all resumed sessions.
        run: run folder; "" if the trial failed before it was made.
        data: SHA-256 of the manifest of the training data.
    """

    keys: dict[str, Any]
    status: Literal["done", "failed", "stopped"]
    reason: str = ""
    metrics: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    run: str = ""
    data: str = ""

    def save(self, folder: Path) -> None:
        """Write the outcome to the folder of the trial, whole or not at all."""
        write_text(folder / OUTCOME, json.dumps(asdict(self), indent=1))


def read_outcome(folder: Path) -> TrialOutcome | None:
    """Return the outcome in the folder of a trial; None if it is missing or damaged, so that the trial must be run."""
    try:
        outcome = TrialOutcome(**parse_json((folder / OUTCOME).read_text("utf-8")))
        return replace(outcome, keys=rename_keys(outcome.keys))
    except (OSError, ValueError, TypeError, AttributeError):
        return None


def describe_keys(keys: Mapping[str, Any]) -> str:
    """Return keys and values in one line."""
    return "  ".join(f"{key} {value}" for key, value in keys.items())


def format_measure(name: str, value: Any) -> str:
    """Return a value of a column as text: accuracies in %, losses with three digits."""
    if not isinstance(value, float) or "." in name or name == "seconds":
        return f"{value:g}" if isinstance(value, float) else str(value)
    return f"{value:.3f}" if name.endswith("loss") else f"{100 * value:.1f}"
