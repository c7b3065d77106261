"""Open a source that is an archive, or contains archives, as a folder of plain files."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from rsft.errors import DataError, RequestError, RsftError
from rsft.types import Progress
from rsft.utils.archives.extract import extract_archive
from rsft.utils.archives.members import ArchiveMember, iterate_members, translate_read_errors
from rsft.utils.process_lock import process_lock

_SUFFIX = re.compile(r"(?<=.)\.(zip|rar|tgz|tar(\.(gz|bz2|xz))?)$", re.IGNORECASE)
_log = logging.getLogger(__name__)


@contextmanager
def open_source_tree(src: Path, root: Path, progress: Progress | None = None) -> Iterator[Path]:
    """Open a source folder with its archives extracted.

    Archives in a folder are found at any depth by suffix: .zip, .tar, .tar.gz, .tgz, .tar.bz2, .tar.xz, .rar. The
    yielded folder has the layout of `src`. It contains a folder in place of each archive, with the name of the archive
    without its suffix (with the suffix if that name exists), and links to all other files. `src` is never written to.
    Hidden files are left out. An archive is not extracted if its files exist beside it or in the folder of its name.

    The extracted files are in `.<root>.unpacked/` beside `root`, which is removed at the end of the block. After an
    interruption the folder stays, and the next build reuses the archives that were extracted completely.

    Args:
        src: the source: a folder or an archive.
        root: the chip store to build.
        progress: called while archives are extracted.

    Yields:
        The folder to read: `src` itself if it contains no archive.

    Raises:
        RequestError: another process builds `root`, or a folder in `src` cannot be read.
        DataError: an archive is damaged or not safe, see `extract_archive`.
        RsftError: the disk is full, or writing is not permitted; extracted archives stay.
    """
    root = root.resolve()
    work = root.parent / f".{root.name}.unpacked"
    archives, links = ({Path(): src}, {}) if src.is_file() else _scan(src)
    if not archives and not work.exists():
        yield src
        return
    busy = RequestError("another process is building this folder", root, "wait until it is done, or stop it")
    with process_lock(root.parent / f"{work.name}.lock", lambda: busy):
        build = work / _fingerprint(src, archives, links)
        try:
            if work.exists() and not build.exists():  # of another source, or of an earlier state of this one
                _log.warning("%s: removing the files that were extracted for another build", work)
                shutil.rmtree(work)
            yield _build_tree(build / "content", archives, links, progress) if archives else src
        except (RequestError, DataError):  # the same call would fail again
            shutil.rmtree(work, ignore_errors=True)
            raise
        if work.exists():
            shutil.rmtree(work)


def _scan(src: Path) -> tuple[dict[Path, Path], dict[Path, Path]]:
    """Return archives and all other files and linked folders of `src`, by path in the tree to build."""
    archives: dict[Path, Path] = {}
    links: dict[Path, Path] = {}
    for directory, folders, files in os.walk(src, onerror=_raise_unreadable) if src.is_dir() else ():
        folder, relative = Path(directory), Path(directory).relative_to(src)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        names = sorted(name for name in files if not name.startswith("."))
        links |= {relative / name: folder / name for name in folders if (folder / name).is_symlink()}
        taken = {*folders, *names}
        for name in names:
            stem = _SUFFIX.sub("", name)
            if stem == name or not (folder / name).is_file() or _is_extracted(folder / name, folder / stem):
                links[relative / name] = folder / name
            else:
                unique = name if stem in taken else stem
                taken.add(unique)
                archives[relative / unique] = folder / name
    return archives, links


def _is_extracted(archive: Path, folder: Path) -> bool:
    """Return whether all files of an archive exist, with their sizes, beside it or in the `folder` of its name."""
    for parent in (archive.parent, folder):
        try:
            with translate_read_errors(archive):
                if all(_exists(parent / member.path, member) for member in iterate_members(archive)):
                    _log.warning("%s is not extracted: its files exist already", archive)
                    return True
        except (DataError, OSError):  # the extraction reports the fault
            return False
    return False


def _exists(path: Path, member: ArchiveMember) -> bool:
    return path.is_dir() if member.is_folder else path.is_file() and path.stat().st_size == member.size


def _fingerprint(src: Path, archives: dict[Path, Path], links: dict[Path, Path]) -> str:
    """Return a hash that changes if the files of an interrupted build cannot be reused."""
    states = [(str(path), file.stat().st_size, file.stat().st_mtime_ns) for path, file in archives.items()]
    return hashlib.sha256(repr((str(src.resolve()), states, [str(path) for path in links])).encode()).hexdigest()[:16]


def _build_tree(content: Path, archives: dict[Path, Path], links: dict[Path, Path], progress: Progress | None) -> Path:
    try:
        for path, original in links.items():
            (content / path).parent.mkdir(parents=True, exist_ok=True)
            if not (content / path).is_symlink():
                (content / path).symlink_to(original.absolute())
    except OSError as error:
        hint = "free or repair the disk, or choose a --root on a disk that supports links"
        raise RsftError(error.strerror or str(error), error.filename or content, hint) from error
    for path, archive in archives.items():
        if not (content / path).exists():
            extract_archive(archive, content / path, progress=progress)
    return content


def _raise_unreadable(error: OSError) -> NoReturn:
    raise RequestError(f"the folder cannot be read: {error.strerror}", error.filename, "change its permissions")
