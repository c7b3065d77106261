"""Tracker for Weights & Biases. Its environment variables apply: WANDB_MODE=offline writes to the run folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from rsft.recipe.registries import TRACKERS

if TYPE_CHECKING:
    from rsft.recipe.schema import Recipe


@TRACKERS.register
@dataclass(frozen=True)
class WandB:
    """Weights & Biases: one run in the project `track.project`."""

    name: ClassVar[str] = "wandb"
    title: ClassVar[str] = "Weights & Biases"
    packages: ClassVar[tuple[str, ...]] = ("wandb",)

    def open(self, recipe: Recipe, folder: Path, record_id: str | None) -> WandBRun:
        """Begin a run of Weights & Biases, or continue one.

        Args:
            recipe: the recipe of the run.
            folder: the run folder.
            record_id: id of the record to continue; None begins a new one.

        Returns:
            The open record.
        """
        import wandb

        return WandBRun(
            wandb.init(
                project=recipe.track.project,
                name=f"{recipe.name}/{folder.name}",
                id=record_id,
                resume="allow",
                dir=folder,
                config=recipe.flatten(),
                settings=wandb.Settings(silent=True, console="off"),
            )
        )


class WandBRun:
    """One run of Weights & Biases, with the recipe's keys as its configuration.

    Args:
        run: the run that `wandb.init` returned.
    """

    def __init__(self, run: Any) -> None:
        self.run = run
        self.id = str(run.id)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Record the numbers of a step; two calls at one step become one row.

        Args:
            step: number of training batches since the start of the run.
            values: name -> number.
        """
        self.run.log(dict(values), step=step)

    def close(self, failed: bool) -> None:
        """End the run with exit code 0 or, if it failed, 1.

        Args:
            failed: whether the run ended with an error.
        """
        self.run.finish(exit_code=int(failed))
