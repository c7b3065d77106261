"""Show the trials of a sweep, in lines or live in a terminal."""

import time
from collections.abc import Mapping
from typing import Any, Self

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from rsft.cli.display.console import LiveArea, can_redraw
from rsft.study.outcomes import TrialOutcome, describe_keys, format_measure
from rsft.study.sweep import SweepWatcher
from rsft.study.sweep_file import Sweep

SHOWN = 12
"""Largest number of finished trials in the table, which shows the best ones."""


class SweepDisplay(SweepWatcher):
    """Shows the progress of a sweep within a `with` block.

    Args:
        sweep: the sweep.
        total: number of trials.
        finished: trials that ended in an earlier call, by id.
        console: where to print.
    """

    def __init__(
        self,
        sweep: Sweep,
        total: int,
        finished: Mapping[str, TrialOutcome],
        console: Console,
    ) -> None:
        self.sweep = sweep
        self.total = total
        self.console = console
        self.ended = list(finished.values())
        self.running: dict[str, tuple[Mapping[str, Any], float, Mapping[str, Any]]] = {}
        self.live = LiveArea(
            get_renderable=self._render, console=console, refresh_per_second=2
        )
        self.is_live = can_redraw(console)

    def __enter__(self) -> Self:
        if self.is_live:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.is_live:
            self.live.stop()

    def on_start(self, id: str, keys: Mapping[str, Any]) -> None:
        self.running[id] = keys, time.monotonic(), {}

    def on_epoch(self, id: str, row: Mapping[str, Any]) -> None:
        keys, began, _ = self.running[id]
        self.running[id] = keys, began, row

    def on_end(self, id: str, outcome: TrialOutcome | None) -> None:
        keys, _, _ = self.running.pop(id)
        if outcome is not None:
            self.ended.append(outcome)
        if not self.is_live:
            line = f"{len(self.ended)}/{self.total}  {describe_keys(keys)}"
            self.console.print(f"{line}  {self._describe(outcome)}", soft_wrap=True)

    def _describe(self, outcome: TrialOutcome | None) -> str:
        if outcome is None:
            return "stopped"
        if outcome.status != "done":
            return f"{outcome.status}: {outcome.reason}"
        metric = self._metric(outcome.metrics)
        return f"{self.sweep.metric} {metric}  {outcome.seconds:.0f} s"

    def _metric(self, values: Mapping[str, Any]) -> str:
        value = values.get(self.sweep.metric)
        if value is None:
            return "-"
        return format_measure(self.sweep.metric, float(value))

    def _render(self) -> Group:
        failed = sum(outcome.status == "failed" for outcome in self.ended)
        title = f"{len(self.ended)} of {self.total} trials have ended"
        if failed:
            title += f", {failed} failed"
        columns = (*self.sweep.keys, "epoch", self.sweep.metric, "")
        table = Table(*columns, box=None, pad_edge=False)
        for keys, began, row in self.running.values():
            epoch = str(int(row["epoch"]) + 1) if row else "-"
            state = f"running, {time.monotonic() - began:.0f} s"
            cells = (*self._cells(keys), epoch, self._metric(row), state)
            table.add_row(*cells, style="yellow")
        style = "bold"
        for outcome in self._rank()[:SHOWN]:
            result = (self._metric(outcome.metrics), f"{outcome.seconds:.0f} s")
            table.add_row(*self._cells(outcome.keys), "", *result, style=style)
            style = ""
        return Group(Text(title), table)

    def _rank(self) -> list[TrialOutcome]:
        """Return the finished trials, the best first."""
        done = [outcome for outcome in self.ended if outcome.status == "done"]
        return sorted(
            done,
            key=lambda outcome: outcome.metrics[self.sweep.metric],
            reverse=self.sweep.mode == "max",
        )

    def _cells(self, keys: Mapping[str, Any]) -> list[str]:
        return [str(keys.get(key, "")) for key in self.sweep.keys]
