"""Explain exceptions: one sentence with a hint, or a crash file.

A crash file is written for exceptions that rsft does not expect.
"""

from __future__ import annotations

import os
import platform
import shlex
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.text import Text
from typer import Abort, Exit

from rsft.cli.display import console as display
from rsft.cli.display.console import emit_json_event, escape_controls
from rsft.errors import RecipeError, RequestError, RsftError
from rsft.utils.write_errors import explain_os_error

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
_LONGEST_TEXT = 300  # characters of the text of a library
_OUT_OF_MEMORY = (
    "can't allocate memory",
    "cannot allocate memory",
    "out of memory",
    "bad_alloc",
    "unable to allocate",
)
_MEMORY_HINT = (
    "close other programs, or use smaller batches (--batch-size, train.batch_size) and"
    " fewer --jobs"
)
_FILE_HINT = (
    "check that the file is complete and of the expected format; --debug shows where it"
    " was read"
)
_INSTALL_HINT = (
    "install it; `pip install rsft` installs all packages (docs/engines.md, Predict"
    " without PyTorch)"
)
_NAME_HINT = "rename the file, folder or class"
_TEXT_HINT = "save it as UTF-8; --debug shows where it was read"
_DATABASE_HINT = (
    "check the disk and that no other program has the file open, then run the same"
    " command again"
)
_LIBRARIES = {
    "sqlite3.": "a database cannot be read or written",
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


def show_error(error: RsftError) -> None:
    """Print an error with its location and its hint, or every fault of a recipe."""
    display.error_console.print(
        Text.assemble(("error: ", "bold red"), escape_controls(error.message))
    )
    if not isinstance(error, RecipeError):
        _show_label("where: ", error.location)
        _show_label("hint:  ", error.hint)
        return
    for fault in error.faults:
        position = fault.file
        if fault.line:
            position += f":{fault.line}"
        display.error_console.print(f"  {position}  {fault.key}  found {fault.found}")
        display.error_console.print(f"      {fault.allowed}")


def _show_label(label: str, text: str) -> None:
    if text:
        display.error_console.print(
            Text.assemble((label, "bold"), escape_controls(text))
        )


def explain(error: BaseException) -> RsftError | None:
    """Return an exception as a sentence with a way out; None for an unexpected one."""
    if isinstance(error, RsftError):
        return error
    if _is_out_of_memory(error):
        return RsftError("the memory is full", _first_line(error), _MEMORY_HINT)
    if isinstance(error, OSError) and error.errno is not None:
        return explain_os_error(error)
    if isinstance(error, RecursionError):
        return RsftError("the content of a file is nested too deeply", hint=_FILE_HINT)
    if isinstance(error, UnicodeEncodeError):
        return RsftError(
            "a name cannot be written as UTF-8", ascii(error.object), _NAME_HINT
        )
    if isinstance(error, UnicodeError):
        return RsftError("a text file is not UTF-8", _first_line(error), _TEXT_HINT)
    for kind in type(error).__mro__:
        name = f"{kind.__module__}.{kind.__qualname__}"
        for prefix, subject in _LIBRARIES.items():
            if name.startswith(prefix):
                hint = _DATABASE_HINT if prefix == "sqlite3." else _FILE_HINT
                return RsftError(f"{subject}: {_first_line(error)}", hint=hint)
    if isinstance(error, ModuleNotFoundError):
        package = (error.name or "rsft").partition(".")[0]
        if not find_spec(package):  # `pip install --no-deps rsft` left it out
            return RequestError(f"{package} is not installed", "", _INSTALL_HINT)
    return None


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, RuntimeError):
        text = str(error).lower()
        return any(words in text for words in _OUT_OF_MEMORY)
    return isinstance(error, MemoryError)


def show_failure(error: Exception, arguments: Sequence[str]) -> int:
    """Show an exception that ended a command, and return the exit code."""
    explained = explain(error)
    if explained:
        show_error(explained)
        return explained.exit_code
    crash_file = write_crash_file(error, arguments)
    if not crash_file:
        hint = "run the command again with --debug to see the traceback"
    else:
        hint = (
            "please report this with the crash file (it has the traceback, versions and"
            " your command line)"
        )
    show_error(
        RsftError(
            f"rsft has a fault: {type(error).__name__}: {_first_line(error)}",
            crash_file or "",
            hint,
        )
    )
    return CRASH_EXIT_CODE


def write_crash_file(error: BaseException, arguments: Sequence[str]) -> Path | None:
    """Write traceback, versions and command line to a new file.

    Only this user can read it. It contains nothing of the environment.

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
    for line in str(error).splitlines():
        text = line.strip()
        if len(text) > _LONGEST_TEXT:
            return f"{text[:_LONGEST_TEXT]}..."
        if text:
            return text
    return type(error).__name__


@contextmanager
def quiet_console(quiet: bool, as_json: bool = False) -> Iterator[None]:
    """Suppress tables and progress within the block if asked to.

    With `as_json`, print errors as events.
    """
    console = display.console
    before = console.quiet
    console.quiet = before or quiet or as_json
    try:
        yield
    except (Exit, Abort):
        raise
    except (Exception, KeyboardInterrupt) as error:  # whatever ends the command
        if as_json:
            emit_json_event("error", _error_fields(error))
        raise
    finally:
        console.quiet = before


def _error_fields(error: BaseException) -> dict[str, Any]:
    name = type(error).__name__
    if isinstance(error, KeyboardInterrupt):
        return {"kind": name, "message": "stopped"}
    explained = explain(error)
    if not explained:
        return {"kind": name, "message": f"{name}: {error}"}
    fields = {"kind": type(explained).__name__, "message": explained.message}
    if isinstance(explained, RecipeError):
        return {**fields, "faults": [fault.as_json() for fault in explained.faults]}
    return {**fields, "location": explained.location, "hint": explained.hint}
