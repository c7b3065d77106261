"""Print errors, warnings, progress and tables on the terminal, without control characters of names.

Every exception is one sentence with a hint; a crash file is written for those that rsft
does not expect.

The name of a file, class or scene may contain escape sequences that move the cursor,
set the title or hide text, and line breaks that imitate messages. They are shown
instead of sent to the terminal.
"""

from __future__ import annotations

import io
import json
import logging
import math
import os
import platform
import re
import shlex
import tempfile
import traceback
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console, ConsoleDimensions, ConsoleOptions, RenderableType
from rich.live import Live
from rich.segment import Segment
from rich.table import Table
from rich.text import Text
from typer import Abort, Exit
from typer.core import TyperGroup

from rsft.cli.display.waiting import WaitingLines
from rsft.errors import RecipeError, RequestError, RsftError
from rsft.utils.fence import explain_fence
from rsft.utils.licenses import UNKNOWN, describe_license, license_restrictions
from rsft.utils.write_errors import explain_os_error

if TYPE_CHECKING:
    from rsft.data.chips.store import ChipStore
    from rsft.evaluation.files import Comparison
    from rsft.evaluation.schema import Evaluation
    from rsft.inference.export.export import AccuracyChange
    from rsft.metrics import Interval
    from rsft.types import Progress as ReportProgress


PIPED_WIDTH = 10_000
"""Characters in a line of output that does not go to a terminal, so that no line is cut
or wrapped."""

_CONTROLS = re.compile(
    r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029"
    r"\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]"  # change the order of letters
)


def escape_controls(text: str, keep: str = "") -> str:
    r"""Return a text in which control characters are written as in Python, such as \x1b and \n.

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
        is_stated = (
            self._force_terminal is not None
            or self._environ.get("TTY_COMPATIBLE") == "1"
        )
        if is_stated or self._environ.get("FORCE_COLOR") is None:
            return super().is_terminal
        return super().is_terminal and not self.file.closed and self.file.isatty()

    @property
    def size(self) -> ConsoleDimensions:
        """Width and height in characters; without a terminal, the width is `PIPED_WIDTH`."""
        size = super().size
        is_fitted = (
            self.is_terminal or self._width is not None or "COLUMNS" in os.environ
        )
        if is_fitted:
            return size
        return ConsoleDimensions(PIPED_WIDTH, size.height)

    @size.setter
    def size(self, size: tuple[int, int]) -> None:
        """Set width and height in characters."""
        self._width, self._height = size

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


def can_redraw(console: Console) -> bool:
    """Return whether `LiveArea` can replace what it shows: on a terminal with control codes, and in a notebook."""
    return console.is_jupyter or (console.is_terminal and not console.is_dumb_terminal)


class LiveArea(Live):
    """Rich's live display, which in a notebook replaces one output of the cell.

    It needs no ipywidgets there.
    """

    _output: Any = None
    _html: str | None = None

    def start(self, refresh: bool = False) -> None:
        """Start; the output belongs to the cell that runs now."""
        super().start(refresh or self.console.is_jupyter)

    def refresh(self) -> None:
        """Show the present state."""
        if not self.console.is_jupyter or self.console.quiet:
            return super().refresh()
        notebook = import_module("IPython.display")
        with self._lock:
            if self.transient and not self._started:
                html = ""
            else:
                html = self._to_html()
            if self._output is None:
                self._output = notebook.display(notebook.HTML(html), display_id=True)
            elif html != self._html:
                self._output.update(notebook.HTML(html))
            self._html = html

    def _to_html(self) -> str:
        page = PlainConsole(
            record=True,
            file=io.StringIO(),
            force_jupyter=False,
            width=self.console.width,
            markup=False,
            emoji=False,
        )
        page.print(self.renderable)
        return page.export_html(inline_styles=True, code_format="<pre>{code}</pre>")

    def stop(self) -> None:
        """Stop, and show the last state, or nothing if the display is transient."""
        was_started = self._started
        was_quiet = self.console.quiet
        self.console.quiet = (
            was_quiet or self.console.is_jupyter
        )  # control codes would be an empty output
        super().stop()
        self.console.quiet = was_quiet
        if was_started and self.console.is_jupyter:
            self.refresh()


class PlainFormatter(logging.Formatter):
    """Formats the message of a log record in one line without control characters."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the message, and the traceback of an exception."""
        message = escape_controls(record.getMessage())
        if record.exc_info:
            return f"{message}\n{self.formatException(record.exc_info)}"
        return message


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


