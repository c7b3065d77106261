"""Explain every exception in one sentence, and write a crash file for those that rsft does not expect."""

import os
import platform
import shlex
import sqlite3
import tempfile
import traceback
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from rsft.errors import RequestError, RsftError
from rsft.utils.write_errors import explain_os_error

CRASH_EXIT_CODE = 70
"""Exit code after an exception that rsft does not expect: EX_SOFTWARE of sysexits.h."""

_PACKAGES = ("rsft", "torch", "torchgeo", "timm", "lightning", "numpy", "pandas", "pyarrow", "rasterio", "pyogrio")
_MEMORY_HINT = "close other programs, or use smaller batches (--batch-size, train.batch_size) and fewer --jobs"
_LONGEST_TEXT = 300  # characters of the text of a library
_OUT_OF_MEMORY = ("can't allocate memory", "cannot allocate memory", "out of memory", "bad_alloc", "unable to allocate")
_FILE_HINT = "check that the file is complete and of the expected format; --debug shows where it was read"


def explain(error: BaseException) -> RsftError | None:
    """Return an exception as a sentence with a way out.

    Args:
        error: the exception.

    Returns:
        The error to show; None if rsft does not expect this exception.
    """
    if isinstance(error, RsftError):
        return error
    is_out_of_memory = any(word in str(error).lower() for word in _OUT_OF_MEMORY)
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and is_out_of_memory):
        return RsftError("the memory is full", _first_line(error), _MEMORY_HINT)
    if isinstance(error, OSError) and error.errno is not None:
        return explain_os_error(error)
    if isinstance(error, RecursionError):
        return RsftError("the content of a file is nested too deeply", hint=_FILE_HINT)
    if isinstance(error, UnicodeError):
        return _explain_encoding(error)
    if isinstance(error, sqlite3.Error):
        return RsftError(f"a database cannot be read or written: {_first_line(error)}", hint=_DATABASE_HINT)
    names = [f"{kind.__module__}.{kind.__qualname__}" for kind in type(error).__mro__]
    for prefix, subject in _LIBRARIES.items():
        if any(name.startswith(prefix) for name in names):
            return RsftError(f"{subject}: {_first_line(error)}", hint=_FILE_HINT)
    package = (error.name or "rsft").partition(".")[0] if isinstance(error, ModuleNotFoundError) else "rsft"
    if find_spec(package) is None:  # `pip install --no-deps rsft` left it out
        return RequestError(f"{package} is not installed", "", _INSTALL_HINT)
    return None


def _explain_encoding(error: UnicodeError) -> RsftError:
    if isinstance(error, UnicodeEncodeError):
        name = error.object[max(0, error.start - 40) : error.end + 40].encode(errors="replace").decode()
        return RsftError("a name cannot be written as UTF-8", name, "rename the file, folder or class")
    location = ""
    if isinstance(error, UnicodeDecodeError):
        location = f"byte {error.start:,}: {error.object[error.start : error.end]!r}"
    return RsftError("a text file is not UTF-8", location, "save it as UTF-8; --debug shows where it was read")


_INSTALL_HINT = "install it; `pip install rsft` installs all packages (docs/engines.md, Predict without PyTorch)"
_DATABASE_HINT = "check the disk and that no other program has the file open, then run the same command again"
_LIBRARIES = {
    "rasterio.": "GDAL cannot read or write a raster",
    "pyogrio.": "GDAL cannot read or write a layer",
    "shapely.errors.": "a shape is not valid",
    "pyproj.exceptions.": "a coordinate system is not valid",
    "safetensors": "a weights file cannot be read or written",
    "pyarrow.lib.Arrow": "a table cannot be read or written",
    "zipfile.BadZipFile": "an archive is damaged",
    "json.decoder.": "a JSON file is damaged",
}
"""Modules or names of exceptions by library -> the start of the sentence. The libraries need not be installed."""


def show_failure(error: Exception, arguments: Sequence[str], show: Callable[[RsftError], None]) -> int:
    """Show an exception that ended a command.

    Args:
        error: the exception.
        arguments: the arguments of the command, for the crash file.
        show: prints an error.

    Returns:
        The exit code.
    """
    explained = explain(error)
    if explained is not None:
        show(explained)
        return explained.exit_code
    crash_file = write_crash_file(error, arguments)
    hint = "run the command again with --debug to see the traceback"
    if crash_file is not None:
        hint = "please report this with the crash file (it has the traceback, versions and your command line)"
    message = f"rsft has a fault: {type(error).__name__}: {_first_line(error)}"
    show(RsftError(message, crash_file or "", hint))
    return CRASH_EXIT_CODE


def write_crash_file(error: BaseException, arguments: Sequence[str]) -> Path | None:
    """Write traceback, versions and command line to a new file that only this user can read. It has no environment.

    Args:
        error: the exception.
        arguments: the arguments of the command.

    Returns:
        The path in the folder of temporary files; None if it cannot be written.
    """
    lines = [
        f"command: {shlex.join(['rsft', *arguments])}",
        f"time: {datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        f"system: {platform.platform()}, Python {platform.python_version()}",
        f"versions: {', '.join(_versions())}",
        "",
        *traceback.format_exception(error),
    ]
    try:
        handle, name = tempfile.mkstemp(prefix="rsft-crash-", suffix=".txt")
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write("\n".join(lines))
    except OSError:
        return None
    return Path(name)


def _versions() -> list[str]:
    versions = []
    for name in _PACKAGES:
        try:
            versions.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            versions.append(f"{name} -")
    return versions


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else type(error).__name__
    return text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}..."
