"""The live display of a fine-tuning run: a bar, the last epochs, the modulator's extremes."""

from __future__ import annotations

import math
import time
from datetime import timedelta
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from rsft.finetune import Run
from rsft.peft import Site
from rsft.recipe.schema import Recipe

EPOCHS_SHOWN = 8
EXTREMES_SHOWN = 3

_COLUMNS = {
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


class LiveDisplay:
    """Listens to a run; on anything that is no terminal it prints one line an epoch."""

    def __init__(self, recipe: Recipe, console: Console) -> None:
        self.recipe, self.console = recipe, console
        self.rows: list[dict[str, float]] = []
        self.scales: dict[Site, float] = {}
        self.facts: dict[str, Any] = {}
        self.began = 0.0
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=40),
            TextColumn("{task.fields[note]}"),
            console=console,
        )
        self.task = self.bar.add_task("reading chips", total=None, note="")
        self.live = Live(get_renderable=self._render, console=console, refresh_per_second=4, auto_refresh=True)

    def __enter__(self) -> LiveDisplay:
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.console.is_terminal:
            self.bar.update(self.task, visible=False)
            self.live.stop()

    def reading(self, done: int, total: int, what: str) -> None:
        """Chips are being read."""
        self.bar.update(self.task, description=what, completed=done, total=total, note=f"{done:,}/{total:,}")

    def started(self, run: Run, facts: dict[str, Any]) -> None:
        """Training begins."""
        self.began, self.facts = time.monotonic(), facts
        self.bar.update(self.task, completed=0, total=None, note="")
        if not self.console.is_terminal:
            self.console.print(self._header())

    def stepped(self, epoch: int, step: int, steps: int, loss: float, images_per_s: float) -> None:
        """A step is done."""
        epochs = self.recipe.train.epochs
        done, total = epoch * steps + step, epochs * steps
        left = (time.monotonic() - self.began) / done * (total - done)
        self.bar.update(
            self.task,
            description=f"epoch {epoch + 1}/{epochs}",
            completed=done,
            total=total,
            note=f"{images_per_s:.0f} images/s  loss {loss:.3f}  {timedelta(seconds=round(left))} left",
        )

    def epoch_ended(self, row: dict[str, float], scales: dict[Site, float]) -> None:
        """An epoch is done."""
        self.rows.append(row)
        self.scales = scales
        if not self.console.is_terminal:
            known = {key: name for key, name in _COLUMNS.items() if not math.isnan(row[key])}
            cells = "  ".join(f"{name} {_cell(key, row[key])}" for key, name in known.items())
            self.console.print(f"{cells}  {row['images_per_s']:.0f} images/s", soft_wrap=True)

    def _render(self) -> Group:
        parts: list[Any] = [self._header()] if self.facts else []
        parts.append(self.bar)
        if self.rows:
            parts.append(self._table())
        if self.scales:
            parts.append(self._modulator())
        return Group(*parts)

    def _header(self) -> Text:
        facts, recipe = self.facts, self.recipe
        method = "LoRA with a modulator (MetaPEFT)" if recipe.meta is not None else "LoRA"
        trained = f"{facts['trained_parameters']:,} of {facts['total_parameters']:,} parameters trained"
        return Text.assemble(
            (recipe.name, "bold"),
            f"  {recipe.backbone.name}  {method}  {trained}",
            f"  {facts['train_chips']:,} training chips  on {facts['device']}",
        )

    def _shown(self) -> dict[str, str]:
        """Columns that hold a number in some epoch so far."""
        return {k: name for k, name in _COLUMNS.items() if any(not math.isnan(row[k]) for row in self.rows)}

    def _table(self) -> Table:
        table = Table(box=None, pad_edge=False, title="accuracy on the validation split, %", title_justify="left")
        for name in self._shown().values():
            table.add_column(name, justify="right")
        for row in self.rows[-EPOCHS_SHOWN:]:
            table.add_row(*(_cell(key, row[key]) for key in self._shown()))
        return table

    def _modulator(self) -> Text:
        ranked = sorted(self.scales.items(), key=lambda item: item[1])
        strongest, weakest = ranked[: -EXTREMES_SHOWN - 1 : -1], ranked[:EXTREMES_SHOWN]
        told = (
            ", ".join(f"{site.block}.{site.position} {value:.2f}" for site, value in s) for s in (strongest, weakest)
        )
        return Text("modulator  strongest {}  weakest {}".format(*told), style="magenta")


def _cell(key: str, value: float) -> str:
    if key == "epoch":
        return str(int(value) + 1)
    if math.isnan(value):
        return "-"
    return f"{value:.3f}" if key.endswith("loss") else f"{100 * value:.1f}"
