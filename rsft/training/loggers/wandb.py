"""Weights & Biases. Its own variables rule where it writes: with WANDB_MODE=offline, in the run's folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rsft.recipe.load import flatten
from rsft.recipe.schema import Recipe


def open_run(recipe: Recipe, folder: Path, known: str | None) -> WandB:
    """Begin a run in the project `track.project`, or go on with `known`."""
    import wandb

    return WandB(
        wandb.init(
            project=recipe.track.project,
            name=f"{recipe.name}/{folder.name}",
            id=known,
            resume="allow",
            dir=folder,
            config=flatten(recipe),
            settings=wandb.Settings(silent=True, console="off"),
        )
    )


class WandB:
    """One run of Weights & Biases, with the recipe's keys as its configuration."""

    def __init__(self, run: Any) -> None:
        self.run = run
        self.id = str(run.id)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """The numbers; two calls at one step are one row."""
        self.run.log(dict(values), step=step)

    def close(self, failed: bool) -> None:
        """The run is over."""
        self.run.finish(exit_code=int(failed))
