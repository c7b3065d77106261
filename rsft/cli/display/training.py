"""Show a run while it trains (in lines, as JSON, or live in a terminal), a sweep, and a replay check."""

import math
import time
from collections.abc import Mapping
from dataclasses import asdict
from datetime import timedelta
from functools import partial
from typing import Any, Self

from rich.console import Console, Group
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from rsft.cli.display.console import (
    LiveArea,
    can_redraw,
    emit_json_event,
    error_console,
    format_chip_count,
    make_table,
)
from rsft.cli.display.results import report_json_progress
from rsft.cli.display.waiting import WaitingLines
from rsft.peft import Site
from rsft.recipe.schema import Recipe
from rsft.study.outcomes import TrialOutcome, describe_keys, format_measure
from rsft.study.sweep_file import Sweep
from rsft.training.listeners import RunListener, StepReport
from rsft.training.processes import is_rank_zero
from rsft.training.runs.reader import PartReplay
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
    """Receives the events of a run within a `with` block.

    The base class shows nothing.
    """

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class LogLines(Display):
    """Prints one line every `every` steps and one line per epoch, and on stderr what takes long."""

    def __init__(self, recipe: Recipe, console: Console, every: int = 50) -> None:
        self.recipe = recipe
        self.console = console
        self.every = every
        self.waiting = WaitingLines(partial(error_console.print, soft_wrap=True))

    def __enter__(self) -> Self:
        self.waiting.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.waiting.__exit__()

    def print(self, line: str) -> None:
        """Print a line of the log."""
        self.console.print(line, soft_wrap=True)
        self.waiting.postpone()

    def on_progress(self, done: int, total: int, item: str) -> None:
        self.waiting.report(done, total, item)

    def on_start(self, run: Run, metadata: dict[str, Any]) -> None:
        for line in describe_training(self.recipe, metadata).split("\n"):
            self.print(line)
        self.waiting.report(0, 0, "first training step")

    def on_step(self, step: StepReport) -> None:
        self.waiting.report(step.done, step.total, "training steps")
        if step.done % self.every == 0:
            position = (
                f"epoch {step.epoch + 1}/{self.recipe.train.epochs}  step"
                f" {step.step}/{step.steps}"
            )
            self.print(f"{position}  loss {step.loss:.3f}  {describe_speed(step)}")

    def on_epoch_end(self, row: dict[str, float], scales: dict[Site, float]) -> None:
        columns = {
            key: name for key, name in COLUMNS.items() if not math.isnan(row[key])
        }
        cells = "  ".join(
            f"{name} {format_cell(key, row[key])}" for key, name in columns.items()
        )
        self.print(f"{cells}  {row['images_per_s']:.0f} images/s")


class JsonLines(Display):
    """Prints one JSON object per line: the events progress, started, step (every `every` steps) and epoch.

    Keys contain units.
    """

    def __init__(self, every: int = 50) -> None:
        self.every = every
        self.report = report_json_progress()

    def on_progress(self, done: int, total: int, item: str) -> None:
        self.report(done, total, item)

    def on_start(self, run: Run, metadata: dict[str, Any]) -> None:
        emit_json_event("started", {"run": str(run.folder), **metadata})

    def on_step(self, step: StepReport) -> None:
        if step.done % self.every == 0:
            emit_json_event("step", asdict(step))

    def on_epoch_end(self, row: dict[str, float], scales: dict[Site, float]) -> None:
        emit_json_event(
            "epoch",
            {**row, "modulator": {str(site): value for site, value in scales.items()}},
        )


def describe_training(recipe: Recipe, metadata: Mapping[str, Any]) -> str:
    """Return what is trained, and on which data, in one line; a second line names the start bundle, if there is one."""
    if recipe.meta is not None:
        modulated = " with a modulator (MetaPEFT)"
    else:
        modulated = ""
    trained = (
        f"{metadata['trained_parameters']:,} of {metadata['total_parameters']:,}"
        " parameters trained"
    )
    chips = f"{metadata['train_chips']:,} training chips  on {metadata['device']}"
    line = (
        f"{recipe.name}  {recipe.backbone.name}  {recipe.peft.title}{modulated} "
        f" {trained}  {chips}"
    )
    if "start" not in metadata:
        return line
    start = metadata["start"]
    depth = sum(metadata["stage_depths"])
    kept = start["kept_blocks"]
    part = "all blocks and the head are trained"
    if kept == depth:
        part = "the blocks stay as they are, the head is trained"
    elif kept:
        part = (
            f"the first {kept} of {depth} blocks stay as they are, the others and the"
            " head are trained"
        )
    new = start["new_classes"]
    if new:
        classes = f"{len(new)} new class{'es' * (len(new) != 1)}: {', '.join(new)}"
    else:
        classes = "no new class"
    return (
        f"{line}\nstarts at {start['bundle']} ({start['sha256'][:12]}): {part} "
        f" {classes}"
    )


