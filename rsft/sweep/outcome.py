"""What became of a trial: one JSON file in its folder, written when it is over. That file is all a resume needs."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from rsft.utils.atomic_files import write_text

OUTCOME, RECIPE, ERRORS, LOCK = "trial.json", "recipe.yaml", "errors.txt", "lock"
"""In the folder of a trial; RECIPE is an ordinary recipe that `rsft finetune` runs."""


@dataclass(frozen=True)
class Outcome:
    """How a trial ended.

    Attributes:
        keys: what the sweep gave it.
        reason: why it failed; "" where it did not.
        metrics: last row of metrics.csv, and the accuracy on the evaluated split.
        seconds: that the run took, over all its sittings.
        run: the folder of the run; "" where it got none.
        data: SHA-256 of the manifest that it was trained on.
    """

    keys: dict[str, Any]
    status: Literal["done", "failed"]
    reason: str = ""
    metrics: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    run: str = ""
    data: str = ""

    def save(self, folder: Path) -> None:
        """Write it, whole or not at all."""
        write_text(folder / OUTCOME, json.dumps(asdict(self), indent=1))


def read_outcome(folder: Path) -> Outcome | None:
    """Of the trial in `folder`; None where it has none, or one that cannot be read, and is to be run."""
    try:
        return Outcome(**json.loads((folder / OUTCOME).read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return None
