"""Every file is written whole or not at all: temporary name, fsync, rename.

Temporaries lie in a hidden folder beside their target, which its process holds by `flock`. Whoever next writes beside
it removes those that nobody holds: their process was killed. Where the file system knows no locks, and on Windows, they
stay.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

if sys.platform != "win32":
    import fcntl

_PREFIX = ".rsft-tmp-"  # nothing else may be called so
_log = logging.getLogger(__name__)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, of the same name, that takes its place if the block ends well."""
    with _temporary_folder(path.parent) as place:
        temporary = place / "new" / path.name
        temporary.touch()
        yield temporary
        _sync(temporary)
        temporary.chmod(0o666 & ~_UMASK)  # some libraries write 0600; a shared folder wants the usual mode
        temporary.replace(path)
        _sync(path.parent)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Yield a new folder beside `path`, of the same name, that takes its place, whole, if the block ends well.

    A folder that is there is first moved out of the way. Killed between that and the next rename, there is none, until
    the next write beside it puts the old one back.
    """
    with _temporary_folder(path.parent) as place:
        temporary = place / "new" / path.name
        temporary.mkdir()
        yield temporary
        if path.exists():
            path.replace(place / "old" / path.name)
        temporary.replace(path)
        _sync(path.parent)


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path`, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` as UTF-8, whole or not at all."""
    write_bytes(path, text.encode())


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync_all() -> None:
    """Put on the disk what was written so far: thousands of files, before the name that vouches for them."""
    if hasattr(os, "sync"):
        os.sync()


@contextmanager
def _temporary_folder(parent: Path) -> Iterator[Path]:
    """Yield a folder of this process in `parent`, with new/ and old/ in it; it goes with the end of the block."""
    parent.mkdir(parents=True, exist_ok=True)
    for left in parent.glob(f"{_PREFIX}*"):
        _clear_away(left)
    place, handle = _held_folder(parent)
    try:
        for name in ("new", "old"):
            (place / name).mkdir()
        yield place
    finally:
        try:
            _put_back(place)  # after a fault between two renames
            shutil.rmtree(place, ignore_errors=True)
        finally:
            if handle is not None:
                os.close(handle)


def _held_folder(parent: Path) -> tuple[Path, int | None]:
    """A new folder and the handle that holds it; None on Windows, where nobody will clear it away."""
    while True:
        place = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
        if sys.platform == "win32":
            return place, None
        with suppress(FileNotFoundError):
            handle = os.open(place, os.O_RDONLY)
            with suppress(OSError):  # no locks here: nobody will clear it away either
                fcntl.flock(handle, fcntl.LOCK_EX)
            if place.exists():
                return place, handle
            os.close(handle)  # cleared away by another process before it was held


def _clear_away(place: Path) -> None:
    """Remove a temporary folder, unless its process lives."""
    if sys.platform == "win32":
        return
    try:
        handle = os.open(place, os.O_RDONLY)
    except OSError:  # gone, or of another user
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _put_back(place)
        shutil.rmtree(place, ignore_errors=True)
    except OSError:  # it is held, or cannot be put back
        pass
    finally:
        os.close(handle)


def _put_back(place: Path) -> None:
    """Give a folder that was moved out of the way its name again, unless another has it now."""
    for old in place.glob("old/*"):
        path = place.parent / old.name
        if not path.exists():
            old.replace(path)
            _log.warning("%s: it was being replaced when the process was stopped; it is put back", path)


def _sync(path: Path) -> None:
    if sys.platform == "win32":
        return  # it opens no folder, and syncs no file that is open for reading
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


_UMASK = _umask()
