"""Write files and folders whole or not at all: temporary name, fsync, rename.

Temporary files lie in a hidden folder beside their target. The process that writes them holds the lock file in this
folder. The next writer beside it removes every folder whose lock is free, because its process was killed. On file
systems without locks, these folders stay.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from rsft.utils.write_errors import TEMPORARY_PREFIX, writing

_LOCK = "lock"
_NO_LOCK = (OSError, Timeout, NotImplementedError)  # the last one: filelock before 4, on file systems without locks
_log = logging.getLogger(__name__)


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path that replaces `path` if the block ends without an exception.

    Args:
        path: the target; its folder is made if it is missing.

    Yields:
        Path of an empty file with the same name, in a hidden folder beside `path`.

    Raises:
        OSError: the file cannot be written; libraries report this with many exceptions. Its `filename` is `path`.
    """
    with writing(path), _temporary_folder(path.parent) as folder:
        temporary = folder / "new" / path.name
        temporary.touch()
        mode = stat.S_IMODE(temporary.stat().st_mode)
        yield temporary
        temporary.chmod(mode)  # some libraries write 0600, which others cannot read in a shared folder
        _sync(temporary)
        temporary.replace(path)
        _sync(path.parent)


@contextmanager
def atomic_folder(path: Path, replace: bool = True) -> Iterator[Path]:
    """Yield a temporary folder that replaces `path` if the block ends without an exception.

    An existing folder is first moved out of the way. If the process is killed before the second rename, `path` does not
    exist until the next write beside it restores the old folder.

    Args:
        path: the target; its parent folder is made if it is missing.
        replace: False raises an error if `path` has content, also that of a process which wrote it in the meantime.

    Yields:
        Path of an empty folder with the same name, in a hidden folder beside `path`.

    Raises:
        OSError: a file cannot be written, see `atomic_file`, or `path` has content that must stay.
    """
    with writing(path), _temporary_folder(path.parent) as folder:
        temporary = folder / "new" / path.name
        temporary.mkdir()
        yield temporary
        if replace and path.exists():
            path.replace(folder / "old" / path.name)
        temporary.replace(path)
        _sync(path.parent)


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path`, whole or not at all."""
    with atomic_file(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` as UTF-8, whole or not at all."""
    write_bytes(path, text.encode())


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync_all() -> None:
    """Flush all written files to the disk; for thousands of files this is cheaper than one fsync per file."""
    if hasattr(os, "sync"):
        os.sync()


def remove_stale_folders(parent: Path) -> None:
    """Remove the temporary folders that killed processes left in a folder; every write beside them does so too.

    Args:
        parent: the folder.
    """
    for stale in parent.glob(f"{TEMPORARY_PREFIX}*"):
        lock = FileLock(stale / _LOCK)
        with suppress(*_NO_LOCK):  # its process is alive, or it belongs to another user
            lock.acquire(blocking=False)
            _remove(stale, lock)


@contextmanager
def _temporary_folder(parent: Path) -> Iterator[Path]:
    """Yield a locked folder in `parent` with subfolders new/ and old/; remove it when the block ends."""
    parent.mkdir(parents=True, exist_ok=True)
    remove_stale_folders(parent)
    folder, lock = _make_locked_folder(parent)
    try:
        yield folder
    finally:
        _remove(folder, lock)


def _make_locked_folder(parent: Path) -> tuple[Path, FileLock]:
    """Return a new folder and its lock, which is not held on a file system without locks."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=TEMPORARY_PREFIX, dir=parent))
        lock = FileLock(folder / _LOCK)
        with suppress(*_NO_LOCK):  # without locks, no other process removes the folder either
            lock.acquire(timeout=0.2)
        with suppress(FileNotFoundError):  # another process removed the folder before it was locked
            for name in ("new", "old"):
                (folder / name).mkdir()
            return folder, lock


def _remove(folder: Path, lock: FileLock) -> None:
    """Remove a temporary folder whose lock this process holds, and restore what was set aside in it."""
    try:
        _restore_old(folder)
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        lock.release()
        with suppress(OSError):  # it exists on Windows, which cannot remove the file of a lock that is held
            folder.rmdir()


def _restore_old(folder: Path) -> None:
    """Move a target that was set aside in `folder` back to its name, unless that name is taken."""
    for old in folder.glob("old/*"):
        path = folder.parent / old.name
        if not path.exists():
            old.replace(path)
            _log.warning("%s: restored; a process was stopped while it replaced this folder", path)


def _sync(path: Path) -> None:
    if path.is_dir() and sys.platform == "win32":
        return  # Windows cannot open folders
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)  # Windows only syncs files open for writing
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
