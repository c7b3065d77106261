"""Extraction of untrusted archives into a folder that appears complete; an interrupted extraction is resumed."""

from __future__ import annotations

import json
import logging
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from filelock import FileLock, Timeout

from rsft.errors import DataError, RequestError, RsftError
from rsft.types import Progress
from rsft.utils.archives.members import (
    DOWNLOAD_AGAIN_HINT,
    EXTRACT_BY_HAND_HINT,
    ORIGIN_FILE,
    ArchiveMember,
    iterate_members,
    translate_read_errors,
)
from rsft.utils.atomic_files import sync_all, write_text

__all__ = ["MAX_BYTES", "ORIGIN_FILE", "acquire_process_lock", "extract_archive"]

Identity = dict[str, object]

MAX_BYTES = 200 * 2**30
"""Default limit of the extracted size in bytes."""

_CHUNK = 2**20
_FILES, _MEMBER = "files", "member"  # in the working folder: finished files, and the file that is being written
_log = logging.getLogger(__name__)


def extract_archive(
    archive: Path, target: Path, *, max_bytes: int = MAX_BYTES, progress: Progress | None = None
) -> Path:
    """Extract a .zip, .tar (also .gz, .bz2, .xz) or, if `unrar` is installed, a .rar archive into a new folder.

    The format is detected by content. The folder appears complete or not at all. If it already contains this archive,
    nothing is done. Files are first written to `.<target>.partial` beside it, which survives a killed process. The next
    call keeps the files that have the right size and, if the archive has one, the right CRC-32. It removes files of
    another archive.

    Args:
        archive: the archive.
        target: the new folder.
        max_bytes: limit of the extracted size.
        progress: called after each member with the MiB of the archive that have been read.

    Returns:
        The folder.

    Raises:
        RequestError: the archive does not exist, `target` has other content, or another process extracts to it.
        DataError: the archive is damaged, encrypted, of another format or larger than `max_bytes`, or a member is a
            link or a device, leaves the target, or occurs twice. No file is kept.
        RsftError: the disk is full, or writing is not permitted. Finished files are kept.
    """
    if not archive.is_file():
        raise RequestError("the archive does not exist", archive, "check the path")
    status = archive.stat()
    identity: Identity = {"name": archive.name, "bytes": status.st_size, "mtime_ns": status.st_mtime_ns}
    working = target.parent / f".{target.name}.partial"
    try:
        with acquire_process_lock(target.parent / f".{target.name}.lock", "extracting to", target):
            if not _is_extracted(target, identity):
                _extract(working, archive, identity, max_bytes, progress)
                _publish(working, target)
            if working.exists():
                shutil.rmtree(working)
    except OSError as error:
        hint = "free or repair the disk, then run the same command again: it continues where it stopped"
        raise RsftError(error.strerror or str(error), error.filename or target, hint) from error
    return target


