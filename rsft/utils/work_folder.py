"""A folder for intermediate files that a killed process leaves to the next one."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rsft.errors import DataError, RequestError
from rsft.utils.process_lock import process_lock

_log = logging.getLogger(__name__)


@contextmanager
def work_folder(folder: Path, fingerprint: str) -> Iterator[Path]:
    """Yield `folder`/<fingerprint>, and remove `folder` at the end of the block.

    After an interruption the folder stays, and the next block with the same fingerprint continues with its content.

    Args:
        folder: a hidden folder that only one job uses, beside its output.
        fingerprint: identifies the job; the folders of other jobs are removed.

    Yields:
        The existing folder.

    Raises:
        RequestError: another process uses `folder`.
        RsftError: `folder` cannot be written.
    """
    build = folder / fingerprint
    with process_lock(_lock_file(folder), lambda: _busy(folder)):
        if folder.exists() and not build.exists():
            _log.warning("%s: removing the files of an unfinished job with other arguments", folder)
            shutil.rmtree(folder)
        build.mkdir(parents=True, exist_ok=True)
        try:
            yield build
        except (RequestError, DataError):  # the same call would fail again
            shutil.rmtree(folder, ignore_errors=True)
            raise
        shutil.rmtree(folder)


def remove_work_folder(folder: Path, lock_file: Path | None = None) -> None:
    """Remove the folder of a killed process, and its lock file; do nothing if another process uses it.

    Args:
        folder: the folder; it need not exist.
        lock_file: its lock file; by default that of `work_folder`.
    """
    lock_file = lock_file or _lock_file(folder)
    if folder.exists() or lock_file.exists():
        with suppress(RequestError), process_lock(lock_file, lambda: _busy(folder)):
            shutil.rmtree(folder, ignore_errors=True)


def _lock_file(folder: Path) -> Path:
    return folder.parent / f"{folder.name}.lock"


def _busy(folder: Path) -> RequestError:
    return RequestError("another process works in this folder", folder, "wait until it is done, or stop it")
