"""Live display of a fine-tuning run: progress bar, last epochs, largest and smallest scales."""

from __future__ import annotations

import math
from typing import Any, Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from rsft.cli.display.train_lines import (
    COLUMNS,
    Display,
    JsonLines,
    LogLines,
    describe_speed,
    describe_training,
    format_cell,
)
from rsft.peft import Site
from rsft.recipe.schema import Recipe
from rsft.training.distributed.collectives import is_rank_zero
from rsft.training.recorder import StepReport
from rsft.training.runs.writer import Run

EPOCHS_SHOWN = 8
EXTREMES_SHOWN = 3


def choose_display(recipe: Recipe, console: Console, *, quiet: bool, as_json: bool, every: int) -> Display:
    """Return the display of a run.

    Args:
        recipe: the recipe of the run.
        console: where to print.
        quiet: show nothing.
        as_json: print JSON lines.
        every: steps between lines.

    Returns:
        The live display on a terminal that can be redrawn, else log lines. Only the first of several processes shows
        anything.
    """
    if quiet or not is_rank_zero():
        return Display()
    if as_json:
        return JsonLines(every)
    is_live = console.is_terminal and not console.is_dumb_terminal
    return LiveDisplay(recipe, console) if is_live else LogLines(recipe, console, every)


class LiveDisplay(Display):
    """Display that is redrawn in place in a terminal."""

    def __init__(self, recipe: Recipe, console: Console) -> None:
        self.recipe = recipe
        self.rows: list[dict[str, float]] = []
        self.scales: dict[Site, float] = {}
        self.metadata: dict[str, Any] = {}
        self.speed_line = ""
        self.bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=40),
            TextColumn("{task.fields[note]}", markup=False),
            console=console,
        )
        self.task = self.bar.add_task("reading chips", total=None, note="")
        self.live = Live(get_renderable=self._render, console=console, refresh_per_second=4, auto_refresh=True)

    def __enter__(self) -> Self:
        self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.update(self.task, visible=False)
        self.live.stop()

    def on_progress(self, done: int, total: int, item: str) -> None:
        """Update the bar while chips are read.

        Args:
            done: chips read.
            total: all chips.
            item: what is read.
        """
        self.bar.update(self.task, description=item, completed=done, total=total, note=f"{done:,}/{total:,}")

    def on_start(self, run: Run, metadata: dict[str, Any]) -> None:
        """Reset the bar when training begins."""
        self.metadata = metadata
        self.bar.update(self.task, completed=0, total=None, note="")

    def on_step(self, step: StepReport) -> None:
        """Update bar, loss and speed."""
        self.speed_line = describe_speed(step)
        self.bar.update(
            self.task,
            description=f"epoch {step.epoch + 1}/{self.recipe.train.epochs}",
            completed=step.done,
            total=step.total,
            note=f"loss {step.loss:.3f}",
        )

    def on_epoch_end(self, row: dict[str, float], scales: dict[Site, float]) -> None:
        """Add a row to the table, and update the scales."""
        self.rows.append(row)
        self.scales = scales

    def _render(self) -> Group:
        parts: list[Any] = [Text(describe_training(self.recipe, self.metadata))] if self.metadata else []
        parts += [self.bar, Text(self.speed_line)] if self.speed_line else [self.bar]
        if self.rows:
            parts.append(self._table())
        if self.scales:
            parts.append(self._modulator())
        return Group(*parts)

    def _table(self) -> Table:
        table = Table(box=None, pad_edge=False, title="accuracy on the validation split, %", title_justify="left")
        shown = {key: name for key, name in COLUMNS.items() if any(not math.isnan(row[key]) for row in self.rows)}
        for name in shown.values():
            table.add_column(name, justify="right")
        for row in self.rows[-EPOCHS_SHOWN:]:
            table.add_row(*(format_cell(key, row[key]) for key in shown))
        return table

    def _modulator(self) -> Text:
        ranked = sorted(self.scales.items(), key=lambda item: item[1])
        strongest, weakest = ranked[: -EXTREMES_SHOWN - 1 : -1], ranked[:EXTREMES_SHOWN]
        extremes = (
            ", ".join(f"{site.block}.{site.position} {value:.2f}" for site, value in s) for s in (strongest, weakest)
        )
        return Text("scales  largest {}  smallest {}".format(*extremes), style="magenta")
