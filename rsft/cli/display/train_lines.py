"""Report the progress of a run in lines: text for a log, JSON for a program, or nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from datetime import timedelta
from typing import Any, Self

from rich.console import Console

from rsft.cli.display.console import emit_json_event
from rsft.peft import Site
from rsft.recipe.schema import Recipe
from rsft.training.recorder import RunListener, StepReport
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
"""Columns of metrics.csv that are shown, with their headings."""


class Display(RunListener):
    """Receives the events of a run within a `with` block. The base class shows nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class LogLines(Display):
    """Prints one line every `every` steps and one line per epoch."""

    def __init__(self, recipe: Recipe, console: Console, every: int = 50) -> None:
        self.recipe, self.console, self.every = recipe, console, every

    def on_start(self, run: Run, metadata: dict[str, Any]) -> None:
        """Print what is trained, and on which data."""
        self._print(describe_training(self.recipe, metadata))

    def on_step(self, step: StepReport) -> None:
        """Print epoch, step, loss and speed."""
        if step.done % self.every == 0:
            position = f"epoch {step.epoch + 1}/{self.recipe.train.epochs}  step {step.step}/{step.steps}"
            self._print(f"{position}  loss {step.loss:.3f}  {describe_speed(step)}")

    def on_epoch_end(self, row: dict[str, float], scales: dict[Site, float]) -> None:
        """Print losses and accuracies."""
        columns = {key: name for key, name in COLUMNS.items() if not math.isnan(row[key])}
        cells = "  ".join(f"{name} {format_cell(key, row[key])}" for key, name in columns.items())
        self._print(f"{cells}  {row['images_per_s']:.0f} images/s")

    def _print(self, line: str) -> None:
        for text in line.split("\n"):
            self.console.print(text, soft_wrap=True)


class JsonLines(Display):
    """Prints one JSON object per line: the events started, step (every `every` steps) and epoch. Keys contain units."""

    def __init__(self, every: int = 50) -> None:
        self.every = every

    def on_start(self, run: Run, metadata: dict[str, Any]) -> None:
        """Print the event "started" with the content of run.json."""
        emit_json_event("started", {"run": str(run.folder), **metadata})

    def on_step(self, step: StepReport) -> None:
        """Print the event "step" with all fields of the report."""
        if step.done % self.every == 0:
            emit_json_event("step", asdict(step))

    def on_epoch_end(self, row: dict[str, float], scales: dict[Site, float]) -> None:
        """Print the event "epoch" with the row of metrics.csv and the scales by site."""
        emit_json_event("epoch", {**row, "modulator": {str(site): value for site, value in scales.items()}})


def describe_training(recipe: Recipe, metadata: Mapping[str, Any]) -> str:
    """Return what is trained, and on which data, in one line.

    Args:
        recipe: the recipe of the run.
        metadata: the content of run.json.
    """
    modulated = " with a modulator (MetaPEFT)" if recipe.meta is not None else ""
    trained = f"{metadata['trained_parameters']:,} of {metadata['total_parameters']:,} parameters trained"
    chips = f"{metadata['train_chips']:,} training chips  on {metadata['device']}"
    line = f"{recipe.name}  {recipe.backbone.name}  {recipe.peft.title}{modulated}  {trained}  {chips}"
    return f"{line}\n{describe_start(metadata)}" if "start" in metadata else line


def describe_start(metadata: Mapping[str, Any]) -> str:
    """Return at which bundle a run starts, what it trains, and which classes are new, in one line.

    Args:
        metadata: the content of run.json of a run with `train.start_bundle`.
    """
    start, depth = metadata["start"], sum(metadata["stage_depths"])
    kept = start["kept_blocks"]
    first = (
        "the blocks stay as they are, the head is trained" if kept == depth else "all blocks and the head are trained"
    )
    if 0 < kept < depth:
        first = f"the first {kept} of {depth} blocks stay as they are, the others and the head are trained"
    new = start["new_classes"]
    classes = f"{len(new)} new class{'es' * (len(new) != 1)}: {', '.join(new)}" if new else "no new class"
    return f"starts at {start['bundle']} ({start['sha256'][:12]}): {first}  {classes}"


def describe_speed(step: StepReport) -> str:
    """Return speed, the parts of a step's time, memory, and remaining time in one line."""
    whole = step.data_s + step.inner_s + step.outer_s
    parts = f"{1000 * step.data_s:.0f} data + {1000 * step.inner_s:.0f} inner"
    parts += f" + {1000 * step.outer_s:.0f} outer" if step.outer_s else ""
    memory = f"{step.memory_mb / 1000:.1f} GB"
    memory += "" if math.isnan(step.gpu_mb) else f" + {step.gpu_mb / 1000:.1f} GB of the GPU"
    remaining = timedelta(seconds=round(step.left_s))
    return f"{step.images_per_s:.0f} images/s  {1000 * whole:.0f} ms/step ({parts})  {memory}  {remaining} left"


def format_cell(key: str, value: float) -> str:
    """Return a value of metrics.csv as shown: epochs from 1, accuracies in %.

    Args:
        key: column of metrics.csv.
        value: value in that column.
    """
    if key == "epoch":
        return str(int(value) + 1)
    if math.isnan(value):
        return "-"
    return f"{value:.3f}" if key.endswith("loss") else f"{100 * value:.1f}"
