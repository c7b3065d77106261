"""Open a source that is an archive, or contains archives, as a folder of plain files."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, NoReturn

from rsft.errors import DataError, RequestError, RsftError
from rsft.types import Progress
from rsft.utils.archives.extract import acquire_process_lock, extract_archive
from rsft.utils.archives.members import iterate_members
from rsft.utils.archives.rar import has_unrar, is_rar
from rsft.utils.atomic_files import write_text

_SUFFIX = re.compile(r"(?<=.)\.(zip|rar|tgz|tar(\.(gz|bz2|xz))?)$", re.IGNORECASE)
_CONTENT, _ORIGIN = "content", "origin"  # in the working folder of a build
_log = logging.getLogger(__name__)


@contextmanager
def open_source_tree(src: Path, root: Path, progress: Progress | None = None) -> Iterator[Path]:
    """Open a source folder with its archives extracted.

    Archives in a folder are found at any depth by suffix: .zip, .tar, .tar.gz, .tgz, .tar.bz2, .tar.xz, .rar. The
    yielded folder has the layout of `src`. It contains a folder in place of each archive, with the name of the archive
    without its suffix (with the suffix if that name exists), and links to all other files. `src` is never written to.
    Hidden files are left out. An archive is not extracted if its files exist beside it or in the folder of its name.

    The extracted files are in `.<root>.unpacked/` beside `root`, which is removed at the end of the block. After an
    interruption the folder stays, and the next build reuses its files.

    Args:
        src: the source: a folder or an archive.
        root: the chip store to build.
        progress: called while archives are extracted.

    Yields:
        The folder to read: `src` itself if it contains no archive.

    Raises:
        RequestError: another process builds `root`, or a folder in `src` cannot be read.
        DataError: an archive is damaged or not safe, see `extract_archive`.
        RsftError: the disk is full, or writing is not permitted; extracted files stay.
    """
    root = root.resolve()
    work = root.parent / f".{root.name}.unpacked"
    layout = _scan(src)
    if not layout.archives and not work.exists():
        yield src
        return
    with acquire_process_lock(root.parent / f".{root.name}.unpacked.lock", "building", root):
        digest = layout.digest(src)
        _remove_other_builds(work, digest)
        try:
            yield _build_tree(layout, work, digest, progress) if layout.archives else src
        except (RequestError, DataError):  # the same call would fail again
            shutil.rmtree(work, ignore_errors=True)
            raise
        if work.exists():
            shutil.rmtree(work)


class _Layout(NamedTuple):
    """The tree to build: source paths by path relative to the yielded folder.

    Attributes:
        archives: archives, which become folders.
        links: files and linked folders, which become links.
    """

    archives: dict[Path, Path]
    links: dict[Path, Path]

    def digest(self, src: Path) -> str:
        """Return a hash that changes if the files of an interrupted build cannot be reused."""
        states = [(str(target), path.stat().st_size, path.stat().st_mtime_ns) for target, path in self.archives.items()]
        content = [str(src.resolve()), states, [str(target) for target in self.links]]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _scan(src: Path) -> _Layout:
    if src.is_file():
        return _Layout({Path(): src}, {})
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
    return _Layout(archives, links)


def _is_extracted(archive: Path, folder: Path) -> bool:
    """Return whether all files of an archive exist, with their sizes, beside it or in the `folder` of its name."""
    try:
        if is_rar(archive) and not has_unrar():  # its members cannot be listed
            is_extracted = folder.is_dir()
        else:
            is_extracted = any(
                all(_has_size(parent / member.path, member.size) for member in iterate_members(archive))
                for parent in (archive.parent, folder)
            )
    except (DataError, OSError):  # the extraction reports the fault
        return False
    if is_extracted:
        _log.warning("%s is not extracted: its files exist already", archive)
    return is_extracted


def _has_size(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def _remove_other_builds(work: Path, digest: str) -> None:
    """Remove files that were extracted for another source or an earlier state of this one."""
    origin = work / _ORIGIN
    if not work.exists() or (origin.is_file() and origin.read_text("utf-8") == digest):
        return
    if origin.is_file():
        _log.warning("%s: removing the files that were extracted for another build", work)
    shutil.rmtree(work)


def _build_tree(layout: _Layout, work: Path, digest: str, progress: Progress | None) -> Path:
    content = work / _CONTENT
    try:
        write_text(work / _ORIGIN, digest)
        for target, original in layout.links.items():
            link = content / target
            link.parent.mkdir(parents=True, exist_ok=True)
            if not link.is_symlink():
                link.symlink_to(original.absolute())
    except OSError as error:
        hint = "free or repair the disk, or choose a --root on a disk that supports links"
        raise RsftError(error.strerror or str(error), error.filename or work, hint) from error
    for target, archive in layout.archives.items():
        extract_archive(archive, content / target, progress=progress)
    return content


def _raise_unreadable(error: OSError) -> NoReturn:
    raise RequestError(f"the folder cannot be read: {error.strerror}", error.filename, "change its permissions")
