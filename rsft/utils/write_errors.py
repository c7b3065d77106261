"""Say why a file cannot be read or written, whatever library reports it."""

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rsft.errors import RsftError
from rsft.utils.operating_system import (
    describe_path_fault,
    free_disk,
    is_windows,
    limits_file_size,
)

TEMPORARY_PREFIX = ".rsft-tmp-"
"""Start of the names of folders with unfinished files."""

_AGAIN = "run the same command again"
_LONGEST_JOURNAL = 255 - len("-journal")
"""Bytes of the name of a database, to which SQLite adds this suffix."""
_NO_ROOM = 1 << 20  # a disk with fewer free bytes is full
_CLOSE = (
    "close the program that shows it, such as QGIS or Excel, or choose another name"
)
_PERMISSIONS = "change the permissions or choose another folder, then {again}"

_SENTENCES = {
    errno.ENOSPC: (
        "the disk is full",
        "free some space or choose another disk, then {again}",
    ),
    errno.EDQUOT: (
        "your quota of the disk is used up",
        "free some space or choose another disk, then {again}",
    ),
    errno.EFBIG: (
        "the file is larger than the system allows",
        "raise the limit (`ulimit -f unlimited`), then {again}",
    ),
    errno.EIO: (
        "the disk cannot be read or written",
        "check the disk and the network drive, then {again}",
    ),
    errno.EMFILE: (
        "too many files are open",
        "raise the limit (`ulimit -n 4096`) or use fewer --jobs, then {again}",
    ),
    errno.ENFILE: (
        "too many files are open on this machine",
        "close other programs, then {again}",
    ),
    errno.ENOMEM: (
        "the memory is full",
        "close other programs or use fewer --jobs, then {again}",
    ),
    errno.EACCES: ("permission denied", _PERMISSIONS),
    errno.EPERM: ("the system does not permit this", _PERMISSIONS),
    errno.EROFS: (
        "the disk is read-only",
        "choose a folder on another disk, then {again}",
    ),
    errno.ENAMETOOLONG: (
        "the name of the file is too long",
        "use a name of at most 255 bytes",
    ),
    errno.ENOTDIR: (
        "a file is in the place of a folder",
        "remove or rename the file, or choose another folder",
    ),
    errno.EISDIR: (
        "a folder is in the place of a file",
        "remove or rename the folder, or choose another name",
    ),
    errno.ENOENT: ("the file or folder does not exist", "check the path"),
    errno.EEXIST: (
        "another file or folder is in the place",
        "remove or rename it, or choose another name",
    ),
    errno.ELOOP: ("the symbolic links lead in a circle", "remove the links"),
}

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_WRITERS = ("pyogrio", "rasterio", "safetensors", "pyarrow")
_TORCH_WORDS = (
    "inline_container",
    "pytorchstreamwriter",
    "iostream error",
    "file write failed",
)


def explain_os_error(
    error: OSError, path: object = "", again: str = _AGAIN
) -> RsftError:
    """Return an error of the system as a sentence with a way out.

    Args:
        error: the error.
        path: the file or folder, if the error does not name one.
        again: what to do after the cause has been removed, as the end of a sentence.

    Returns:
        The error to raise in its place: what failed, which file, and what helps.

    Example:
        >>> print(explain_os_error(OSError(28, "No space left on device", "map.gpkg")))
        the disk is full | map.gpkg | free some space or choose another disk, ...
    """
    name = path if error.filename is None else error.filename
    location = os.fsdecode(name) if isinstance(name, bytes) else str(name)
    location = location.encode(errors="replace").decode()
    number = error.errno
    if number in (errno.EINVAL, errno.ENOENT):
        fault = describe_path_fault(location)
        if fault:
            return RsftError(fault[0], location, fault[1])
    message = error.strerror or str(error) or type(error).__name__
    hint = "check the path, its permissions and the free space, then {again}"
    if number == errno.EACCES and is_windows():
        message = "permission denied, or another program has the file open"
        hint = f"{_CLOSE}, then {{again}}"
    elif number in _SENTENCES:
        message, hint = _SENTENCES[number]
    return RsftError(message, location, hint.format(again=again))


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Raise an OSError that names `path` if a library cannot write the file.

    SQLite, GDAL, Arrow, safetensors and torch report a full disk with exceptions of
    their own, whose texts do not name the cause. All other exceptions pass unchanged.

    Yields:
        Nothing.

    Raises:
        OSError: the file cannot be written. Its `filename` is `path`.
    """
    try:
        yield
    except Exception as error:  # those of any library; most pass unchanged
        failure = as_os_error(error, path)
        if not failure:
            raise
        raise failure from error


def as_os_error(error: Exception, path: Path) -> OSError | None:
    """Return an exception of a library as OSError.

    Returns:
        The error with `path` as its `filename`; None if the exception does not report a
        failed write, or names a file.
    """
    if isinstance(error, RsftError):
        return None
    if isinstance(error, OSError) and error.errno is not None:
        if _names_other_file(error):
            return None
        return OSError(error.errno, error.strerror or str(error), str(path))
    code = _find_code(error, path)
    if not code:
        return None
    return OSError(code, str(error), str(path))


def _find_code(error: Exception, path: Path) -> int | None:
    """Return the number of the cause of a failed write; None for another error."""
    if isinstance(error, sqlite3.Error):
        return _sqlite_code(error, path)
    if _is_of_writer(error):
        return _limit_code(path)
    if not isinstance(error, OSError | RuntimeError):
        return None
    return errno.ENOSPC if free_disk(path.parent) < _NO_ROOM else None


def _names_other_file(error: OSError) -> bool:
    """Return whether an error of the system says enough, or is not about a file."""
    name = error.filename
    if error.filename2 is not None and error.errno in _NO_SPACE:
        name = error.filename2  # of a copy, the file that is written
    if name is None:
        return error.errno not in _SENTENCES  # such as those of a network
    return TEMPORARY_PREFIX not in str(name)


def _sqlite_code(error: sqlite3.Error, path: Path) -> int | None:
    # the other bits tell cases apart
    primary = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if primary == sqlite3.SQLITE_IOERR:
        return _limit_code(path) or errno.EIO
    if primary in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
        return _open_code(path)
    codes = {sqlite3.SQLITE_FULL: errno.ENOSPC, sqlite3.SQLITE_NOMEM: errno.ENOMEM}
    return codes.get(primary)


def _open_code(path: Path) -> int:
    """Return why a database cannot be opened for writing."""
    try:
        path.open("ab").close()
        if path.stat().st_size == 0:  # made here, or by SQLite, and without content
            path.unlink()
    except OSError as cause:
        return cause.errno or errno.EACCES
    if len(os.fsencode(path.name)) > _LONGEST_JOURNAL:
        return errno.ENAMETOOLONG
    return errno.EACCES


def _is_of_writer(error: Exception) -> bool:
    """Return whether a library that writes files has raised an exception."""
    if any(kind.__module__.startswith(_WRITERS) for kind in type(error).__mro__):
        return True
    text = str(error).lower()
    return any(words in text for words in _TORCH_WORDS)


def _limit_code(path: Path) -> int | None:
    """Return the number of the limit at which a write failed; None if none is near."""
    if free_disk(path.parent) < _NO_ROOM:
        return errno.ENOSPC
    return errno.EFBIG if limits_file_size() else None