@contextmanager
def acquire_process_lock(lock_file: Path, activity: str, location: Path) -> Iterator[None]:
    """Hold a lock file while the block runs; the file is removed at the end.

    Args:
        lock_file: the lock file.
        activity: what the process does with `location`, such as "building", for the error message.
        location: the folder that the process writes, for the error message.

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
            f"another process is {activity} this folder", location, "wait until it is done, or stop it"
        ) from error
    except OSError as error:
        hint = "free or repair the disk, or choose another folder"
        raise RsftError(error.strerror or str(error), lock_file, hint) from error
    try:
        yield
    finally:
        lock_file.unlink(missing_ok=True)  # before the release, so that a waiting process notices the removal
        lock.release()


def _is_extracted(target: Path, identity: Identity) -> bool:
    """Return whether `target` contains this archive; False for a missing or empty folder.

    Raises:
        RequestError: it contains something else.
    """
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return False
    origin = _read_origin(target)
    if origin == identity:
        return True
    content = "something else" if origin is None else "another archive"
    raise RequestError(f"the folder to extract to contains {content}", target, "remove it, or choose another")


def _extract(working: Path, archive: Path, identity: Identity, max_bytes: int, progress: Progress | None) -> None:
    """Extract the archive to the working folder, or continue an interrupted extraction."""
    origin = _read_origin(working)
    if working.exists() and origin != identity:
        if origin is not None:
            _log.warning("%s: removing the unfinished extraction of another archive", working)
        shutil.rmtree(working)
    working.mkdir(mode=0o700, exist_ok=True)
    write_text(working / ORIGIN_FILE, json.dumps(identity) + "\n")
    (working / _FILES).mkdir(exist_ok=True)
    try:
        with translate_read_errors(archive):
            _write_members(working, archive, max_bytes, progress)
    except DataError:  # the same call would fail again
        shutil.rmtree(working)
        raise


def _write_members(working: Path, archive: Path, max_bytes: int, progress: Progress | None) -> None:
    files, remaining, total = working / _FILES, max_bytes, _mebibytes(archive.stat().st_size)
    earlier = {PurePosixPath(path.relative_to(files)) for path in files.rglob("*") if not path.is_dir()}
    if earlier:
        _log.warning("continuing the extraction of %s: %d files exist", archive, len(earlier))
    for member in iterate_members(archive):
        remaining -= member.size
        if remaining < 0:
            message = f"the archive contains more than {max_bytes / 2**30:.3g} GiB"
            raise DataError(message, archive, "raise the limit if you trust the archive")
        path, may_exist = files / member.path, member.path in earlier
        earlier.discard(member.path)  # a second member of this name is a duplicate in the archive
        if not (may_exist and _is_complete(path, member)):
            _create_parent(path, may_exist, archive)
            _write_member(member, working / _MEMBER, archive)
            (working / _MEMBER).replace(path)
        if progress is not None:
            progress(min(_mebibytes(member.bytes_read), total), total, f"extracting {archive.name}")


def _is_complete(path: Path, member: ArchiveMember) -> bool:
    """Return whether a file has the size and CRC-32 of its member; a power cut may truncate a written file."""
    if path.stat().st_size != member.size:
        return False
    if member.crc is None:
        return True
    with path.open("rb") as file:
        return _copy(file, None) == member.crc


def _create_parent(path: Path, may_exist: bool, archive: Path) -> None:
    """Create the parent folder of a file; the file must not exist unless `may_exist`.

    Raises:
        DataError: the file exists, or one of its folders is a file.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not may_exist:
            raise FileExistsError
    except (FileExistsError, NotADirectoryError) as error:
        raise DataError(f"{path.name} occurs twice in the archive", archive, EXTRACT_BY_HAND_HINT) from error


def _write_member(member: ArchiveMember, temporary: Path, archive: Path) -> None:
    with temporary.open("wb") as file, member.open() as source:
        crc = _copy(source, file)
    if temporary.stat().st_size != member.size:
        raise DataError(f"{member.path} is truncated", archive, DOWNLOAD_AGAIN_HINT)
    if member.crc not in (None, crc):
        raise DataError(f"{member.path} is damaged", archive, DOWNLOAD_AGAIN_HINT)


def _copy(source: IO[bytes], file: IO[bytes] | None) -> int:
    """Read `source` to its end, copy it to `file` if given, and return its CRC-32."""
    crc = 0
    while chunk := source.read(_CHUNK):
        crc = zlib.crc32(chunk, crc)
        if file is not None:
            file.write(chunk)
    return crc


def _publish(working: Path, target: Path) -> None:
    sync_all()  # write the files to disk before the name that marks them as complete
    write_text(working / _FILES / ORIGIN_FILE, (working / ORIGIN_FILE).read_text("utf-8"))
    (working / _FILES).replace(target)


def _read_origin(folder: Path) -> object:
    """Return the identity of the archive whose files a folder contains; None if the folder does not name one."""
    try:
        return json.loads((folder / ORIGIN_FILE).read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None


def _mebibytes(count: int) -> int:
    return -(-count // 2**20)
