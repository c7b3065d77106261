"""Say why a file cannot be read or written, whatever library reports it."""

import errno
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rsft.errors import RsftError
from rsft.utils.operating_system import (
    describe_path_fault,
    is_windows,
    limits_file_size,
)

TEMPORARY_PREFIX = ".rsft-tmp-"
"""Start of the names of folders with unfinished files."""

_AGAIN = "run the same command again"
_SHOWN_NAME = 60  # characters of a name that is too long
_LONGEST_NAME = 255  # bytes on most file systems
_LONGEST_JOURNAL = _LONGEST_NAME - len(
    "-journal"
)  # SQLite adds this to the name of a database
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
        "the file or folder exists already",
        "remove it, or choose another name",
    ),
    errno.ELOOP: ("the symbolic links lead in a circle", "remove the links"),
}

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_WRITERS = ("pyogrio.", "rasterio.", "safetensors", "pyarrow.")
_TORCH_WORDS = (
    "inline_container",
    "pytorchstreamwriter",
    "iostream error",
    "file write failed",
)
_WRITE_WORDS = (
    *_TORCH_WORDS,
    "write",
    "writing",
    "commit",
    "no space",
    "i/o",
    "create",
    "flush",
)


def explain_os_error(
    error: OSError, path: object = "", again: str = _AGAIN
) -> RsftError:
    """Return an error of the system as a sentence with a way out.

    Args:
        error: the error.
        path: the file or folder, if the error does not name one.
        again: what to do after the cause has been removed, as the end of a sentence.

    Example:
        >>> print(explain_os_error(OSError(28, "No space left on device", "map.gpkg")))
        the disk is full | map.gpkg | free some space or choose another disk, then run
        the same command again
    """
    location = _shorten(error.filename if error.filename is not None else path)
    number = error.errno
    if number in (errno.EEXIST, errno.ENOTDIR) and error.filename is not None:
        name = Path(os.fsdecode(error.filename))
        blocker = next((path for path in (name, *name.parents) if path.exists()), name)
        if blocker.is_file():
            number = errno.ENOTDIR  # a folder cannot be made where a file is
        elif not blocker.is_dir():
            message = "a device, a pipe or a socket is in the place of a folder"
            return RsftError(message, _shorten(blocker), "choose another folder")
    if number in (errno.EINVAL, errno.ENOENT) and (
        fault := describe_path_fault(location)
    ):
        return RsftError(fault[0], location, fault[1])
    if number == errno.EACCES and is_windows():
        return RsftError(
            "permission denied, or another program has the file open",
            location,
            f"{_CLOSE}, then {again}",
        )
    if number in _SENTENCES:
        message, hint = _SENTENCES[number]
        return RsftError(message, location, hint.format(again=again))
    hint = f"check the path, its permissions and the free space, then {again}"
    return RsftError(
        error.strerror or str(error) or type(error).__name__, location, hint
    )


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Raise an OSError that names `path` if a library cannot write the file within the block.

    SQLite, GDAL, Arrow, safetensors and torch report a full disk with exceptions of
    their own, whose texts do not name the cause. All other exceptions pass unchanged.

    Yields:
        Nothing.

    Raises:
        OSError: the file cannot be written. Its `filename` is `path`.
    """
    try:
        yield
    except Exception as error:
        failure = as_os_error(error, path)
        if failure is None:
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
        is_copy = (
            error.filename2 is not None and error.errno in _NO_SPACE
        )  # the file that is written is the second one
        name = error.filename2 if is_copy else error.filename
        is_unknown = (
            name is None and error.errno not in _SENTENCES
        )  # such as those of a network
        if is_unknown or (name is not None and TEMPORARY_PREFIX not in str(name)):
            return None
        return OSError(error.errno, error.strerror or str(error), str(path))
    text = str(error).lower()
    kinds = [f"{kind.__module__}.{kind.__name__}" for kind in type(error).__mro__]
    if isinstance(error, sqlite3.Error):
        primary = (
            getattr(error, "sqlite_errorcode", 0) & 0xFF
        )  # the other bits tell cases apart
        code = {
            sqlite3.SQLITE_FULL: errno.ENOSPC,
            sqlite3.SQLITE_NOMEM: errno.ENOMEM,
        }.get(primary)
        if primary == sqlite3.SQLITE_IOERR:
            code = _limit_code(path) or errno.EIO
        elif primary in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
            if len(os.fsencode(path.name)) > _LONGEST_JOURNAL:
                code = errno.ENAMETOOLONG
            else:
                code = errno.EACCES
            try:
                path.open("ab").close()
                if (
                    path.stat().st_size == 0
                ):  # made here, or by SQLite, and without content
                    path.unlink()
            except OSError as cause:
                code = cause.errno or errno.EACCES
    elif any(kind.startswith(_WRITERS) for kind in kinds) or any(
        word in text for word in _TORCH_WORDS
    ):
        code = _limit_code(path) or (
            errno.EIO if any(word in text for word in _WRITE_WORDS) else None
        )
    else:
        is_full = (
            _is_full(path) or f"[errno {errno.ENOSPC}]" in text
        )  # shutil.Error lists the faults of a folder
        if isinstance(error, OSError | RuntimeError) and is_full:
            code = errno.ENOSPC
        else:
            code = None
    if code is None:
        return None
    return OSError(code, str(error), str(path))


def _limit_code(path: Path) -> int | None:
    """Return the number of the limit at which a write near `path` failed; None if no limit is near."""
    if _is_full(path):
        return errno.ENOSPC
    if limits_file_size():
        return errno.EFBIG
    return None


def _is_full(path: Path) -> bool:
    folder = next(
        (parent for parent in (path.parent, *path.parents) if parent.is_dir()), None
    )
    return folder is not None and shutil.disk_usage(folder).free < _NO_ROOM


def _shorten(path: object) -> str:
    """Return a path as text, in which a name that is too long for a terminal is cut."""
    text = os.fsdecode(path) if isinstance(path, bytes) else str(path)
    parts = (
        f"{part[:_SHOWN_NAME]}..." if len(part) > _LONGEST_NAME else part
        for part in text.split("/")
    )
    return "/".join(parts).encode(errors="replace").decode()
