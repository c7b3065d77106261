"""Open a source with archives as a folder of plain files."""

import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rsft.errors import DataError, RsftError
from rsft.types import Progress
from rsft.utils.archive_members import Member, read_members, translate_read_errors
from rsft.utils.archives import SUFFIX, extract_archive, is_archive_name
from rsft.utils.atomic_files import process_lock
from rsft.utils.cell.client import allow_reading
from rsft.utils.operating_system import link_file, refuse_folder

_log = logging.getLogger(__name__)


@contextmanager
def open_source_tree(
    src: Path, root: Path, progress: Progress | None = None
) -> Iterator[Path]:
    """Open a source folder with its archives extracted.

    Archives in a folder are found at any depth by suffix: .zip, .tar, .tar.gz, .tgz,
    .tar.bz2, .tar.xz, .rar. The yielded folder has the layout of `src`. It contains a
    folder in place of each archive, with the name of the archive without its suffix
    (with the suffix if that name exists), and links to all other files. `src` is never
    written to. Hidden files are left out. An archive is not extracted if its files
    exist beside it or in the folder of its name.

    The extracted files are in `.<root>.unpacked/` beside `root`, which is removed at
    the end of the block. The next build of `root` removes the files of a killed
    process.

    Args:
        src: the source: a folder or an archive.
        root: the chip store to build.
        progress: called while archives are extracted.

    Yields:
        The folder to read: `src` itself if it contains no archive.

    Raises:
        RequestError: another process builds `root`, or a folder in `src` cannot be
            read.
        DataError: an archive is damaged or not safe, see `extract_archive`.
        RsftError: the disk is full, or writing is not permitted.
    """
    allow_reading(src)
    root = root.resolve()
    work = root.parent / f".{root.name}.unpacked"
    archives, links = _scan(src)
    if not archives and not work.exists():
        yield src
        return
    lock_file = root.parent / f"{work.name}.lock"
    with process_lock(lock_file, root, "is building this folder"):
        shutil.rmtree(work, ignore_errors=True)  # of a killed process
        try:
            if archives:
                _link_files(work, links)
            for path, archive in archives.items():
                extract_archive(archive, work / path, progress=progress)
            allow_reading(work)
            yield work if archives else src
        finally:
            shutil.rmtree(work, ignore_errors=True)


def _link_files(work: Path, links: dict[Path, Path]) -> None:
    try:
        for path, original in links.items():
            (work / path).parent.mkdir(parents=True, exist_ok=True)
            link_file(work / path, original.absolute())
    except OSError as error:
        raise RsftError(
            error.strerror or str(error),
            error.filename or work,
            "free or repair the disk, or choose a --root on a disk that supports links",
        ) from error


def _scan(src: Path) -> tuple[dict[Path, Path], dict[Path, Path]]:
    """Return archives, and all other files and linked folders, of a source.

    The keys are their paths in the tree to build.

    Raises:
        RequestError: a folder cannot be read.
    """
    if src.is_file():
        return {Path(): src}, {}
    archives: dict[Path, Path] = {}
    links: dict[Path, Path] = {}
    if not src.is_dir():  # reported where it is read
        return archives, links
    for directory, folders, files in os.walk(src, onerror=refuse_folder):
        folder = Path(directory)
        relative = folder.relative_to(src)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        names = sorted(name for name in files if not name.startswith("."))
        for name in folders:
            if (folder / name).is_symlink():
                links[relative / name] = folder / name
        taken = {*folders, *names}
        for name in names:
            path = folder / name
            if not is_archive_name(path) or not path.is_file() or is_extracted(path):
                links[relative / name] = path
                continue
            stem = SUFFIX.sub("", name)
            unique = name if stem in taken else stem
            taken.add(unique)
            archives[relative / unique] = path
    return archives, links


def is_extracted(archive: Path) -> bool:
    """Return whether all files of an archive exist, with their sizes.

    They may be beside it, or in the folder of its name.
    """
    for parent in (archive.parent, archive.with_name(SUFFIX.sub("", archive.name))):
        try:
            with translate_read_errors(archive):
                is_complete = all(_exists(x, parent) for x in read_members(archive))
        except (DataError, OSError):  # the extraction reports the fault
            continue
        if is_complete:
            _log.warning("%s is not extracted: its files exist already", archive)
            return True
    return False


def _exists(member: Member, parent: Path) -> bool:
    path = parent / member.path
    if member.is_folder:
        return path.is_dir()
    return path.is_file() and path.stat().st_size == member.size