@contextmanager
def _plain_usage_errors() -> Iterator[None]:
    try:
        yield
    except Exception as exception:
        error: Any = exception
        if hasattr(error, "format_message") and isinstance(
            message := getattr(error, "message", None), str
        ):
            error.message = escape_controls(message)
        raise


def format_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    line: str | None = None,
) -> str:
    """Return a warning in one line without control characters; replaces `warnings.formatwarning`.

    The file and the line are not shown, because they name code of rsft and not the
    user's input.
    """
    return f"{category.__name__}: {escape_controls(str(message))}\n"


console = PlainConsole(highlight=False, markup=False, emoji=False)
error_console = PlainConsole(stderr=True, highlight=False, markup=False, emoji=False)
"""The consoles of all commands. They print text as it is, because names of files and
classes may contain `[red]` or `:ship:`, but escape control characters. Styles come from
`Text` and `style=`."""

CLASSES_SHOWN = 50
"""Largest number of classes that tables list one by one; above it, they list groups."""


def show_error(error: RsftError) -> None:
    """Print the message of an error, its location and its hint, or every fault of a recipe."""
    faults = error.faults if isinstance(error, RecipeError) else ()
    if faults:
        others = {}
    else:
        others = {"where: ": error.location, "hint:  ": error.hint}
    error_console.print(
        Text.assemble(("error: ", "bold red"), escape_controls(error.message)),
        soft_wrap=not faults,
    )
    for label, text in others.items():
        if text:
            error_console.print(
                Text.assemble((label, "bold"), escape_controls(text)), soft_wrap=True
            )
    for fault in faults:
        position = escape_controls(
            f"{fault.file}:{fault.line}" if fault.line else fault.file
        )
        key = escape_controls(fault.key)
        value = escape_controls(fault.value)
        error_console.print(
            Text.assemble(
                "  ", (position, "cyan"), "  ", (key, "bold"), f"  found {value}"
            )
        )
        error_console.print(f"      {fault.allowed}")


CRASH_EXIT_CODE = 70
"""Exit code after an exception that rsft does not expect: EX_SOFTWARE of sysexits.h."""

_PACKAGES = (
    "rsft",
    "torch",
    "torchgeo",
    "timm",
    "lightning",
    "numpy",
    "pandas",
    "pyarrow",
    "rasterio",
    "pyogrio",
)
_MEMORY_HINT = (
    "close other programs, or use smaller batches (--batch-size, train.batch_size) and"
    " fewer --jobs"
)
_LONGEST_TEXT = 300  # characters of the text of a library
_OUT_OF_MEMORY = (
    "can't allocate memory",
    "cannot allocate memory",
    "out of memory",
    "bad_alloc",
    "unable to allocate",
)
_FILE_HINT = (
    "check that the file is complete and of the expected format; --debug shows where it"
    " was read"
)


