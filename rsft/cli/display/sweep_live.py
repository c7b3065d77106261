"""Live table of a sweep; in a log, one line per finished trial."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from rsft.sweep.outcome import TrialOutcome
from rsft.sweep.results import format_measure
from rsft.sweep.schema import Sweep

SHOWN = 12
"""Largest number of finished trials in the table, which shows the best ones."""


class SweepDisplay:
    """Shows the progress of a sweep within a `with` block.

    Args:
        sweep: the sweep.
        total: number of trials.
        finished: trials that ended in an earlier call, by id.
        console: where to print.
    """

    def __init__(self, sweep: Sweep, total: int, finished: Mapping[str, TrialOutcome], console: Console) -> None:
        self.sweep, self.total, self.console = sweep, total, console
        self.ended = dict(finished)
        self.running: dict[str, tuple[Mapping[str, Any], float, Mapping[str, Any]]] = {}
        self.live = Live(get_renderable=self._render, console=console, refresh_per_second=2)
        self.is_live = console.is_terminal and not console.is_dumb_terminal

    def __enter__(self) -> Self:
        if self.is_live:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.is_live:
            self.live.stop()

    def on_start(self, id: str, keys: Mapping[str, Any]) -> None:
        """Add a running trial.

        Args:
            id: id of the trial.
            keys: its values of the varied keys.
        """
        self.running[id] = keys, time.monotonic(), {}

    def on_epoch(self, id: str, epoch: Mapping[str, Any]) -> None:
        """Update a running trial after an epoch.

        Args:
            id: id of the trial.
            epoch: the event "epoch" of its run.
        """
        keys, began, _ = self.running[id]
        self.running[id] = keys, began, epoch

    def on_end(self, id: str, outcome: TrialOutcome | None) -> None:
        """Move a trial to the finished ones.

        Args:
            id: id of the trial.
            outcome: its result; None if it was stopped.
        """
        keys, _, _ = self.running.pop(id)
        if outcome is not None:
            self.ended[id] = outcome
        if not self.is_live:
            result = self._describe_outcome(outcome)
            position = f"{len(self.ended)}/{self.total}"
            self.console.print(f"{position}  {describe_keys(keys)}  {result}", soft_wrap=True, markup=False)

    def _describe_outcome(self, outcome: TrialOutcome | None) -> str:
        if outcome is None:
            return "stopped"
        if outcome.status == "failed":
            return f"failed: {outcome.reason}"
        metric = self.sweep.metric
        return f"{metric} {format_measure(metric, outcome.metrics[metric])}  {outcome.seconds:.0f} s"

    def _render(self) -> Group:
        failed = sum(outcome.status == "failed" for outcome in self.ended.values())
        title = f"{len(self.ended)} of {self.total} trials have ended" + f", {failed} failed" * bool(failed)
        table = Table(box=None, pad_edge=False)
        for heading in (*self.sweep.keys, "epoch", self.sweep.metric, ""):
            table.add_column(heading)
        for keys, began, epoch in self.running.values():
            number = str(int(epoch["epoch"]) + 1) if epoch else "-"
            value = epoch.get(self.sweep.metric)
            shown = format_measure(self.sweep.metric, float(value)) if value is not None else "-"
            table.add_row(
                *self._cells(keys), number, shown, f"running, {time.monotonic() - began:.0f} s", style="yellow"
            )
        for index, outcome in enumerate(self._best()):
            value = format_measure(self.sweep.metric, outcome.metrics[self.sweep.metric])
            table.add_row(
                *self._cells(outcome.keys), "", value, f"{outcome.seconds:.0f} s", style="bold" if index == 0 else ""
            )
        return Group(Text(title), table)

    def _best(self) -> list[TrialOutcome]:
        done = [outcome for outcome in self.ended.values() if outcome.status == "done"]
        done.sort(key=lambda outcome: outcome.metrics[self.sweep.metric], reverse=self.sweep.mode == "max")
        return done[:SHOWN]

    def _cells(self, keys: Mapping[str, Any]) -> list[str]:
        return [str(keys.get(key, "")) for key in self.sweep.keys]


def describe_keys(keys: Mapping[str, Any]) -> str:
    """Return keys and values in one line."""
    return "  ".join(f"{key} {value}" for key, value in keys.items())
