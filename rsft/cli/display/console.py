"""Print errors, progress and tables on the terminal."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text
from typer import Abort, Exit

from rsft.cli.display.failures import explain
from rsft.cli.display.plain_text import PlainConsole, escape_controls
from rsft.errors import RecipeError, RsftError
from rsft.utils.licenses import UNKNOWN, describe_license, license_restrictions

if TYPE_CHECKING:
    from rsft.data.chips.store import ChipStore
    from rsft.evaluation.paired_comparison import Comparison
    from rsft.evaluation.schema import Evaluation
    from rsft.inference.export.parity import AccuracyChange
    from rsft.metrics.accuracy import AccuracySummary
    from rsft.metrics.bootstrap import Interval
    from rsft.types import Progress as ReportProgress

console = PlainConsole(highlight=False, markup=False, emoji=False)
error_console = PlainConsole(stderr=True, highlight=False, markup=False, emoji=False)
"""The consoles of all commands. They print text as it is, because names of files and classes may contain `[red]` or
`:ship:`, but escape control characters. Styles come from `Text` and `style=`."""

CLASSES_SHOWN = 50
"""Largest number of classes that tables list one by one; above it, they list groups."""


def show_error(error: RsftError) -> None:
    """Print the message of an error, its location and its hint."""
    if isinstance(error, RecipeError):
        error_console.print(Text.assemble(("error: ", "bold red"), escape_controls(error.message)))
        for fault in error.faults:
            position = escape_controls(f"{fault.file}:{fault.line}" if fault.line else fault.file)
            key, value = escape_controls(fault.key), escape_controls(fault.value)
            error_console.print(Text.assemble("  ", (position, "cyan"), "  ", (key, "bold"), f"  found {value}"))
            error_console.print(f"      {fault.allowed}")
        return
    error_console.print(Text.assemble(("error: ", "bold red"), escape_controls(error.message)), soft_wrap=True)
    if error.location:
        error_console.print(Text.assemble(("where: ", "bold"), escape_controls(error.location)), soft_wrap=True)
    if error.hint:
        error_console.print(Text.assemble(("hint:  ", "bold"), escape_controls(error.hint)), soft_wrap=True)


def emit_json_event(event: str, fields: Mapping[str, Any]) -> None:
    """Print one JSON object on one line. NaN and infinity become null.

    Args:
        event: name of the event.
        fields: further keys of the object.
    """
    finite = {
        key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in fields.items()
    }
    print(json.dumps({"event": event, **finite}), flush=True)


@contextmanager
def quiet_console(quiet: bool, as_json: bool = False) -> Iterator[None]:
    """Suppress tables and progress within the block.

    Args:
        quiet: suppress the output.
        as_json: suppress the output, and print errors as events.
    """
    console.quiet = quiet or as_json
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        if as_json and not isinstance(error, (Exit, Abort)):
            emit_json_event("error", _error_fields(error))
        raise
    finally:
        console.quiet = False


def _error_fields(error: BaseException) -> dict[str, Any]:
    if isinstance(error, RecipeError):
        return {"what": error.message, "faults": [fault.as_json() for fault in error.faults]}
    if isinstance(error, RsftError):
        return {"what": error.message, "where": error.location, "fix": error.hint}
    if isinstance(error, KeyboardInterrupt):
        return {"what": "stopped"}
    explained = explain(error)
    return _error_fields(explained) if explained else {"what": f"{type(error).__name__}: {error}"}


@contextmanager
def progress() -> Iterator[ReportProgress]:
    """Show one bar per task. The callable takes (done, total, task) and may name several tasks in turn."""
    columns = (
        TextColumn("{task.description:<22}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        tasks = {}

        def report(done: int, total: int, task: str) -> None:
            if task not in tasks:
                tasks[task] = bars.add_task(task, total=total)
            bars.update(tasks[task], completed=done, total=total)

        yield report


def counts_table(title: str, counts: Mapping[str, Mapping[str, int]], heading: str = "class") -> Table:
    """Return a table of counts.

    Args:
        title: title of the table.
        counts: counts by row and column, such as class and split.
        heading: heading of the first column.

    Returns:
        A table with rows down and columns across.
    """
    splits = list(dict.fromkeys(split for row in counts.values() for split in row))
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, min_width=len(title))
    table.add_column(heading)
    for split in splits:
        table.add_column(split, justify="right")
    for name, row in counts.items():
        table.add_row(name, *(f"{row.get(split, 0):,}" for split in splits))
    return table


def show_evaluation(evaluation: Evaluation) -> None:
    """Print the accuracy table, the coverage of class sets, and notes."""
    console.print(metrics_table(evaluation))
    if evaluation.confidence is not None:
        level = next(level for level in evaluation.confidence.coverage if level.target == 0.9)
        groups = {name: coverage for name, coverage in level.groups.items() if coverage}
        shares = ", ".join(f"{name} {coverage.value:.0%}" for name, coverage in groups.items())
        console.print(
            f"class sets of 90 %: contain the true class of {shares}; {groups['all'].size:.1f} classes per set"
        )
    for note in evaluation.notes:
        console.print(note)


def metrics_table(evaluation: Evaluation) -> Table:
    """Return accuracy by method and group.

    Args:
        evaluation: the numbers of one evaluation.

    Returns:
        A table with methods down, groups across; in % with half the width of the 95 % interval.
    """
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


def _percent(summary: AccuracySummary, key: str) -> Text:
    interval: Interval | None = getattr(summary, key)
    if interval is None:
        return Text("-")
    return Text.assemble(f"{100 * interval.value:.1f} ", (f"±{50 * (interval.high - interval.low):.0f}", "dim"))


def comparison_table(comparison: Comparison) -> Table:
    """Return the paired differences of two runs.

    Args:
        comparison: the two runs on the same chips.

    Returns:
        A table with measures down: difference in points, its interval, and McNemar's test where it applies.
    """
    title = f"{comparison.count:,} chips: this run minus {comparison.second}, in points, 95 % interval"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("measure")
    for name in ("difference", "interval", "this correct", "other correct", "p (McNemar)"):
        table.add_column(name, justify="right", no_wrap=True)
    tests = comparison.paired.mcnemar
    for name, difference in comparison.paired.differences.items():
        test = tests.get("all" if name == "micro" else name)
        counts = (f"{test.first:,}", f"{test.second:,}", f"{test.p:.2g}") if test else ("", "", "")
        spread = f"{100 * difference.low:+.1f} to {100 * difference.high:+.1f}"
        table.add_row({"micro": "overall"}.get(name, name), f"{100 * difference.value:+.1f}", spread, *counts)
    return table


def show_store(store: ChipStore) -> None:
    """Print the counts by class (by group if there are many classes) and split, and what was skipped or rejected."""
    few = len(store.classes) <= CLASSES_SHOWN
    column, names = ("class", store.classes) if few else ("group", tuple(store.groups))
    by_split = store.table.groupby("split", sort=False)[column].value_counts()
    splits = [split for split in ("train", "val", "test") if not store.split(split).empty]
    counts = {name: {split: int(by_split.get((split, name), 0)) for split in splits} for name in names}
    title = f"{format_chip_count(len(store.table))} in {store.root}"
    title = title if few else f"{title}, {len(store.classes):,} classes by group"
    console.print(counts_table(title, counts, heading=column))
    if store.license != UNKNOWN:
        console.print(f"license: {describe_license(store.license, license_restrictions(store.license))}")
    for reason, count in store.skipped.items():
        console.print(f"skipped: {count:,}  {reason}")
    if store.rejected:
        console.print(f"{store.rejected:,} rejected: see {store.root / 'rejected.csv'}")


def show_flags(store: ChipStore) -> None:
    """Print the number of chips with each flag."""
    for flag, count in store.table["flags"].str.split(",").explode().value_counts().items():
        if flag:
            console.print(f"flagged: {count:,}  {flag}")


def format_chip_count(count: int) -> str:
    """Return a number of chips as a text, such as "1 chip" or "1,200 chips"."""
    return f"{count:,} chip{'s' * (count != 1)}"


def changes_table(changes: Mapping[str, AccuracyChange]) -> Table:
    """Return accuracy before and after quantization.

    Args:
        changes: the change by group.

    Returns:
        A table with accuracy in % before and after, and the difference in points.
    """
    table = Table(title="accuracy in %, validation chips", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("group")
    for name in ("chips", "changed", "torch fp32", "int8", "points"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, change in changes.items():
        cells = (f"{100 * change.before:.2f}", f"{100 * change.after:.2f}", f"{round(-change.lost, 2) + 0.0:+.2f}")
        table.add_row(name, f"{change.chips:,}", f"{change.differ:,}", *cells)
    return table


def two_lines(first: str, second: str) -> Text:
    """Return a cell of two lines, the second one dimmed."""
    return Text.assemble(escape_controls(first), "\n", (escape_controls(second), "dim"))


def show_paths(paths: dict[str, Path]) -> None:
    """Print the paths of written files, by name."""
    for name, path in paths.items():
        console.print(f"{name:<12} {path}", soft_wrap=True)
