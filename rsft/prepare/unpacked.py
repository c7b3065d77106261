"""A source that may be an archive."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from rsft.chips.build import Progress
from rsft.errors import DataError, RequestError
from rsft.sources.archives import extract_archive


@contextmanager
def unpacked(src: Path, root: Path, progress: Progress | None = None) -> Iterator[Path]:
    """Yield `src`, or, where it is an archive, the folder `.<root>.unpacked` beside `root` with its content.

    The folder goes with the end of the block. If the block was stopped it stays: run again, a build finds the files as
    they were, and goes on.

    Raises:
        RequestError: another process is at it.
        DataError: the archive is damaged or not to be trusted, see `extract_archive`.
    """
    if not src.is_file():
        yield src
        return
    root = root.resolve()
    root.parent.mkdir(parents=True, exist_ok=True)
    target = root.parent / f".{root.name}.unpacked"
    lock = FileLock(root.parent / f".{root.name}.unpacked.lock")
    try:
        lock.acquire(timeout=0.5)
    except Timeout as error:
        raise RequestError("another process is building there", root, "wait until it is done, or stop it") from error
    try:
        yield extract_archive(src, target, progress=progress)
        shutil.rmtree(target)
    except (RequestError, DataError):  # the same call would fail again
        shutil.rmtree(target, ignore_errors=True)
        raise
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)  # while it is held: whoever waits sees that it is gone
        lock.release()
