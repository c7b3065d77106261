"""What the terminal shows: faults with their way out, progress, tables of numbers."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from rsft.errors import RecipeError, RsftError

if TYPE_CHECKING:
    from rsft.data.chips.store import ChipStore
    from rsft.evaluation.evaluate import Evaluation
    from rsft.evaluation.paired_comparison import Comparison
    from rsft.inference.archive.archive import Archive
    from rsft.inference.export.parity import Change
    from rsft.inference.predict.job import Predictions
    from rsft.metrics.accuracy import Summary
    from rsft.metrics.bootstrap import Interval

console = Console(highlight=False)
errors = Console(stderr=True, highlight=False)

CLASSES_SHOWN = 50
"""A longer list of classes is no longer read: their groups are shown instead."""

Report = Callable[[int, int, str], None]  # done, total, what


def show_error(error: RsftError) -> None:
    """What went wrong, where, and how to mend it."""
    if isinstance(error, RecipeError):
        errors.print(Text.assemble(("error: ", "bold red"), error.what))
        for fault in error.faults:
            place = f"{fault.file}:{fault.line}" if fault.line else fault.file
            errors.print(Text.assemble("  ", (place, "cyan"), "  ", (fault.key, "bold"), f"  found {fault.found}"))
            errors.print(Text(f"      {fault.allowed}"))
        return
    errors.print(Text.assemble(("error: ", "bold red"), error.what), soft_wrap=True)
    if error.where:
        errors.print(Text.assemble(("where: ", "bold"), error.where), soft_wrap=True)
    if error.fix:
        errors.print(Text.assemble(("mend:  ", "bold"), error.fix), soft_wrap=True)


def show_event(event: str, facts: Mapping[str, Any]) -> None:
    """One JSON object on a line of its own; a number that is none is null."""
    known = {
        key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in facts.items()
    }
    print(json.dumps({"event": event, **known}), flush=True)


@contextmanager
def hushed(quiet: bool, as_json: bool = False) -> Iterator[None]:
    """Within the block a hushed console shows no table and no progress; with JSON, an error is an event too."""
    console.quiet = quiet or as_json
    try:
        yield
    except (RsftError, OSError, KeyboardInterrupt) as error:
        if as_json:
            show_event("error", _told(error))
        raise
    finally:
        console.quiet = False


def _told(error: BaseException) -> dict[str, Any]:
    if isinstance(error, RecipeError):
        return {"what": error.what, "faults": [vars(fault) for fault in error.faults]}
    if isinstance(error, RsftError):
        return {"what": error.what, "where": error.where, "fix": error.fix}
    return {"what": str(error) or "stopped"}


@contextmanager
def progress() -> Iterator[Report]:
    """A bar a task; the callable takes (done, total, what) and may name several tasks in turn."""
    columns = (TextColumn("{task.description:<22}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        tasks = {}

        def report(done: int, total: int, what: str) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done, total=total)

        yield report


def counts_table(title: str, counts: Mapping[str, Mapping[str, int]], heading: str = "class") -> Table:
    """Classes down, splits or what else is counted across."""
    splits = list(dict.fromkeys(split for row in counts.values() for split in row))
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, min_width=len(title))
    table.add_column(heading)
    for split in splits:
        table.add_column(split, justify="right")
    for name, row in counts.items():
        table.add_row(name, *(f"{row.get(split, 0):,}" for split in splits))
    return table


def show_evaluation(evaluation: Evaluation) -> None:
    """The table of numbers, what the sets are worth, and what the reader must know."""
    console.print(metrics_table(evaluation))
    if evaluation.confidence is not None:
        usual = next(found for found in evaluation.confidence["coverage"] if found["asked"] == 0.9)
        groups = {name: found for name, found in usual["groups"].items() if found}
        held = ", ".join(f"{name} {found['value']:.0%}" for name, found in groups.items())
        console.print(f"sets of 90 %: hold the class of {held}; {groups['all']['size']:.1f} classes a set")
    for note in evaluation.notes:
        console.print(note, markup=False)


def metrics_table(evaluation: Evaluation) -> Table:
    """Methods down, groups across, in % and half of the 95 % interval."""
    title = f"{evaluation.count:,} chips of {evaluation.data}, split {evaluation.split}; accuracy in %, 95 % interval"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("method", no_wrap=True)
    columns = {"head": "head", "medium": "medium", "tail": "tail", "macro": "macro", "micro": "overall"}
    shown = {key: name for key, name in columns.items() if any(getattr(s, key) for s in evaluation.methods.values())}
    for name in shown.values():
        table.add_column(name, justify="right", no_wrap=True)
    for index, (method, summary) in enumerate(evaluation.methods.items()):
        cells = [_percent(summary, key) for key in shown]
        table.add_row(method, *cells, style="bold" if index == 0 else "")
    return table


def _percent(summary: Summary, key: str) -> str:
    interval: Interval | None = getattr(summary, key)
    if interval is None:
        return "-"
    return f"{100 * interval.value:.1f} [dim]±{50 * (interval.high - interval.low):.0f}[/dim]"


def comparison_table(comparison: Comparison) -> Table:
    """Measures down: the difference in points, its interval, and McNemar's test where it applies."""
    title = f"{comparison.count:,} chips: this run less {comparison.second}, in points, 95 % interval"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("measure")
    for name in ("difference", "interval", "only this right", "only the other", "p (McNemar)"):
        table.add_column(name, justify="right", no_wrap=True)
    tests = comparison.paired.mcnemar
    for name, found in comparison.paired.differences.items():
        test = tests.get("all" if name == "micro" else name)
        counts = (f"{test.first:,}", f"{test.second:,}", f"{test.p:.2g}") if test else ("", "", "")
        spread = f"{100 * found.low:+.1f} to {100 * found.high:+.1f}"
        table.add_row({"micro": "overall"}.get(name, name), f"{100 * found.value:+.1f}", spread, *counts)
    return table


