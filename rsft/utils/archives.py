"""Extract archives that are not trusted into folders of plain files."""

import re
import shutil
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from rsft.errors import DataError, RequestError, RsftError
from rsft.types import Progress
from rsft.utils.archive_members import (
    BY_HAND_HINT,
    Member,
    is_tar,
    read_members,
    translate_read_errors,
)
from rsft.utils.atomic_files import atomic_folder
from rsft.utils.operating_system import fold_name, sync_all
from rsft.utils.write_errors import explain_os_error

MAX_BYTES = 200 * 2**30
"""Largest extracted size in bytes."""
MAX_MEMBERS = 2_000_000
"""Largest number of files and folders."""
SUFFIX = re.compile(r"(?<=.)\.(zip|rar|tgz|tar(\.(gz|bz2|xz))?)$", re.IGNORECASE)
"""The suffix of an archive that `extract_archive` reads."""


def is_archive_name(path: Path) -> bool:
    """Return whether a file has the suffix of an archive."""
    return SUFFIX.search(path.name) is not None


def extract_archive(
    archive: Path,
    target: Path,
    *,
    progress: Progress | None = None,
) -> Path:
    """Extract an archive into a new folder; the format is found by content.

    Formats are .zip, .tar (also .gz, .bz2, .xz) and .rar. The files are written to a
    temporary folder, which gets its name when it is complete. The next write beside
    `target` removes the temporary folder of a killed process.

    Args:
        archive: the archive.
        target: the new folder.
        progress: called after each member with the MiB of the archive that have been
            read.

    Raises:
        RequestError: the archive does not exist, or `target` exists.
        DataError: the archive is damaged, encrypted, of another format or larger than a
            limit, or has a member that is a link or a device, leaves the target, or has
            the name of another member on some system. No file is kept.
        RsftError: the disk has no room for the files, or writing is not permitted. No
            file is kept.
    """
    if not archive.is_file():
        raise RequestError("the archive does not exist", archive, "check the path")
    if target.exists():
        raise RequestError(
            "the folder to extract to exists", target, "remove it, or choose another"
        )
    total = -(-archive.stat().st_size // 2**20)
    try:
        with atomic_folder(target) as folder, translate_read_errors(archive):
            free = shutil.disk_usage(folder).free
            if not is_tar(archive):
                # the others list their members: check all before writing the first
                deque(_check_members(archive, free), maxlen=0)
            for member in _check_members(archive, free):
                _write_member(member, folder / member.path)
                if progress:
                    done = min(-(-member.bytes_read // 2**20), total)
                    progress(done, total, f"extracting {archive.name}")
            # write the files to disk before the name that marks them as complete
            sync_all()
    except OSError as error:
        raise explain_os_error(error, target) from error
    return target


def _check_members(archive: Path, free_bytes: int) -> Iterator[Member]:
    """Iterate over the members.

    Raises:
        DataError: they are too many or too large, or two of them are the same file on
            some system.
        RsftError: the disk has no room for them.
    """
    total = 0
    are_folders = {".": True}
    for count, member in enumerate(read_members(archive), start=1):
        if member.size < 0:
            raise ValueError(f"the size of {str(member.path)!r} is negative")
        total += member.size
        message = ""
        if count > MAX_MEMBERS:
            message = f"the archive contains more than {MAX_MEMBERS} members"
        elif total > MAX_BYTES:
            message = f"the archive contains more than {MAX_BYTES / 2**30:.3g} GiB"
        elif _clashes(member, are_folders):
            message = f"{str(member.path)!r} occurs twice in the archive"
        if message:
            raise DataError(message, archive, BY_HAND_HINT)
        if total > free_bytes:
            raise RsftError(
                f"the archive contains more than the {free_bytes / 2**30:.3g} GiB that"
                " the disk has free",
                archive,
                "free some space, or choose another disk",
            )
        yield member


def _clashes(member: Member, are_folders: dict[str, bool]) -> bool:
    """Return whether a member is the same file as an earlier one on some system.

    Args:
        member: the member.
        are_folders: whether the members so far are folders, by name; this one is added.
    """
    path = member.path
    for parent in (path, *path.parents):
        name = fold_name(str(parent))
        is_folder = member.is_folder or parent != path
        if name in are_folders and not (are_folders[name] and is_folder):
            return True
        are_folders[name] = is_folder
    return False


def _write_member(member: Member, path: Path) -> None:
    """Make a folder, or write as many bytes as the archive states.

    `_check_members` has compared the number with the limits.

    Raises:
        EOFError: the content is shorter.
    """
    if member.is_folder:
        path.mkdir(parents=True, exist_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    remaining = member.size
    with path.open("xb") as file:
        for chunk in member.read():
            file.write(chunk[:remaining])
            remaining -= len(chunk)
            if remaining <= 0:
                break
    if remaining > 0:
        raise EOFError(f"{str(member.path)!r} is shorter than the archive states")
