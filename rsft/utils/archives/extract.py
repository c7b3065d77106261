"""Extraction of untrusted archives into a folder that appears complete or not at all."""

from __future__ import annotations

import shutil
import unicodedata
from collections import deque
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from rsft.errors import DataError, RequestError, RsftError
from rsft.types import Progress
from rsft.utils.archives.members import BY_HAND_HINT, ArchiveMember, is_tar, iterate_members, translate_read_errors
from rsft.utils.atomic_files import atomic_folder, sync_all
from rsft.utils.write_errors import explain_os_error

MAX_BYTES = 200 * 2**30
"""Default limit of the extracted size in bytes."""
MAX_MEMBERS = 2_000_000
"""Default limit of the number of files and folders."""

_CHUNK = 2**20


def extract_archive(
    archive: Path,
    target: Path,
    *,
    max_bytes: int = MAX_BYTES,
    max_members: int = MAX_MEMBERS,
    progress: Progress | None = None,
) -> Path:
    """Extract a .zip, .tar (also .gz, .bz2, .xz) or .rar archive into a new folder; the format is found by content.

    The files are written to a temporary folder, which gets its name when it is complete. The next write beside `target`
    removes the temporary folder of a killed process.

    Args:
        archive: the archive.
        target: the new folder.
        max_bytes: limit of the extracted size.
        max_members: limit of the number of files and folders.
        progress: called after each member with the MiB of the archive that have been read.

    Returns:
        The folder.

    Raises:
        RequestError: the archive does not exist, or `target` exists.
        DataError: the archive is damaged, encrypted, of another format or larger than a limit, or has a member that is
            a link or a device, leaves the target, or has the name of another member on some system. No file is kept.
        RsftError: the disk has no room for the files, or writing is not permitted. No file is kept.
    """
    if not archive.is_file():
        raise RequestError("the archive does not exist", archive, "check the path")
    if target.exists():
        raise RequestError("the folder to extract to exists", target, "remove it, or choose another")
    total = _mebibytes(archive.stat().st_size)
    try:
        with atomic_folder(target) as folder, translate_read_errors(archive):
            check = partial(_check_members, archive, max_bytes, max_members, shutil.disk_usage(folder).free)
            if not is_tar(archive):  # the others list their members: check all before writing the first
                deque(check(), maxlen=0)
            for member in check():
                _write_member(member, folder / member.path)
                if progress is not None:
                    progress(min(_mebibytes(member.bytes_read), total), total, f"extracting {archive.name}")
            sync_all()  # write the files to disk before the name that marks them as complete
    except OSError as error:
        raise explain_os_error(error, target) from error
    return target


def _check_members(archive: Path, max_bytes: int, max_members: int, free_bytes: int) -> Iterator[ArchiveMember]:
    """Iterate over the members.

    Raises:
        DataError: they are too many or too large, or two of them are the same file on some system.
        RsftError: the disk has no room for them.
    """
    total, is_folder_at = 0, {".": True}
    for count, member in enumerate(iterate_members(archive), start=1):
        if member.size < 0:
            raise ValueError(f"the size of {str(member.path)!r} is negative")
        total += member.size
        if count > max_members:
            raise DataError(f"the archive contains more than {max_members} members", archive, BY_HAND_HINT)
        if total > max_bytes:
            raise DataError(f"the archive contains more than {_gibibytes(max_bytes)}", archive, BY_HAND_HINT)
        if total > free_bytes:
            message = f"the archive contains more than the {_gibibytes(free_bytes)} that the disk has free"
            raise RsftError(message, archive, "free some space, or choose another disk")
        for path in (member.path, *member.path.parents):
            name, is_folder = _comparable(str(path)), member.is_folder or path != member.path
            if name in is_folder_at and not (is_folder_at[name] and is_folder):
                raise DataError(f"{str(member.path)!r} occurs twice in the archive", archive, BY_HAND_HINT)
            is_folder_at[name] = is_folder
        yield member


def _comparable(name: str) -> str:
    """Return a text that is the same for names that are one file on systems that ignore case or Unicode composition."""
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", name).casefold())


def _write_member(member: ArchiveMember, path: Path) -> None:
    """Write exactly as many bytes as the archive states, which `_check_members` has compared with the limits.

    Raises:
        EOFError: the content is shorter.
    """
    if member.is_folder:
        path.mkdir(parents=True, exist_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    remaining = member.size
    with path.open("xb") as file, member.open() as content:
        while remaining and (chunk := content.read(min(_CHUNK, remaining))):
            file.write(chunk)
            remaining -= len(chunk)
    if remaining:
        raise EOFError(f"{str(member.path)!r} is shorter than the archive states")


def _mebibytes(count: int) -> int:
    return -(-count // 2**20)


def _gibibytes(count: int) -> str:
    return f"{count / 2**30:.3g} GiB"