def explain(error: BaseException) -> RsftError | None:
    """Return an exception as a sentence with a way out; None if rsft does not expect this exception."""
    import sqlite3

    if isinstance(error, RsftError):
        return error
    is_out_of_memory = any(word in str(error).lower() for word in _OUT_OF_MEMORY)
    if isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and is_out_of_memory
    ):
        return RsftError("the memory is full", _first_line(error), _MEMORY_HINT)
    if isinstance(error, OSError) and error.errno is not None:
        return explain_fence(error) or explain_os_error(error)
    if isinstance(error, RecursionError):
        return RsftError("the content of a file is nested too deeply", hint=_FILE_HINT)
    if isinstance(error, UnicodeEncodeError):
        name = (
            error.object[max(0, error.start - 40) : error.end + 40]
            .encode(errors="replace")
            .decode()
        )
        return RsftError(
            "a name cannot be written as UTF-8",
            name,
            "rename the file, folder or class",
        )
    if isinstance(error, UnicodeError):
        bad = error if isinstance(error, UnicodeDecodeError) else None
        if bad:
            location = f"byte {bad.start:,}: {bad.object[bad.start : bad.end]!r}"
        else:
            location = ""
        return RsftError(
            "a text file is not UTF-8",
            location,
            "save it as UTF-8; --debug shows where it was read",
        )
    if isinstance(error, sqlite3.Error):
        return RsftError(
            f"a database cannot be read or written: {_first_line(error)}",
            hint=_DATABASE_HINT,
        )
    names = [f"{kind.__module__}.{kind.__qualname__}" for kind in type(error).__mro__]
    subjects = [
        subject
        for prefix, subject in _LIBRARIES.items()
        if any(name.startswith(prefix) for name in names)
    ]
    if subjects:
        return RsftError(f"{subjects[0]}: {_first_line(error)}", hint=_FILE_HINT)
    if isinstance(error, ModuleNotFoundError):
        package = (error.name or "rsft").partition(".")[0]
    else:
        package = "rsft"
    if find_spec(package) is None:  # `pip install --no-deps rsft` left it out
        return RequestError(f"{package} is not installed", "", _INSTALL_HINT)
    return None


_INSTALL_HINT = (
    "install it; `pip install rsft` installs all packages (docs/engines.md, Predict"
    " without PyTorch)"
)
_DATABASE_HINT = (
    "check the disk and that no other program has the file open, then run the same"
    " command again"
)
_LIBRARIES = {
    "rasterio.": "GDAL cannot read or write a raster",
    "pyogrio.": "GDAL cannot read or write a layer",
    "shapely.errors.": "a shape is not valid",
    "pyproj.exceptions.": "a coordinate system is not valid",
    "safetensors": "a weights file cannot be read or written",
    "pyarrow.lib.Arrow": "a table cannot be read or written",
    "zipfile.BadZipFile": "an archive is damaged",
    "json.decoder.": "a JSON file is damaged",
    "_csv.Error": "a CSV table is damaged",
}
"""Modules or names of exceptions by library -> the start of the sentence. The libraries
need not be installed."""


def show_failure(error: Exception, arguments: Sequence[str]) -> int:
    """Show an exception that ended a command with these arguments, and return the exit code."""
    explained = explain(error)
    if explained is not None:
        show_error(explained)
        return explained.exit_code
    crash_file = write_crash_file(error, arguments)
    hint = "run the command again with --debug to see the traceback"
    if crash_file is not None:
        hint = (
            "please report this with the crash file (it has the traceback, versions and"
            " your command line)"
        )
    message = f"rsft has a fault: {type(error).__name__}: {_first_line(error)}"
    show_error(RsftError(message, crash_file or "", hint))
    return CRASH_EXIT_CODE


def write_crash_file(error: BaseException, arguments: Sequence[str]) -> Path | None:
    """Write traceback, versions and command line to a new file that only this user can read. It has no environment.

    Returns:
        The path in the folder of temporary files; None if it cannot be written.
    """
    from importlib import metadata

    versions = []
    for name in _PACKAGES:
        package = next(iter(metadata.distributions(name=name)), None)
        versions.append(f"{name} {package.version if package else '-'}")
    lines = [
        f"command: {shlex.join(['rsft', *arguments])}",
        f"time: {datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        f"system: {platform.platform()}, Python {platform.python_version()}",
        f"versions: {', '.join(versions)}",
        "",
        *traceback.format_exception(error),
    ]
    try:
        handle, name = tempfile.mkstemp(prefix="rsft-crash-", suffix=".txt")
        with os.fdopen(
            handle, "w", encoding="utf-8", errors="backslashreplace"
        ) as file:
            file.write("\n".join(lines))
    except OSError:
        return None
    return Path(name)


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else type(error).__name__
    if len(text) <= _LONGEST_TEXT:
        return text
    return f"{text[:_LONGEST_TEXT]}..."


