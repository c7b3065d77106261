"""Where a store is built: a locked sibling folder that outlives a killed build and becomes the root at its end."""

from __future__ import annotations

import logging
import os
import shutil
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from rsft.data.chips.store import DATASET
from rsft.errors import DataError, RequestError, RsftError
from rsft.utils.atomic_files import sync_all

_AGAIN = "then run the same command again: it goes on where it stopped"
_log = logging.getLogger(__name__)


def check_free(root: Path, overwrite: bool) -> None:
    """Refuse a root that holds something; `overwrite` gives way for a chip store, never for anything else.

    Raises:
        RequestError: the root is taken.
    """
    if (root.is_dir() and not any(root.iterdir())) or not root.exists():
        return
    if not (root / DATASET).is_file():
        raise RequestError("something that is no chip store is there already", root, "choose another --root")
    if not overwrite:
        raise RequestError("there is a chip store already", root, "add --overwrite, or choose another --root")


@contextmanager
def workplace(root: Path, fingerprint: str, overwrite: bool) -> Iterator[Path]:
    """Yield a folder whose `store/` becomes `root` if the block ends well.

    The folder is `.<name>.partial/<fingerprint>/` beside the root, the same for each attempt; what another fingerprint
    left there is removed. It stays after a fault of the machine and goes after a fault of the data.

    Raises:
        RequestError: `root` is taken, or another process builds there.
        RsftError: the disk is full, or writing is not permitted.
    """
    root = root.resolve()
    partial = root.parent / f".{root.name}.partial"
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        with _locked(root, partial):
            _finish_replacing(root, partial / "old")
            check_free(root, overwrite)
            folder = _enter(partial, fingerprint)
            try:
                yield folder
            except DataError:
                shutil.rmtree(folder)
                raise
            _publish(folder / "store", root, partial / "old")
            shutil.rmtree(partial)
    except OSError as error:
        place = error.filename or partial
        raise RsftError(error.strerror or str(error), place, f"see to the disk, {_AGAIN}") from error
    except sqlite3.Error as error:
        fix = f"see to the disk (or remove this folder), {_AGAIN}"
        raise RsftError(f"the journal of the build cannot be written: {error}", partial, fix) from error


@contextmanager
def _locked(root: Path, partial: Path) -> Iterator[None]:
    lock = FileLock(root.parent / f".{root.name}.lock")
    owner = partial / "owner"
    try:
        lock.acquire(timeout=0.5)
    except Timeout as error:
        who = owner.read_text("utf-8") if owner.is_file() else "another process"
        raise RequestError(f"{who} is building there", root, "wait until it is done, or stop it") from error
    try:
        partial.mkdir(exist_ok=True)
        owner.write_text(f"process {os.getpid()} on {socket.gethostname()}", "utf-8")
        yield
    finally:
        owner.unlink(missing_ok=True)
        if partial.is_dir() and not any(partial.iterdir()):
            partial.rmdir()
        Path(lock.lock_file).unlink(missing_ok=True)  # while it is held: whoever waits sees that it is gone
        lock.release()


def _enter(partial: Path, fingerprint: str) -> Path:
    folder = partial / fingerprint
    for other in partial.iterdir():
        if other.is_dir() and other != folder:
            _log.warning("%s: an unfinished build with other arguments is given up", partial)
            shutil.rmtree(other)
    if not (folder / "store").is_dir():
        if folder.exists():
            shutil.rmtree(folder)
        (folder / "store").mkdir(parents=True)
    return folder


def _finish_replacing(root: Path, old: Path) -> None:
    """A build that was killed in its last step has left the store that it replaces as `old`."""
    if old.is_dir() and root.exists():
        shutil.rmtree(old)
    elif old.is_dir():
        old.replace(root)


def _publish(store: Path, root: Path, old: Path) -> None:
    sync_all()  # the chips, before the name that vouches for them
    if root.exists() and any(root.iterdir()):
        root.replace(old)
    store.replace(root)
