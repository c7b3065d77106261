"""Print errors, progress and tables on the terminal.

Show control characters in the names of files, classes and scenes instead of sending them to the terminal.

A name may contain the escape sequences that move the cursor, set the title or hide text, and line breaks that imitate
messages.

Warn about licenses that restrict the use of a bundle.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from rich import box
from rich.console import Console, ConsoleDimensions, ConsoleOptions, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.segment import Segment
from rich.table import Table
from rich.text import Text
from typer import Abort, Exit
from typer.core import TyperGroup

from rsft.cli.display.failures import explain
from rsft.errors import RecipeError, RsftError
from rsft.utils.licenses import UNKNOWN, describe_license, license_restrictions

if TYPE_CHECKING:
    from rsft.data.chips.store import ChipStore
    from rsft.evaluation.files import Comparison
    from rsft.evaluation.schema import Evaluation
    from rsft.inference.export.parity import AccuracyChange
    from rsft.metrics.accuracy import AccuracySummary
    from rsft.metrics.bootstrap import Interval
    from rsft.types import Progress as ReportProgress


PIPED_WIDTH = 10_000
"""Characters in a line of output that does not go to a terminal, so that no line is cut or wrapped."""

_DIRECTIONS = r"\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # change the order of letters
_CONTROLS = re.compile(rf"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029{_DIRECTIONS}]")
_CONTROLS_IN_LINES = re.compile(rf"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029{_DIRECTIONS}]")


def escape_controls(text: str) -> str:
    r"""Return a text in one line, in which control characters are written as in Python, such as \x1b and \n.

    Args:
        text: the text; tabs stay.

    Example:
        >>> print(escape_controls("ship\x1b[2J\nerror:"))
        ship\x1b[2J\nerror:
    """
    return _CONTROLS.sub(_escape, text)


class PlainConsole(Console):
    """A console that prints every text in one line without control characters.

    Texts of several lines are `Text`; it keeps its line breaks, but no other control characters. Output to a file or to
    another program is not fitted to a window, unless the environment variable COLUMNS sets the width.
    """

    @property
    def is_terminal(self) -> bool:
        """Whether the output goes to a terminal.

        FORCE_COLOR does not make it one. Jupyter sets it for the commands of a notebook, and progress bars would fill
        the notebook with control codes.
        """
        is_stated = self._force_terminal is not None or self._environ.get("TTY_COMPATIBLE") == "1"
        return super().is_terminal and (is_stated or self._environ.get("FORCE_COLOR") is None or _is_tty(self.file))

    @property
    def size(self) -> ConsoleDimensions:
        """Width and height in characters; without a terminal, the width is `PIPED_WIDTH`."""
        size = super().size
        is_fitted = self.is_terminal or self._width is not None or "COLUMNS" in os.environ
        return size if is_fitted else ConsoleDimensions(PIPED_WIDTH, size.height)

    @size.setter
    def size(self, size: tuple[int, int]) -> None:
        """Set width and height in characters."""
        self._width, self._height = size

    def render_str(self, text: str, **options: Any) -> Text:
        """Return a text, or a cell of a table, as it is printed."""
        return super().render_str(escape_controls(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Yield the parts of anything that is printed."""
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else _CONTROLS_IN_LINES.sub(_escape, text), style, control)


class PlainFormatter(logging.Formatter):
    """Formats the message of a log record in one line without control characters."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the message, and the traceback of an exception."""
        message = escape_controls(record.getMessage())
        return f"{message}\n{self.formatException(record.exc_info)}" if record.exc_info else message


class PlainGroup(TyperGroup):
    """A group of commands that shows arguments in usage errors without control characters."""

    def make_context(self, *arguments: Any, **options: Any) -> Any:
        """Parse the options of the group."""
        with _plain_usage_errors():
            return super().make_context(*arguments, **options)

    def invoke(self, ctx: Any) -> Any:  # typer has several classes of contexts
        """Parse the arguments of the command, and run it."""
        with _plain_usage_errors():
            return super().invoke(ctx)


def _is_tty(file: IO[str]) -> bool:
    try:
        return file.isatty()
    except ValueError:  # it is closed
        return False


@contextmanager
def _plain_usage_errors() -> Iterator[None]:
    try:
        yield
    except Exception as exception:
        error: Any = exception
        if hasattr(error, "format_message") and isinstance(message := getattr(error, "message", None), str):
            error.message = escape_controls(message)
        raise


def format_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """Return a warning in one line without control characters; replaces `warnings.formatwarning`.

    Args:
        message: the warning.
        category: its type.
        filename: not shown, as `lineno` and `line`, which name code of rsft and not the user's input.
        lineno: not shown.
        line: not shown.
    """
    return f"{category.__name__}: {escape_controls(str(message))}\n"


def _escape(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode()


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
    kind = type(error).__name__
    if isinstance(error, RecipeError):
        return {"kind": kind, "message": error.message, "faults": [fault.as_json() for fault in error.faults]}
    if isinstance(error, RsftError):
        return {"kind": kind, "message": error.message, "location": error.location, "hint": error.hint}
    if isinstance(error, KeyboardInterrupt):
        return {"kind": kind, "message": "stopped"}
    explained = explain(error)
    return _error_fields(explained) if explained else {"kind": kind, "message": f"{kind}: {error}"}


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


def warn_about_licenses(bundles: Sequence[Path], unknown: bool = False) -> None:
    """Print one line to stderr if a license restricts the use of the bundles; nothing otherwise.

    Args:
        bundles: folders as in `find_bundle`.
        unknown: also print one line if a license is unknown.

    Raises:
        RequestError: a folder contains no bundle.
        WeightsError: the index of a bundle is damaged or was edited.
    """
    from rsft.models.bundle.bundle import read_licenses
    from rsft.models.bundle.manifest import restriction_sentence, unknown_sentence

    licenses = list(dict.fromkeys(entry for bundle in bundles for entry in read_licenses(bundle)))
    lines = {"warning": restriction_sentence(licenses), "note": unknown_sentence(licenses) if unknown else None}
    for kind, sentence in lines.items():
        if sentence:
            error_console.print(f"{kind}: {sentence}; see `rsft bundle show`", soft_wrap=True)