def describe_speed(step: StepReport) -> str:
    """Return speed, the parts of a step's time, memory, and remaining time in one line."""
    whole = step.data_s + step.inner_s + step.outer_s
    parts = f"{1000 * step.data_s:.0f} data + {1000 * step.inner_s:.0f} inner"
    parts += f" + {1000 * step.outer_s:.0f} outer" if step.outer_s else ""
    memory = f"{step.memory_mb / 1000:.1f} GB"
    memory += (
        "" if math.isnan(step.gpu_mb) else f" + {step.gpu_mb / 1000:.1f} GB of the GPU"
    )
    remaining = timedelta(seconds=round(step.left_s))
    return (
        f"{step.images_per_s:.0f} images/s  {1000 * whole:.0f} ms/step ({parts}) "
        f" {memory}  {remaining} left"
    )


def format_cell(key: str, value: float) -> str:
    """Return a value of a column of metrics.csv as shown: epochs from 1, accuracies in %."""
    if key == "epoch":
        return str(int(value) + 1)
    if math.isnan(value):
        return "-"
    if key.endswith("loss"):
        return f"{value:.3f}"
    return f"{100 * value:.1f}"


EPOCHS_SHOWN = 8
EXTREMES_SHOWN = 3


def choose_display(
    recipe: Recipe, console: Console, *, quiet: bool, as_json: bool, every: int
) -> Display:
    """Return the live display on a terminal that can be redrawn, else log lines or JSON lines.

    Only the first of several processes shows anything.

    Args:
        recipe: the recipe of the run.
        console: where to print.
        quiet: show nothing.
        as_json: print JSON lines.
        every: steps between lines.
    """
    if quiet or not is_rank_zero():
        return Display()
    if as_json:
        return JsonLines(every)
    if can_redraw(console):
        return LiveDisplay(recipe, console)
    return LogLines(recipe, console, every)


