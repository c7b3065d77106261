"""The live display of a fine-tuning run: a bar, the last epochs, the modulator's extremes."""

from __future__ import annotations

import math
from typing import Any, Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from rsft.cli.display.train_lines import COLUMNS, Display, JsonLines, LogLines, cell, header, pace
from rsft.peft import Site
from rsft.recipe.schema import Recipe
from rsft.training.callbacks.recorder import Step
from rsft.training.distributed.collectives import writes
from rsft.training.runs.writer import Run

EPOCHS_SHOWN = 8
EXTREMES_SHOWN = 3


def choose_display(recipe: Recipe, console: Console, *, quiet: bool, as_json: bool, every: int) -> Display:
    """Lines where the console is no terminal that can be redrawn, else the live display; or as the flags say.

    Of several processes one speaks.
    """
    if quiet or not writes():
        return Display()
    if as_json:
        return JsonLines(every)
    redrawn = console.is_terminal and not console.is_dumb_terminal
    return LiveDisplay(recipe, console) if redrawn else LogLines(recipe, console, every)


class LiveDisplay(Display):
    """Redrawn in place, in a terminal."""

    def __init__(self, recipe: Recipe, console: Console) -> None:
        self.recipe = recipe
        self.rows: list[dict[str, float]] = []
        self.scales: dict[Site, float] = {}
        self.facts: dict[str, Any] = {}
        self.pace = ""
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=40),
            TextColumn("{task.fields[note]}"),
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

    def reading(self, done: int, total: int, what: str) -> None:
        """Chips are being read."""
        self.bar.update(self.task, description=what, completed=done, total=total, note=f"{done:,}/{total:,}")

    def started(self, run: Run, facts: dict[str, Any]) -> None:
        """Training begins."""
        self.facts = facts
        self.bar.update(self.task, completed=0, total=None, note="")

    def stepped(self, step: Step) -> None:
        """A step is done."""
        self.pace = pace(step)
        self.bar.update(
            self.task,
            description=f"epoch {step.epoch + 1}/{self.recipe.train.epochs}",
            completed=step.done,
            total=step.total,
            note=f"loss {step.loss:.3f}",
        )

    def epoch_ended(self, row: dict[str, float], scales: dict[Site, float]) -> None:
        """An epoch is done."""
        self.rows.append(row)
        self.scales = scales

    def _render(self) -> Group:
        parts: list[Any] = [Text(header(self.recipe, self.facts))] if self.facts else []
        parts += [self.bar, Text(self.pace)] if self.pace else [self.bar]
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
            table.add_row(*(cell(key, row[key]) for key in shown))
        return table

    def _modulator(self) -> Text:
        ranked = sorted(self.scales.items(), key=lambda item: item[1])
        strongest, weakest = ranked[: -EXTREMES_SHOWN - 1 : -1], ranked[:EXTREMES_SHOWN]
        told = (
            ", ".join(f"{site.block}.{site.position} {value:.2f}" for site, value in s) for s in (strongest, weakest)
        )
        return Text("modulator  strongest {}  weakest {}".format(*told), style="magenta")