def show_store(store: ChipStore) -> None:
    """Counts by class (by group where there are many) and split, and what was left out or rejected."""
    few = len(store.classes) <= CLASSES_SHOWN
    column, names = ("class", store.classes) if few else ("group", tuple(store.groups))
    by_split = store.table.groupby("split", sort=False)[column].value_counts()
    splits = [split for split in ("train", "val", "test") if not store.split(split).empty]
    counts = {name: {split: int(by_split.get((split, name), 0)) for split in splits} for name in names}
    title = f"{_many(len(store.table))} in {store.root}"
    title = title if few else f"{title}, {len(store.classes):,} classes by group"
    console.print(counts_table(title, counts, heading=column))
    for reason, count in store.skipped.items():
        console.print(f"left out: {count:,}  {reason}", markup=False)
    if store.rejected:
        console.print(f"{store.rejected:,} rejected: see {store.root / 'rejected.csv'}")


def show_predictions(result: Predictions) -> None:
    """Counts by class, notes, and the first chips that were refused."""
    console.print(
        counts_table(f"{_many(len(result.table))} classified", {k: {"chips": n} for k, n in result.counts.items()})
    )
    for note in result.notes:
        console.print(note)
    if result.rejected:
        console.print(f"[yellow]{len(result.rejected):,} refused[/yellow]")
        for path, reason in result.rejected[:20]:
            console.print(f"  {path}: {reason}", soft_wrap=True, markup=False)
    show_paths({"predictions": result.out})


def show_archive(archive: Archive) -> None:
    """Scenes by what became of them, and why the first failed."""
    told = (f"{count:,} {status}" for status, count in archive.counts.items())
    chips = sum(outcome.chips for outcome in archive.outcomes)
    console.print(f"scenes: {', '.join(told) or 'none'}; {_many(chips)} classified")
    failed = [outcome for outcome in archive.outcomes if outcome.status == "failed"]
    for outcome in failed[:20]:
        console.print(f"  failed  {outcome.scene}: {outcome.reason}", soft_wrap=True, markup=False)
    if skipped := archive.counts["skipped"]:
        console.print(f"{skipped:,} were done before: the folder has their outputs, of this bundle and this request")
    if refused := sum(outcome.refused for outcome in archive.outcomes):
        console.print(f"[yellow]{refused:,} chips refused[/yellow], listed in <scene>.rejected.csv")
    show_paths({"scenes": archive.summary})


def _many(count: int) -> str:
    return f"{count:,} chip{'s' * (count != 1)}"


def changes_table(changes: Mapping[str, Change]) -> Table:
    """Accuracy in % before and after, by group, and the difference in points."""
    table = Table(title="accuracy in %, validation chips", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("group")
    for name in ("chips", "other answer", "torch fp32", "int8", "points"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, found in changes.items():
        cells = (f"{100 * found.before:.2f}", f"{100 * found.after:.2f}", f"{round(-found.lost, 2) + 0.0:+.2f}")
        table.add_row(name, f"{found.chips:,}", f"{found.differ:,}", *cells)
    return table


def show_paths(paths: dict[str, Path]) -> None:
    """Where things were written."""
    for name, path in paths.items():
        console.print(f"{name:<12} {path}", soft_wrap=True, markup=False)