def emit_json_event(event: str, fields: Mapping[str, Any]) -> None:
    """Print one JSON object on one line: the name of the event, and fields.

    NaN and infinity become null.
    """
    numbers = {
        key: None
        for key, value in fields.items()
        if isinstance(value, float) and not math.isfinite(value)
    }
    print(json.dumps({"event": event, **fields, **numbers}), flush=True)


@contextmanager
def quiet_console(quiet: bool, as_json: bool = False) -> Iterator[None]:
    """Suppress tables and progress within the block if asked to; with `as_json`, print errors as events."""
    before = console.quiet
    console.quiet = console.quiet or quiet or as_json
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        if as_json and not isinstance(error, (Exit, Abort)):
            emit_json_event("error", _error_fields(error))
        raise
    finally:
        console.quiet = before


def _error_fields(error: BaseException) -> dict[str, Any]:
    if isinstance(error, KeyboardInterrupt):
        return {"kind": "KeyboardInterrupt", "message": "stopped"}
    explained = explain(error)
    if explained is None:
        return {
            "kind": type(error).__name__,
            "message": f"{type(error).__name__}: {error}",
        }
    fields = {"kind": type(explained).__name__, "message": explained.message}
    if isinstance(explained, RecipeError):
        return {**fields, "faults": [fault.as_json() for fault in explained.faults]}
    return {**fields, "location": explained.location, "hint": explained.hint}


@contextmanager
def progress() -> Iterator[ReportProgress]:
    """Show one bar per task.

    The callable takes (done, total, task) and may name several tasks in turn.

    Without a terminal, lines on stderr say how far a task is, as a log file needs it.
    """
    if console.quiet:
        yield lambda done, total, task: None
    elif can_redraw(console):
        with _show_bars() as report:
            yield report
    else:
        with WaitingLines(partial(error_console.print, soft_wrap=True)) as lines:
            yield lines.report


@contextmanager
def _show_bars() -> Iterator[ReportProgress]:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TaskID,
        TextColumn,
        TimeRemainingColumn,
    )

    description = TextColumn("{task.description:<22}", markup=False)
    columns = (description, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bars = Progress(*columns, console=console)
    tasks = dict[str, TaskID]()
    area = LiveArea(
        get_renderable=bars.get_renderable,
        console=console,
        transient=True,
        refresh_per_second=10,
    )

    def report(done: int, total: int, task: str) -> None:
        if task not in tasks:
            for bar in bars.tasks:
                bar.visible = (
                    bar.total is not None
                )  # a task of unknown length ends when the next one begins
            tasks[task] = bars.add_task(task, total=None)
        bars.update(tasks[task], completed=done, total=total or None, visible=True)

    with area:
        yield report


@contextmanager
def show_waiting(task: str) -> Iterator[None]:
    """Say within the block what a command waits for, such as the import of a large package."""
    with progress() as report:
        report(0, 0, task)
        yield


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
    title: str, counts: Mapping[str, Mapping[str, int]], heading: str = "class"
) -> Table:
    """Return a table of counts by row and column, such as class and split; `heading` is that of the first column."""
    splits = list(dict.fromkeys(split for row in counts.values() for split in row))
    rows = (
        (name, *(f"{row.get(split, 0):,}" for split in splits))
        for name, row in counts.items()
    )
    return make_table(title, [heading, *splits], rows)


