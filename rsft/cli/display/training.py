"""Show a run while it trains: in lines, or as JSON."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import timedelta

from rsft.cli.display.console import (
    console,
    emit_json_event,
    print_lines,
    progress,
)
from rsft.cli.display.results import report_json_progress
from rsft.peft import Site
from rsft.recipe.schema import Recipe
from rsft.training.listeners import RunListener, StepReport
from rsft.training.processes import is_rank_zero
from rsft.training.runs.writer import Run
from rsft.types import JsonObject, Progress

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


STEPS_PER_LINE = 50
"""Steps between two lines."""


class TrainingLines(RunListener):
    """Prints a line every 50 steps and epoch, and reports the progress of what runs.

    Args:
        recipe: the recipe of the run.
        report: shows the progress.
    """

    def __init__(self, recipe: Recipe, report: Progress) -> None:
        self.recipe = recipe
        self.report = report

    def on_progress(self, done: int, total: int, item: str) -> None:
        self.report(done, total, item)

    def on_start(self, run: Run, metadata: JsonObject) -> None:
        print_lines(describe_training(self.recipe, metadata).split("\n"))
        self.report(0, 0, "first training step")

    def on_step(self, step: StepReport) -> None:
        self.report(step.done, step.total, "training steps")
        if step.done % STEPS_PER_LINE == 0:
            epoch = f"epoch {step.epoch + 1}/{self.recipe.train.epochs}"
            remaining = timedelta(seconds=round(step.left_s))
            console.print(
                f"{epoch}  step {step.step}/{step.steps}  loss {step.loss:.3f} "
                f" {step.images_per_s:.0f} images/s  {remaining} left"
            )

    def on_epoch_end(self, row: dict[str, float], scales: dict[Site, float]) -> None:
        cells = [
            f"{name} {format_cell(key, row[key])}"
            for key, name in COLUMNS.items()
            if not math.isnan(row[key])
        ]
        console.print(f"{'  '.join(cells)}  {row['images_per_s']:.0f} images/s")


class JsonLines(RunListener):
    """Prints the events progress, started, step and epoch as JSON, one object per line.

    Keys contain units.
    """

    def __init__(self) -> None:
        self.report = report_json_progress()

    def on_progress(self, done: int, total: int, item: str) -> None:
        self.report(done, total, item)

    def on_start(self, run: Run, metadata: JsonObject) -> None:
        emit_json_event("started", {"run": run.folder, **metadata})

    def on_step(self, step: StepReport) -> None:
        emit_json_event("step", asdict(step))

    def on_epoch_end(self, row: dict[str, float], scales: dict[Site, float]) -> None:
        modulator = {str(site): value for site, value in scales.items()}
        emit_json_event("epoch", {**row, "modulator": modulator})


def describe_training(recipe: Recipe, metadata: JsonObject) -> str:
    """Return what is trained on which data; a second line names the start bundle."""
    method = recipe.peft.title
    if recipe.meta:
        method += " with a modulator (MetaPEFT)"
    trained = metadata["trained_parameters"]
    parts = [
        recipe.name,
        recipe.backbone.name,
        method,
        f"{trained:,} of {metadata['total_parameters']:,} parameters trained",
        f"{metadata['train_chips']:,} training chips",
        f"on {metadata['device']}",
    ]
    line = "  ".join(parts)
    if "start" not in metadata:
        return line
    start = metadata["start"]
    return f"{line}\nstarts at {start['bundle']} ({start['sha256'][:12]})"


def format_cell(key: str, value: float) -> str:
    """Return a value of metrics.csv as shown: epochs from 1, accuracies in %."""
    if key == "epoch":
        return str(int(value) + 1)
    if key.endswith("loss"):
        return f"{value:.3f}"
    return f"{100 * value:.1f}"


@contextmanager
def choose_display(
    recipe: Recipe, *, quiet: bool, as_json: bool
) -> Iterator[RunListener]:
    """Yield the listener that shows a run: lines, or JSON lines.

    Only the first of several processes shows anything.

    Args:
        recipe: the recipe of the run.
        quiet: show nothing.
        as_json: print JSON lines.

    Yields:
        The listener.
    """
    if quiet or not is_rank_zero():
        yield RunListener()
    elif as_json:
        yield JsonLines()
    else:
        with progress() as report:
            yield TrainingLines(recipe, report)
