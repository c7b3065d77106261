"""Write files and folders whole or not at all: temporary name, fsync, rename.

Temporary files lie in a hidden folder beside their target. The process that writes them
holds the lock file in this folder. The next writer beside it removes every folder whose
lock is free, because its process was killed. On file systems without locks, these
folders stay.
"""

import hashlib
import json
import logging
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from rsft.errors import DataError, RequestError
from rsft.utils.operating_system import replace_path, sync_path
from rsft.utils.write_errors import TEMPORARY_PREFIX, explain_os_error, writing

_LOCK = "lock"
_WORKS = "works in this folder"
# the last one: filelock before 4, on file systems without locks
_NO_LOCK = (
    OSError,
    Timeout,
    NotImplementedError,
)
_log = logging.getLogger(__name__)


def check_is_free(path: Path, overwrite: bool) -> None:
    """Raise a RequestError if an output exists, unless it may be overwritten.

    Then a process that was killed after its last write may have left temporary folders
    beside it, which are removed.
    """
    if path.exists() and not overwrite:
        remove_stale_folders(path.parent)
        kind = "folder" if path.is_dir() else "file"
        raise RequestError(
            f"the {kind} exists already",
            path,
            "give --overwrite to replace it, or another name",
        )


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path that replaces `path` if the block succeeds.

    Yields:
        Path of an empty file with the same name, in a hidden folder beside `path`.

    Raises:
        OSError: the file cannot be written; libraries report this with many exceptions.
            Its `filename` is `path`.
    """
    with writing(path), _temporary_folder(path.parent) as folder:
        temporary = folder / "new" / path.name
        temporary.touch()
        mode = stat.S_IMODE(temporary.stat().st_mode)
        yield temporary
        # some libraries write 0600, which others cannot read in a shared folder
        temporary.chmod(mode)
        sync_path(temporary)
        replace_path(temporary, path)
        sync_path(path.parent)


@contextmanager
def atomic_folder(path: Path, replace: bool = True) -> Iterator[Path]:
    """Yield a temporary folder that replaces `path` if the block succeeds.

    An existing folder is first moved out of the way. If the process is killed before
    the second rename, `path` does not exist until the next write beside it restores the
    old folder.

    Args:
        path: the target; its parent folder is made if it is missing.
        replace: False raises an error if `path` has content, also that of a process
            which wrote it in the meantime.

    Yields:
        Path of an empty folder with the same name, in a hidden folder beside `path`.

    Raises:
        OSError: a file cannot be written, see `atomic_file`, or `path` has content that
            must stay.
    """
    with writing(path), _temporary_folder(path.parent) as folder:
        temporary = folder / "new" / path.name
        temporary.mkdir()
        yield temporary
        if replace and path.exists():
            replace_path(path, folder / "old" / path.name)
        replace_path(temporary, path)
        sync_path(path.parent)


def write_bytes(path: Path, data: bytes | memoryview) -> None:
    """Write `data` to `path`, whole or not at all."""
    with atomic_file(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` as UTF-8, whole or not at all."""
    write_bytes(path, text.encode())


def write_json(path: Path, content: Any) -> None:
    """Write what JSON can hold to `path`, with lines, whole or not at all."""
    write_text(path, json.dumps(content, indent=1))


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def remove_stale_folders(parent: Path) -> None:
    """Remove the temporary folders that killed processes left in a folder."""
    for stale in parent.glob(f"{TEMPORARY_PREFIX}*"):
        lock = FileLock(stale / _LOCK)
        with suppress(*_NO_LOCK):  # its process is alive, or it belongs to another user
            lock.acquire(blocking=False)
            _remove(stale, lock)


@contextmanager
def _temporary_folder(parent: Path) -> Iterator[Path]:
    """Yield a locked folder in `parent` with subfolders new/ and old/."""
    parent.mkdir(parents=True, exist_ok=True)
    remove_stale_folders(parent)
    while True:
        folder = Path(tempfile.mkdtemp(prefix=TEMPORARY_PREFIX, dir=parent))
        lock = FileLock(folder / _LOCK)
        # without locks, no other process removes the folder either
        with suppress(*_NO_LOCK):
            lock.acquire(timeout=0.2)
        # another process removed the folder before it was locked
        with suppress(FileNotFoundError):
            for name in ("new", "old"):
                (folder / name).mkdir()
            break
    try:
        yield folder
    finally:
        _remove(folder, lock)


def _remove(folder: Path, lock: FileLock) -> None:
    """Remove a temporary folder of this process, and restore what was set aside."""
    try:
        for old in folder.glob("old/*"):
            path = folder.parent / old.name
            if not path.exists():
                old.replace(path)
                _log.warning(
                    "%s: restored; a process was stopped while it replaced this folder",
                    path,
                )
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        lock.release()
        # it exists on Windows, which cannot remove the file of a lock that is held
        with suppress(OSError):
            folder.rmdir()


@contextmanager
def process_lock(lock_file: Path, location: Path, work: str) -> Iterator[None]:
    """Hold a lock file while the block runs; the file is removed at the end.

    Args:
        lock_file: the file.
        location: what the lock protects.
        work: what another process does that holds the lock, after "another process".

    Yields:
        None.

    Raises:
        RequestError: another process holds the lock.
        RsftError: the file cannot be written.
    """
    lock = FileLock(lock_file)
    try:
        lock_file.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0.5)
    except Timeout as error:
        raise RequestError(
            f"another process {work}", location, "wait until it is done, or stop it"
        ) from error
    except OSError as error:
        raise explain_os_error(error, lock_file) from error
    try:
        yield
    finally:
        with suppress(PermissionError):  # Windows: the release removes the file
            # before the release, so that a waiting process notices the removal
            lock_file.unlink(missing_ok=True)
        lock.release()


@contextmanager
def work_folder(folder: Path, fingerprint: str) -> Iterator[Path]:
    """Yield `folder`/<fingerprint>, and remove `folder` at the end of the block.

    After an interruption the folder stays, and the next block with the same fingerprint
    continues with its content.

    Yields:
        The existing folder.

    Raises:
        RequestError: another process uses `folder`.
        RsftError: `folder` cannot be written.
    """
    lock = process_lock(_lock_file(folder), folder, _WORKS)
    with lock, resumable_folder(folder, fingerprint) as build:
        yield build


@contextmanager
def resumable_folder(folder: Path, fingerprint: str) -> Iterator[Path]:
    """Do the same as `work_folder` for a caller that holds a lock."""
    build = folder / fingerprint
    if folder.exists() and not build.exists():
        _log.warning(
            "%s: removing the files of an unfinished job with other arguments", folder
        )
        shutil.rmtree(folder)
    build.mkdir(parents=True, exist_ok=True)
    try:
        yield build
    except (RequestError, DataError):  # the same call would fail again
        shutil.rmtree(folder, ignore_errors=True)
        raise
    shutil.rmtree(folder)


def remove_work_folder(folder: Path, lock_file: Path | None = None) -> None:
    """Remove the folder of a killed process, and its lock file, unless it is in use.

    By default, the lock file is that of `work_folder`.
    """
    lock_file = lock_file or _lock_file(folder)
    if folder.exists() or lock_file.exists():
        with suppress(RequestError), process_lock(lock_file, folder, _WORKS):
            shutil.rmtree(folder, ignore_errors=True)


def _lock_file(folder: Path) -> Path:
    return folder.parent / f"{folder.name}.lock"
