"""The live table of a sweep; in a log, a line for each trial that ends."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from rsft.sweep.outcome import Outcome
from rsft.sweep.results import as_text
from rsft.sweep.schema import Sweep

SHOWN = 12
"""Finished trials that the table keeps in sight, the best ones."""


class Board:
    """Watches a sweep, within a `with` block.

    Args:
        total: trials of the sweep.
        finished: those that were over before.
    """

    def __init__(self, sweep: Sweep, total: int, finished: Mapping[str, Outcome], console: Console) -> None:
        self.sweep, self.total, self.console = sweep, total, console
        self.over = dict(finished)
        self.running: dict[str, tuple[Mapping[str, Any], float, Mapping[str, Any]]] = {}
        self.live = Live(get_renderable=self._render, console=console, refresh_per_second=2)
        self.redrawn = console.is_terminal and not console.is_dumb_terminal

    def __enter__(self) -> Self:
        if self.redrawn:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.redrawn:
            self.live.stop()

    def began(self, id: str, keys: Mapping[str, Any]) -> None:
        """A trial runs."""
        self.running[id] = keys, time.monotonic(), {}

    def told(self, id: str, epoch: Mapping[str, Any]) -> None:
        """A trial has finished an epoch."""
        keys, began, _ = self.running[id]
        self.running[id] = keys, began, epoch

    def ended(self, id: str, outcome: Outcome | None) -> None:
        """A trial is over."""
        keys, _, _ = self.running.pop(id)
        if outcome is not None:
            self.over[id] = outcome
        if not self.redrawn:
            told = self._verdict(outcome)
            place = f"{len(self.over)}/{self.total}"
            self.console.print(f"{place}  {describe(keys)}  {told}", soft_wrap=True, markup=False)

    def _verdict(self, outcome: Outcome | None) -> str:
        if outcome is None:
            return "stopped"
        if outcome.status == "failed":
            return f"failed: {outcome.reason}"
        metric = self.sweep.metric
        return f"{metric} {as_text(metric, outcome.metrics[metric])}  {outcome.seconds:.0f} s"

    def _render(self) -> Group:
        failed = sum(outcome.status == "failed" for outcome in self.over.values())
        title = f"{len(self.over)} of {self.total} trials are over" + f", {failed} failed" * bool(failed)
        table = Table(box=None, pad_edge=False)
        for heading in (*self.sweep.keys, "epoch", self.sweep.metric, ""):
            table.add_column(heading)
        for keys, began, epoch in self.running.values():
            number = str(int(epoch["epoch"]) + 1) if epoch else "-"
            value = epoch.get(self.sweep.metric)
            shown = as_text(self.sweep.metric, float(value)) if value is not None else "-"
            table.add_row(
                *self._cells(keys), number, shown, f"running, {time.monotonic() - began:.0f} s", style="yellow"
            )
        for index, outcome in enumerate(self._best()):
            value = as_text(self.sweep.metric, outcome.metrics[self.sweep.metric])
            table.add_row(
                *self._cells(outcome.keys), "", value, f"{outcome.seconds:.0f} s", style="bold" if index == 0 else ""
            )
        return Group(Text(title), table)

    def _best(self) -> list[Outcome]:
        done = [outcome for outcome in self.over.values() if outcome.status == "done"]
        done.sort(key=lambda outcome: outcome.metrics[self.sweep.metric], reverse=self.sweep.mode == "max")
        return done[:SHOWN]

    def _cells(self, keys: Mapping[str, Any]) -> list[str]:
        return [str(keys.get(key, "")) for key in self.sweep.keys]


def describe(keys: Mapping[str, Any]) -> str:
    """Keys and values in a line."""
    return "  ".join(f"{key} {value}" for key, value in keys.items())
