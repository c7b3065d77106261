"""A lock that keeps two processes from writing the same folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from rsft.errors import RequestError
from rsft.utils.write_errors import explain_os_error


@contextmanager
def process_lock(lock_file: Path, conflict: Callable[[], RequestError]) -> Iterator[None]:
    """Hold a lock file while the block runs; the file is removed at the end.

    Args:
        lock_file: the lock file; its folder is made if it is missing.
        conflict: makes the error for the case that another process holds the lock.

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
        raise conflict() from error
    except OSError as error:
        raise explain_os_error(error, lock_file) from error
    try:
        yield
    finally:
        with suppress(PermissionError):  # Windows: the release removes the file
            lock_file.unlink(missing_ok=True)  # before the release, so that a waiting process notices the removal
        lock.release()
