"""Archives as published, opened without trust into a folder that appears whole; what was stopped goes on."""

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

__all__ = ["MAX_BYTES", "ORIGIN_FILE", "extract_archive", "lock_process"]

Identity = dict[str, object]

MAX_BYTES = 200 * 2**30
"""What an archive may hold, unpacked, unless the caller says otherwise."""

_CHUNK = 2**20
_FILES, _MEMBER = "files", "member"  # in the working folder: what is finished, and what is being written
_log = logging.getLogger(__name__)


def extract_archive(
    archive: Path, target: Path, *, max_bytes: int = MAX_BYTES, progress: Progress | None = None
) -> Path:
    """Unpack a .zip, .tar (also .gz, .bz2, .xz) or, where `unrar` is installed, .rar into the new folder `target`.

    The kind is found by content. The folder appears whole or not at all; where it holds this archive already, nothing
    is done. The work is in `.<target>.partial` beside it, which outlives a killed process: called again, files that are
    there, by their size and, where the archive tells it, their CRC-32, are not written again. What another archive
    left there is removed. `progress` counts MiB.

    Raises:
        RequestError: no such archive, `target` holds something else, or another process is unpacking there.
        DataError: the archive is damaged or of another kind, asks for a password, holds more than `max_bytes`, or has a
            member that is a link or a device, leaves the target, or comes twice. Nothing is kept.
        RsftError: the disk is full, or writing is not permitted. The work so far is kept.
    """
    if not archive.is_file():
        raise RequestError("there is no such archive", archive, "check the path")
    facts = archive.stat()
    identity: Identity = {"name": archive.name, "bytes": facts.st_size, "mtime_ns": facts.st_mtime_ns}
    working = target.parent / f".{target.name}.partial"
    try:
        with lock_process(target.parent / f".{target.name}.lock", "unpacking", target):
            if not _holds(target, identity):
                _fill(working, archive, identity, max_bytes, progress)
                _publish(working, target)
            if working.exists():
                shutil.rmtree(working)
    except OSError as error:
        fix = "see to the disk, then run the same command again: it goes on where it stopped"
        raise RsftError(error.strerror or str(error), error.filename or target, fix) from error
    return target


@contextmanager
def lock_process(lock_file: Path, doing: str, where: Path) -> Iterator[None]:
    """Hold `lock_file` while the block runs; it goes with the end.

    Raises:
        RequestError: another process holds it: it is `doing` something at `where`.
        RsftError: the file cannot be written.
    """
    lock = FileLock(lock_file)
    try:
        lock_file.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0.5)
    except Timeout as error:
        raise RequestError(f"another process is {doing} there", where, "wait until it is done, or stop it") from error
    except OSError as error:
        raise RsftError(error.strerror or str(error), lock_file, "see to the disk, or choose another place") from error
    try:
        yield
    finally:
        lock_file.unlink(missing_ok=True)  # while it is held: whoever waits sees that it is gone
        lock.release()


def _holds(target: Path, identity: Identity) -> bool:
    """Whether `target` came of this archive.

    Raises:
        RequestError: it holds something else.
    """
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return False
    origin = _origin(target)
    if origin == identity:
        return True
    found = "something else" if origin is None else "another archive"
    raise RequestError(f"the folder to unpack into holds {found}", target, "remove it, or choose another")


def _fill(working: Path, archive: Path, identity: Identity, max_bytes: int, progress: Progress | None) -> None:
    """Unpack the archive into the working folder, or go on with it."""
    origin = _origin(working)
    if working.exists() and origin != identity:
        if origin is not None:
            _log.warning("%s: the unfinished unpacking of another archive is given up", working)
        shutil.rmtree(working)
    working.mkdir(mode=0o700, exist_ok=True)
    write_text(working / ORIGIN_FILE, json.dumps(identity) + "\n")
    (working / _FILES).mkdir(exist_ok=True)
    try:
        with translate_read_errors(archive):
            _write(working, archive, max_bytes, progress)
    except DataError:  # the same call would fail again
        shutil.rmtree(working)
        raise


def _write(working: Path, archive: Path, max_bytes: int, progress: Progress | None) -> None:
    files, left, total = working / _FILES, max_bytes, _mebibytes(archive.stat().st_size)
    earlier = {PurePosixPath(path.relative_to(files)) for path in files.rglob("*") if not path.is_dir()}
    if earlier:
        _log.warning("going on with the unpacking of %s: %d files are there", archive, len(earlier))
    for member in iterate_members(archive):
        left -= member.size
        if left < 0:
            what = f"the archive holds more than {max_bytes / 2**30:.3g} GiB"
            raise DataError(what, archive, "raise the limit, if it may")
        path, known = files / member.path, member.path in earlier
        earlier.discard(member.path)  # should the name come again, it comes twice in the archive
        if not (known and _is_whole(path, member)):
            _make_way(path, known, archive)
            _write_member(member, working / _MEMBER, archive)
            (working / _MEMBER).replace(path)
        if progress is not None:
            progress(min(_mebibytes(member.read), total), total, f"unpacking {archive.name}")


def _is_whole(path: Path, member: ArchiveMember) -> bool:
    """A power cut may leave less of a file than was written."""
    if path.stat().st_size != member.size:
        return False
    if member.crc is None:
        return True
    with path.open("rb") as file:
        return _copy(file, None) == member.crc


def _make_way(path: Path, known: bool, archive: Path) -> None:
    """Make the folder of a file, which must not be there unless it is `known`.

    Raises:
        DataError: it is, or one of its folders is a file.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not known:
            raise FileExistsError
    except (FileExistsError, NotADirectoryError) as error:
        raise DataError(f"{path.name} comes twice in the archive", archive, EXTRACT_BY_HAND_HINT) from error


def _write_member(member: ArchiveMember, temporary: Path, archive: Path) -> None:
    with temporary.open("wb") as file, member.open() as source:
        crc = _copy(source, file)
    if temporary.stat().st_size != member.size:
        raise DataError(f"{member.path} is cut short", archive, DOWNLOAD_AGAIN_HINT)
    if member.crc not in (None, crc):
        raise DataError(f"{member.path} is damaged", archive, DOWNLOAD_AGAIN_HINT)


def _copy(source: IO[bytes], file: IO[bytes] | None) -> int:
    """Copy all that is left, if there is a `file` to copy it to; return its CRC-32."""
    crc = 0
    while chunk := source.read(_CHUNK):
        crc = zlib.crc32(chunk, crc)
        if file is not None:
            file.write(chunk)
    return crc


def _publish(working: Path, target: Path) -> None:
    sync_all()  # the files, before the name that vouches for them
    write_text(working / _FILES / ORIGIN_FILE, (working / ORIGIN_FILE).read_text("utf-8"))
    (working / _FILES).replace(target)


def _origin(folder: Path) -> object:
    """Of which archive a folder came, or is to come; None if it does not say."""
    try:
        return json.loads((folder / ORIGIN_FILE).read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None


def _mebibytes(count: int) -> int:
    return -(-count // 2**20)