def show_evaluation(evaluation: Evaluation, run: Path) -> None:
    """Print map, result in sentences, accuracies of the run and of the baselines, and notes, as the report does.

    Accuracies are in %, gains of the run over a baseline in points, with half the width
    of the 95 % interval.

    Args:
        evaluation: content of metrics.json.
        run: folder of the bundle, or the run folder.
    """
    from rsft.evaluation.report.dataset import MAPS_DIR
    from rsft.evaluation.report.metric_tables import describe_result
    from rsft.evaluation.schema import MEASURES
    from rsft.models.bundle.bundle import Bundle, find_bundle

    bundle = find_bundle(run)
    maps = bundle.parent / MAPS_DIR
    if maps.is_dir():
        show_paths({"map": maps / "1.png"})
    for sentence in describe_result(evaluation, Bundle.load(bundle).recipe):
        console.print(sentence, soft_wrap=True)
    title = (
        f"{evaluation.count:,} chips of {evaluation.data}, split {evaluation.split};"
        " accuracy in %, 95 % interval"
    )
    shown = {
        key: name
        for key, name in MEASURES.items()
        if any(getattr(s, key) for s in evaluation.methods.values())
    }
    if all(
        f"{x.macro.value:.3f}" == f"{x.micro.value:.3f}"
        for x in evaluation.methods.values()
    ):
        del shown["macro"]
    if evaluation.differences:
        gain = ["gain in macro" if "macro" in shown else "gain"]
    else:
        gain = []
    table = make_table(title, ["method", *shown.values(), *gain])
    for method, summary in evaluation.methods.items():
        cells = [
            _accuracy_cell(getattr(summary, key), mark=evaluation.mark) for key in shown
        ]
        if gain:
            difference = evaluation.differences.get(method, {}).get("macro")
            cells.append(
                _accuracy_cell(difference, sign="+")
                if method != evaluation.method
                else Text("")
            )
        table.add_row(
            method, *cells, style="bold" if method == evaluation.method else ""
        )
    console.print(table)
    if evaluation.confidence is not None:
        level = next(
            level for level in evaluation.confidence.coverage if level.target == 0.9
        )
        shares = {
            name: f"{100 * x.value:.0f} %" for name, x in level.groups.items() if x
        }
        groups = ", ".join(
            f"{name} {share}" for name, share in shares.items() if name != "all"
        )
        share = f"{shares['all']} of the chips" + (f" ({groups})" if groups else "")
        size = next(x.size for name, x in level.groups.items() if name == "all" and x)
        console.print(
            f"90 % class sets contain the true class for {share}; {size:.1f} classes"
            " per set on average"
        )
    if evaluation.small_network is not None:
        console.print(evaluation.small_network.sentence(evaluation.method))
    for note in evaluation.notes:
        console.print(note)


def _accuracy_cell(interval: Interval | None, sign: str = "", mark: str = "") -> Text:
    if interval is None:
        return Text("-")
    spread = (f"±{50 * (interval.high - interval.low):.0f}", "dim")
    return Text.assemble(f"{100 * interval.value:{sign}.1f}{mark} ", spread)


def comparison_table(comparison: Comparison) -> Table:
    """Return the paired differences of two runs by measure, with McNemar's test where it applies."""
    title = (
        f"{comparison.count:,} chips: this run minus {comparison.second}, in points, 95"
        " % interval"
    )
    table = make_table(
        title,
        (
            "measure",
            "difference",
            "interval",
            "this correct",
            "other correct",
            "p (McNemar)",
        ),
    )
    for name, difference in comparison.paired.differences.items():
        test = comparison.paired.mcnemar.get("all" if name == "micro" else name)
        if test:
            counts = (f"{test.first:,}", f"{test.second:,}", f"{test.p:.2g}")
        else:
            counts = ("", "", "")
        spread = f"{100 * difference.low:+.1f} to {100 * difference.high:+.1f}"
        label = "overall" if name == "micro" else name
        table.add_row(label, f"{100 * difference.value:+.1f}", spread, *counts)
    return table


