"""A run told in lines: words for a log or a dumb terminal, JSON for a program, or nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from datetime import timedelta
from typing import Any, Self

from rich.console import Console

from rsft.cli.display.console import show_event
from rsft.peft import Site
from rsft.recipe.schema import Recipe
from rsft.training.callbacks.recorder import Listener, Step
from rsft.training.runs.writer import Run

COLUMNS = {
    "epoch": "epoch",
    "train_loss": "loss",
    "meta_loss": "outer loss",
    "val_loss": "val loss",
    "val_head": "head",
    "val_medium": "medium",
    "val_tail": "tail",
    "val_macro": "macro",
    "val_micro": "overall",
}
"""What is shown of metrics.csv, and how it is called."""


class Display(Listener):
    """Shows a run within a `with` block; this one shows nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class LogLines(Display):
    """A line each `every` steps, and one an epoch."""

    def __init__(self, recipe: Recipe, console: Console, every: int = 50) -> None:
        self.recipe, self.console, self.every = recipe, console, every

    def started(self, run: Run, facts: dict[str, Any]) -> None:
        """What is trained, on what."""
        self._print(header(self.recipe, facts))

    def stepped(self, step: Step) -> None:
        """Where the run is, how fast, and into what the time goes."""
        if step.done % self.every == 0:
            place = f"epoch {step.epoch + 1}/{self.recipe.train.epochs}  step {step.step}/{step.steps}"
            self._print(f"{place}  loss {step.loss:.3f}  {pace(step)}")

    def epoch_ended(self, row: dict[str, float], scales: dict[Site, float]) -> None:
        """Losses and accuracies."""
        known = {key: name for key, name in COLUMNS.items() if not math.isnan(row[key])}
        cells = "  ".join(f"{name} {cell(key, row[key])}" for key, name in known.items())
        self._print(f"{cells}  {row['images_per_s']:.0f} images/s")

    def _print(self, line: str) -> None:
        self.console.print(line, soft_wrap=True, markup=False)


class JsonLines(Display):
    """An object a line: the events started, step (one in `every`) and epoch; names of numbers carry their units."""

    def __init__(self, every: int = 50) -> None:
        self.every = every

    def started(self, run: Run, facts: dict[str, Any]) -> None:
        """With all of run.json."""
        show_event("started", {"run": str(run.folder), **facts})

    def stepped(self, step: Step) -> None:
        """With every field of `Step`."""
        if step.done % self.every == 0:
            show_event("step", asdict(step))

    def epoch_ended(self, row: dict[str, float], scales: dict[Site, float]) -> None:
        """With the row of metrics.csv, and the modulator's values by site."""
        show_event("epoch", {**row, "modulator": {str(site): value for site, value in scales.items()}})


def header(recipe: Recipe, facts: Mapping[str, Any]) -> str:
    """What is trained, on what."""
    modulated = " with a modulator (MetaPEFT)" if recipe.meta is not None else ""
    trained = f"{facts['trained_parameters']:,} of {facts['total_parameters']:,} parameters trained"
    chips = f"{facts['train_chips']:,} training chips  on {facts['device']}"
    return f"{recipe.name}  {recipe.backbone.name}  {recipe.peft.title}{modulated}  {trained}  {chips}"


def pace(step: Step) -> str:
    """Speed, what a step's time goes into, memory, and the time that is left."""
    whole = step.data_s + step.inner_s + step.outer_s
    parts = f"{1000 * step.data_s:.0f} data + {1000 * step.inner_s:.0f} inner"
    parts += f" + {1000 * step.outer_s:.0f} outer" if step.outer_s else ""
    memory = f"{step.memory_mb / 1000:.1f} GB"
    memory += "" if math.isnan(step.gpu_mb) else f" + {step.gpu_mb / 1000:.1f} GB of the GPU"
    left = timedelta(seconds=round(step.left_s))
    return f"{step.images_per_s:.0f} images/s  {1000 * whole:.0f} ms/step ({parts})  {memory}  {left} left"


def cell(key: str, value: float) -> str:
    """A number of metrics.csv as it is shown: epochs from 1, accuracies in %."""
    if key == "epoch":
        return str(int(value) + 1)
    if math.isnan(value):
        return "-"
    return f"{value:.3f}" if key.endswith("loss") else f"{100 * value:.1f}"
