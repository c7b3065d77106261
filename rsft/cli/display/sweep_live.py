"""Live table of a sweep; in a log, one line per finished trial."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from rsft.sweep.outcome import TrialOutcome, describe_keys, format_measure
from rsft.sweep.schema import Sweep

SHOWN = 12
"""Largest number of finished trials in the table, which shows the best ones."""


class SweepDisplay:
    """Shows the progress of a sweep within a `with` block; its methods are those of `SweepWatcher`.

    Args:
        sweep: the sweep.
        total: number of trials.
        finished: trials that ended in an earlier call, by id.
        console: where to print.
    """

    def __init__(self, sweep: Sweep, total: int, finished: Mapping[str, TrialOutcome], console: Console) -> None:
        self.sweep, self.total, self.console = sweep, total, console
        self.ended = list(finished.values())
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
        """Add a running trial."""
        self.running[id] = keys, time.monotonic(), {}

    def on_epoch(self, id: str, row: Mapping[str, Any]) -> None:
        """Update a running trial after an epoch."""
        keys, began, _ = self.running[id]
        self.running[id] = keys, began, row

    def on_end(self, id: str, outcome: TrialOutcome | None) -> None:
        """Move a trial to the finished ones."""
        keys, _, _ = self.running.pop(id)
        self.ended += [outcome] if outcome else []
        if not self.is_live:
            line = f"{len(self.ended)}/{self.total}  {describe_keys(keys)}  {self._describe(outcome)}"
            self.console.print(line, soft_wrap=True)

    def _describe(self, outcome: TrialOutcome | None) -> str:
        if outcome is None:
            return "stopped"
        if outcome.status != "done":
            return f"{outcome.status}: {outcome.reason}"
        return f"{self.sweep.metric} {self._metric(outcome.metrics)}  {outcome.seconds:.0f} s"

    def _metric(self, values: Mapping[str, Any]) -> str:
        value = values.get(self.sweep.metric)
        return "-" if value is None else format_measure(self.sweep.metric, float(value))

    def _render(self) -> Group:
        failed = sum(outcome.status == "failed" for outcome in self.ended)
        title = f"{len(self.ended)} of {self.total} trials have ended" + f", {failed} failed" * bool(failed)
        table = Table(*self.sweep.keys, "epoch", self.sweep.metric, "", box=None, pad_edge=False)
        for keys, began, row in self.running.values():
            epoch, state = str(int(row["epoch"]) + 1) if row else "-", f"running, {time.monotonic() - began:.0f} s"
            table.add_row(*self._cells(keys), epoch, self._metric(row), state, style="yellow")
        done = [outcome for outcome in self.ended if outcome.status == "done"]
        done.sort(key=lambda outcome: outcome.metrics[self.sweep.metric], reverse=self.sweep.mode == "max")
        for index, outcome in enumerate(done[:SHOWN]):
            cells = *self._cells(outcome.keys), "", self._metric(outcome.metrics), f"{outcome.seconds:.0f} s"
            table.add_row(*cells, style="" if index else "bold")
        return Group(Text(title), table)

    def _cells(self, keys: Mapping[str, Any]) -> list[str]:
        return [str(keys.get(key, "")) for key in self.sweep.keys]