class LiveDisplay(Display):
    """Display that is redrawn in place in a terminal."""

    def __init__(self, recipe: Recipe, console: Console) -> None:
        self.recipe = recipe
        self.rows: list[dict[str, float]] = []
        self.scales: dict[Site, float] = {}
        self.header = self.speed_line = ""
        texts = (
            TextColumn(text, markup=False)
            for text in ("{task.description}", "{task.fields[note]}")
        )
        self.bar = Progress(
            next(texts), BarColumn(bar_width=40), next(texts), console=console
        )
        self.task = self.bar.add_task("reading chips", total=None, note="")
        self.live = LiveArea(
            get_renderable=self._render,
            console=console,
            refresh_per_second=4,
            auto_refresh=True,
        )

    def __enter__(self) -> Self:
        self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.update(self.task, visible=False)
        self.live.stop()

    def on_progress(self, done: int, total: int, item: str) -> None:
        note = f"{done:,}/{total:,}" if total else ""
        self.bar.update(
            self.task, description=item, completed=done, total=total or None, note=note
        )

    def on_start(self, run: Run, metadata: dict[str, Any]) -> None:
        self.header = describe_training(self.recipe, metadata)
        self.bar.update(self.task, completed=0, total=None, note="")

    def on_step(self, step: StepReport) -> None:
        self.speed_line = describe_speed(step)
        epoch = f"epoch {step.epoch + 1}/{self.recipe.train.epochs}"
        note = f"loss {step.loss:.3f}"
        self.bar.update(
            self.task,
            description=epoch,
            completed=step.done,
            total=step.total,
            note=note,
        )

    def on_epoch_end(self, row: dict[str, float], scales: dict[Site, float]) -> None:
        self.rows.append(row)
        self.scales = scales

    def _render(self) -> Group:
        parts: list[Any] = [Text(self.header)] if self.header else []
        parts += [self.bar, Text(self.speed_line)] if self.speed_line else [self.bar]
        if self.rows:
            table = Table(
                box=None,
                pad_edge=False,
                title="accuracy on the validation split, %",
                title_justify="left",
            )
            shown = {
                key: name
                for key, name in COLUMNS.items()
                if any(not math.isnan(row[key]) for row in self.rows)
            }
            for name in shown.values():
                table.add_column(name, justify="right")
            for row in self.rows[-EPOCHS_SHOWN:]:
                table.add_row(*(format_cell(key, row[key]) for key in shown))
            parts.append(table)
        if self.scales:
            ranked = sorted(self.scales.items(), key=lambda item: item[1])
            largest, smallest = (
                ", ".join(
                    f"{site.block}.{site.position} {value:.2f}"
                    for site, value in extremes
                )
                for extremes in (
                    ranked[: -EXTREMES_SHOWN - 1 : -1],
                    ranked[:EXTREMES_SHOWN],
                )
            )
            parts.append(
                Text(f"scales  largest {largest}  smallest {smallest}", style="magenta")
            )
        return Group(*parts)


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
        self.ended += [outcome] if outcome else []
        if not self.is_live:
            if outcome:
                result = f"{outcome.status}: {outcome.reason}"
            else:
                result = "stopped"
            if outcome and outcome.status == "done":
                result = (
                    f"{self.sweep.metric} {self._metric(outcome.metrics)} "
                    f" {outcome.seconds:.0f} s"
                )
            line = f"{len(self.ended)}/{self.total}  {describe_keys(keys)}  {result}"
            self.console.print(line, soft_wrap=True)

    def _metric(self, values: Mapping[str, Any]) -> str:
        value = values.get(self.sweep.metric)
        if value is None:
            return "-"
        return format_measure(self.sweep.metric, float(value))

    def _render(self) -> Group:
        failed = sum(outcome.status == "failed" for outcome in self.ended)
        title = (
            f"{len(self.ended)} of {self.total} trials have ended"
            + f", {failed} failed" * bool(failed)
        )
        table = Table(
            *self.sweep.keys, "epoch", self.sweep.metric, "", box=None, pad_edge=False
        )
        for keys, began, row in self.running.values():
            epoch = str(int(row["epoch"]) + 1) if row else "-"
            state = f"running, {time.monotonic() - began:.0f} s"
            table.add_row(
                *self._cells(keys), epoch, self._metric(row), state, style="yellow"
            )
        done = [outcome for outcome in self.ended if outcome.status == "done"]
        done.sort(
            key=lambda outcome: outcome.metrics[self.sweep.metric],
            reverse=self.sweep.mode == "max",
        )
        for index, outcome in enumerate(done[:SHOWN]):
            cells = (
                *self._cells(outcome.keys),
                "",
                self._metric(outcome.metrics),
                f"{outcome.seconds:.0f} s",
            )
            table.add_row(*cells, style="" if index else "bold")
        return Group(Text(title), table)

    def _cells(self, keys: Mapping[str, Any]) -> list[str]:
        return [str(keys.get(key, "")) for key in self.sweep.keys]


MAX_ROWS = 30
"""Classes in a table; of more classes, those with the most gained and lost chips are
shown."""


def replay_table(part: PartReplay) -> Table:
    """Return recall before and after, and gained and lost chips, by class, and the mean over classes below them."""
    rows = part.classes
    if len(rows) > MAX_ROWS:
        changed = sorted(rows, key=lambda row: -row.gained - row.lost)[:MAX_ROWS]
        rows = tuple(row for row in rows if row in changed)
    hidden = len(part.classes) - len(rows)
    title = f"replay check, {format_chip_count(part.chips)}: {part.name}; recall in %"
    title += f" ({hidden} classes with fewer changes are not shown)" if hidden else ""
    table = make_table(
        title,
        ("class", "chips", "before", "after", "gained", "lost", "p (McNemar, Holm)"),
    )
    for row in rows:
        recall = (
            "new" if row.before is None else _percent(row.before),
            _percent(row.after),
        )
        counts = f"{row.gained:,}", f"{row.lost:,}", f"{row.p:.2g}"
        table.add_row(
            row.name,
            f"{row.chips:,}",
            *recall,
            *counts,
            style="red" if row.lost_more_than_chance or row.fell else "",
        )
    table.add_section()
    totals = (
        f"{part.chips:,}",
        _percent(part.macro_before),
        _percent(part.macro_after),
    )
    table.add_row(
        "macro",
        *totals,
        f"{part.gained:,}",
        f"{part.lost:,}",
        f"{part.p:.2g}",
        style="bold",
    )
    return table


def _percent(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{100 * value:.1f}"
