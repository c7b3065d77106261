"""Print texts, tables and progress on the terminal, without control characters.

The name of a file, class or scene may contain escape sequences that move the cursor,
set the title or hide text, and line breaks that imitate messages. They are shown
instead of sent to the terminal.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from rich import box
from rich.console import Console, ConsoleDimensions, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text
from typer.core import TyperGroup

from rsft.cli.display.waiting import WaitingLines
from rsft.utils.licenses import UNKNOWN, describe_license, license_restrictions

if TYPE_CHECKING:
    from rsft.data.chips.store import ChipStore
    from rsft.types import JsonObject
    from rsft.types import Progress as ReportProgress

T = TypeVar("T")

IMPORTS = "loading PyTorch"
"""What a command waits for while it imports PyTorch and the packages that need it."""

MEASURES = {
    "macro": "macro",
    "micro": "overall",
    "head": "head",
    "medium": "medium",
    "tail": "tail",
}
"""Names of measures, where they are shown, by those in files."""

PIPED_WIDTH = 10_000
"""Characters in a line of output that does not go to a terminal, so that no line is cut
or wrapped."""

_CONTROLS = re.compile(
    r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029"
    r"\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]"  # change the order of letters
)


def escape_controls(text: str, keep: str = "") -> str:
    r"""Return a text with its control characters as in Python, such as \x1b and \n.

    Args:
        text: the text; tabs stay.
        keep: further characters that stay, such as line breaks.

    Example:
        >>> print(escape_controls("ship\x1b[2J\nerror:"))
        ship\x1b[2J\nerror:
    """
    return _CONTROLS.sub(
        lambda match: match[0] if match[0] in keep else ascii(match[0])[1:-1], text
    )


class PlainConsole(Console):
    """A console that prints every text in one line without control characters.

    Texts of several lines are `Text`; it keeps its line breaks, but no other control
    characters. Output to a file or to another program is not fitted to a window, unless
    the environment variable COLUMNS sets the width.
    """

    @property
    def is_terminal(self) -> bool:
        """Whether the output goes to a terminal.

        FORCE_COLOR does not make it one. Jupyter sets it for the commands of a
        notebook, and progress bars would fill the notebook with control codes.
        """
        environ = self._environ
        is_stated = (
            self._force_terminal is not None or environ.get("TTY_COMPATIBLE") == "1"
        )
        if is_stated or environ.get("FORCE_COLOR") is None:
            return super().is_terminal
        return super().is_terminal and not self.file.closed and self.file.isatty()

    @property
    def size(self) -> ConsoleDimensions:
        """Width and height in characters; the width of a pipe is `PIPED_WIDTH`."""
        size = super().size
        if self.is_terminal or self._width is not None or "COLUMNS" in os.environ:
            return size
        return ConsoleDimensions(PIPED_WIDTH, size.height)

    @size.setter
    def size(self, size: tuple[int, int]) -> None:
        """Set width and height in characters."""
        self._width, self._height = size

    def print(self, *objects: Any, **options: Any) -> None:
        """Print objects; long lines of text are left to the terminal to wrap."""
        is_text = all(isinstance(item, str | Text) for item in objects)
        super().print(*objects, **{"soft_wrap": is_text, **options})

    def render_str(self, text: str, **options: Any) -> Text:
        """Return a text, or a cell of a table, as it is printed."""
        return super().render_str(escape_controls(text), **options)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Yield the parts of anything that is printed."""
        for text, style, control in super().render(renderable, options):
            yield Segment(
                text if control else escape_controls(text, keep="\n"), style, control
            )


class PlainFormatter(logging.Formatter):
    """Formats the message of a log record in one line without control characters."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the message, and the traceback of an exception."""
        message = escape_controls(record.getMessage())
        if record.exc_info:
            return f"{message}\n{self.formatException(record.exc_info)}"
        return message


class PlainGroup(TyperGroup):
    """A group of commands; its usage errors contain no control characters.

    Its help is a plain list. The boxes around the options of a command need packages
    for Markdown and colored code, which take as long to import as all else.
    """

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help of the group."""
        self.rich_markup_mode = None
        super().format_help(ctx, formatter)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the commands, each with its whole summary."""
        summaries = []
        for name in self.list_commands(ctx):
            command = self.get_command(ctx, name)
            if command and not command.hidden:
                summaries.append((name, command.get_short_help_str(PIPED_WIDTH)))
        with formatter.section("Commands"):
            formatter.write_dl(summaries)

    def make_context(self, *arguments: Any, **options: Any) -> Any:
        """Parse the options of the group."""
        with _plain_usage_errors():
            return super().make_context(*arguments, **options)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments of the group; without any, print its help."""
        # typer's no_args_is_help prints nothing in place of a plain help
        return super().parse_args(ctx, args or ["--help"])

    def invoke(self, ctx: Any) -> Any:  # typer has several classes of contexts
        """Parse the arguments of the command, and run it."""
        with _plain_usage_errors():
            return super().invoke(ctx)


@contextmanager
def _plain_usage_errors() -> Iterator[None]:
    try:
        yield
    except Exception as exception:  # an error of usage, or of the command itself
        error: Any = exception
        if hasattr(error, "format_message"):
            error.message = escape_controls(str(error.message))
        raise


def format_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    line: str | None = None,
) -> str:
    """Return a warning in one line without control characters.

    It replaces `warnings.formatwarning`. The file and the line are not shown, because
    they name code of rsft and not the user's input.
    """
    return f"{category.__name__}: {escape_controls(str(message))}\n"


console = PlainConsole(highlight=False, markup=False, emoji=False)
error_console = PlainConsole(stderr=True, highlight=False, markup=False, emoji=False)
"""The consoles of all commands. They print text as it is, because names of files and
classes may contain `[red]` or `:ship:`, but escape control characters. Styles come from
`Text` and `style=`."""

CLASSES_SHOWN = 24
"""Largest number of classes that a command lists one by one."""

FIRST_CLASSES = 15
"""Number of classes that a command lists of more of them."""


def print_json(content: Any) -> None:
    """Print what JSON can hold, with lines for people."""
    print(json.dumps(content, indent=2))


def emit_json_event(event: str, fields: JsonObject) -> None:
    """Print one JSON object on one line: the name of the event, and fields.

    NaN and infinity become null, and paths texts.
    """
    content = {"event": event, **fields}
    for key, value in fields.items():
        if isinstance(value, float) and not math.isfinite(value):
            content[key] = None
    print(json.dumps(content, default=os.fspath), flush=True)


@contextmanager
def progress() -> Iterator[ReportProgress]:
    """Show a bar of the present task.

    The callable takes (done, total, task) and may name several tasks in turn.

    Without a terminal, lines on stderr say how far a task is, as a log file needs it.
    """
    if console.quiet:
        yield lambda done, total, task: None
    elif console.is_terminal and not console.is_dumb_terminal:
        with _show_bar() as report:
            yield report
    else:
        with WaitingLines(error_console.print) as lines:
            yield lines.report


@contextmanager
def _show_bar() -> Iterator[ReportProgress]:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    description = TextColumn("{task.description:<22}", markup=False)
    columns = (description, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bars:
        bar = bars.add_task("", total=None, visible=False)

        def report(done: int, total: int, task: str) -> None:
            if task != bars.tasks[0].description:
                bars.reset(bar, total=None, description=task, visible=True)
            bars.update(bar, completed=done, total=total or None)

        yield report


@contextmanager
def show_waiting(task: str) -> Iterator[None]:
    """Say within the block what a command waits for, such as an import."""
    with progress() as report:
        report(0, 0, task)
        yield


def shorten(
    rows: Iterable[T], location: object, first: int = FIRST_CLASSES
) -> tuple[list[T], list[str]]:
    """Return the first of many rows, and a line that says where the others are.

    Args:
        rows: one row for each class. Up to `CLASSES_SHOWN` rows are not shortened.
        location: the file, or the option, that shows all rows; None shortens none.
        first: number of rows that are left of more of them.

    Returns:
        The first rows, and at most one line: none if no row is left out.

    Example:
        >>> shorten(range(1_000), "audit.json", first=3)
        ([0, 1, 2], ['… 997 more in audit.json'])
    """
    shown = list(rows)
    if location is None or len(shown) <= CLASSES_SHOWN:
        return shown, []
    return shown[:first], [f"… {len(shown) - first:,} more in {location}"]


def make_table(
    title: str,
    columns: Iterable[str],
    rows: Iterable[Iterable[str | Text]] = (),
    texts: Collection[str] | None = None,
) -> Table:
    """Return a table with a title.

    Args:
        title: "" for none.
        columns: headings of the columns.
        rows: the cells of each row.
        texts: columns of texts (default: the first one); the others are numbers, which
            are aligned to the right.
    """
    table = Table(
        title=title or None,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        min_width=len(title),
    )
    for number, name in enumerate(columns):
        is_text = name in texts if texts is not None else number == 0
        table.add_column(
            name,
            justify="left" if is_text else "right",
            no_wrap=not is_text,
            overflow="fold",
        )
    for row in rows:
        table.add_row(*row)
    return table


def counts_table(
    title: str,
    counts: Mapping[str, Mapping[str, int]],
    location: object = None,
) -> Table:
    """Return a table of counts by class and column, such as split.

    Args:
        title: "" for none.
        counts: class -> column -> count.
        location: the file with all rows, see `shorten`.
    """
    columns = dict.fromkeys(chain.from_iterable(counts.values()))
    table = make_table(title, ["class", *columns])
    names, lines = shorten(counts, location)
    for name in names:
        table.add_row(name, *(f"{counts[name].get(x, 0):,}" for x in columns))
    for line in lines:
        table.add_row(line)
    return table


def show_store(store: ChipStore) -> None:
    """Print counts by class and split, and what was skipped or rejected."""
    from rsft.data.chips.record import describe_groups
    from rsft.data.chips.store import DATASET

    title = f"{format_chip_count(store.size)} in {store.root}"
    counts: dict[str, dict[str, int]] = {name: {} for name in store.classes}
    for split, chips in store.counts.items():
        if any(chips.values()):
            for name in counts:
                counts[name][split] = chips[name]
    console.print(counts_table(title, counts, location=store.root / DATASET))
    console.print(describe_groups(store.groups, store.counts["train"]))
    if store.license != UNKNOWN:
        restrictions = license_restrictions(store.license)
        console.print(f"license: {describe_license(store.license, restrictions)}")
    for reason, count in store.skipped.items():
        console.print(f"skipped: {count:,}  {reason}")
    if store.rejected:
        console.print(f"{store.rejected:,} rejected: see {store.root / 'rejected.csv'}")


def format_chip_count(count: int) -> str:
    """Return a number of chips as a text, such as "1 chip" or "1,200 chips"."""
    return "1 chip" if count == 1 else f"{count:,} chips"


def two_lines(first: str, second: str) -> Text:
    """Return a cell of two lines, the second one dimmed."""
    return Text.assemble(escape_controls(first), "\n", (escape_controls(second), "dim"))


def print_rows(rows: Mapping[str, object], width: int = 0) -> None:
    """Print one line per row: its name and its value.

    Args:
        rows: values by name.
        width: characters of a name; 0 for those of the longest one.
    """
    width = width or max(map(len, rows)) + 1
    for name, value in rows.items():
        console.print(f"{name:<{width}} {value}")


def print_lines(lines: Iterable[object], style: str | None = None) -> None:
    """Print one line per item."""
    for line in lines:
        console.print(str(line), style=style)


def print_counts(kind: str, counts: Mapping[str, int]) -> None:
    """Print a line for each number above 0: what happened, how often, and to what."""
    for name, count in counts.items():
        if count:
            console.print(f"{kind:<12} {count:,}  {name}")


LISTED = 20
"""Largest number of reasons that are printed."""


def print_rejected(
    noun: str, count: int, location: str, reasons: Iterable[str]
) -> None:
    """Print how many inputs were rejected, if any, and the first reasons.

    Args:
        noun: what was rejected, such as "chips".
        count: how many.
        location: file that lists them; "" for none.
        reasons: one line for each.
    """
    if count:
        listed = f", listed in {location}" if location else ""
        console.print(f"{count:,} {noun} rejected{listed}", style="yellow")
        print_lines(f"  {reason}" for reason in islice(reasons, LISTED))


def show_paths(paths: Mapping[str, Path]) -> None:
    """Print the paths of written files, by name."""
    print_rows(paths, 12)


def show_used_bundle(bundle: Path) -> None:
    """Print name, folder, day and classes of the bundle that a command uses.

    Args:
        bundle: a folder as in `find_bundle`.

    Raises:
        RequestError: the folder contains no bundle.
        WeightsError: the index of the bundle is damaged or was edited.
    """
    from rsft.data.chips.class_names import list_first_names
    from rsft.models.bundle.bundle import INDEX_FILE, find_bundle, read_index

    folder = find_bundle(bundle)
    index = read_index(folder)
    day = datetime.fromtimestamp((folder / INDEX_FILE).stat().st_mtime).date()
    classes = list_first_names(index.classes)
    console.print(f"bundle: {index.name}, {folder}, saved {day}, classes {classes}")


def warn_about_licenses(bundle: Path) -> None:
    """Print one line to stderr if a license restricts the use of a bundle.

    Args:
        bundle: a folder as in `find_bundle`.

    Raises:
        RequestError: the folder contains no bundle.
        WeightsError: the index of the bundle is damaged or was edited.
    """
    from rsft.models.bundle.bundle import describe_restrictions, read_licenses

    sentence = describe_restrictions(read_licenses(bundle))
    if sentence:
        error_console.print(f"warning: {sentence}; see `rsft bundle show`")