def show_store(store: ChipStore) -> None:
    """Print the counts by class (by group if there are many classes) and split, and what was skipped or rejected."""
    from rsft.data.chips.record import describe_groups

    few = len(store.classes) <= CLASSES_SHOWN
    column, rows = (
        ("class", {name: [name] for name in store.classes})
        if few
        else ("group", store.groups)
    )
    by_split = {
        split: chips for split, chips in store.counts.items() if any(chips.values())
    }
    counts = {
        row: {
            split: sum(chips[name] for name in names)
            for split, chips in by_split.items()
        }
        for row, names in rows.items()
    }
    many = "" if few else f", {len(store.classes):,} classes by group"
    title = f"{format_chip_count(store.size)} in {store.root}{many}"
    console.print(counts_table(title, counts, heading=column))
    console.print(describe_groups(store.groups, store.counts["train"]))
    if store.license != UNKNOWN:
        console.print(
            "license:"
            f" {describe_license(store.license, license_restrictions(store.license))}"
        )
    for reason, count in store.skipped.items():
        console.print(f"skipped: {count:,}  {reason}")
    if store.rejected:
        console.print(f"{store.rejected:,} rejected: see {store.root / 'rejected.csv'}")


def format_chip_count(count: int) -> str:
    """Return a number of chips as a text, such as "1 chip" or "1,200 chips"."""
    return f"{count:,} chip{'s' * (count != 1)}"


def changes_table(changes: Mapping[str, AccuracyChange]) -> Table:
    """Return accuracy in % before and after quantization by group, and the difference in points."""
    columns = ("group", "chips", "changed", "torch fp32", "int8", "points")
    rows = []
    for name, x in changes.items():
        cells = (
            f"{100 * x.before:.2f}",
            f"{100 * x.after:.2f}",
            f"{round(-x.lost, 2) + 0.0:+.2f}",
        )
        rows.append((name, f"{x.chips:,}", f"{x.differ:,}", *cells))
    return make_table("accuracy in %, validation chips", columns, rows)


def two_lines(first: str, second: str) -> Text:
    """Return a cell of two lines, the second one dimmed."""
    return Text.assemble(escape_controls(first), "\n", (escape_controls(second), "dim"))


def show_paths(paths: dict[str, Path]) -> None:
    """Print the paths of written files, by name."""
    for name, path in paths.items():
        console.print(f"{name:<12} {path}", soft_wrap=True)


def show_bundles(bundles: Sequence[Path]) -> None:
    """Print name, folder, day and classes of the bundles that a command uses; runs/<recipe> names its newest run.

    Args:
        bundles: folders as in `find_bundle`.

    Raises:
        RequestError: a folder contains no bundle.
        WeightsError: the index of a bundle is damaged or was edited.
    """
    from rsft.models.bundle.bundle import INDEX_FILE, find_bundle, read_index

    for folder in map(find_bundle, bundles):
        index, _ = read_index(folder)
        day = datetime.fromtimestamp((folder / INDEX_FILE).stat().st_mtime).date()
        if len(index.classes) > 10:
            more = f" and {len(index.classes) - 10} more"
        else:
            more = ""
        classes = ", ".join(index.classes[:10]) + more
        console.print(
            f"bundle: {index.name}, {folder}, saved {day}, classes {classes}",
            soft_wrap=True,
        )


def warn_about_licenses(bundles: Sequence[Path], unknown: bool = False) -> None:
    """Print one line to stderr if a license restricts the use of the bundles; nothing otherwise.

    Args:
        bundles: folders as in `find_bundle`.
        unknown: also print one line if a license is unknown.

    Raises:
        RequestError: a folder contains no bundle.
        WeightsError: the index of a bundle is damaged or was edited.
    """
    from rsft.models.bundle.bundle import license_sentences, read_licenses

    licenses = list(
        dict.fromkeys(entry for bundle in bundles for entry in read_licenses(bundle))
    )
    for kind, sentence in zip(
        ("warning", "note"), license_sentences(licenses), strict=True
    ):
        if sentence and (kind == "warning" or unknown):
            error_console.print(
                f"{kind}: {sentence}; see `rsft bundle show`", soft_wrap=True
            )
