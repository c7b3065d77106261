"""A source that is an archive, or a folder with archives in it."""

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
from rsft.utils.archives.extract import extract_archive, lock_process
from rsft.utils.archives.members import iterate_members
from rsft.utils.archives.rar import has_unrar, is_rar
from rsft.utils.atomic_files import write_text

_SUFFIX = re.compile(r"(?<=.)\.(zip|rar|tgz|tar(\.(gz|bz2|xz))?)$", re.IGNORECASE)
_CONTENT, _ORIGIN = "content", "origin"  # in the folder of this build
_log = logging.getLogger(__name__)


@contextmanager
def open_source_tree(src: Path, root: Path, progress: Progress | None = None) -> Iterator[Path]:
    """Yield `src` or, where it is an archive or a folder with archives in it, a folder that holds what they contain.

    In a folder, archives are found at any depth by suffix: .zip, .tar, .tar.gz, .tgz, .tar.bz2, .tar.xz, .rar. What is
    yielded then has the shape of `src`: in the place of an archive is a folder, called like it without its suffix (with
    it where that name is taken); every other file or linked folder is a link to the one in `src`, which is never
    written to. Hidden files are left out. An archive whose files all lie beside it, or in the folder of its name, is
    left alone.

    The files are in `.<root>.unpacked/` beside `root`, which goes with the end of the block. If the block was stopped
    it stays: run again, a build finds the files as they were, and goes on.

    Raises:
        RequestError: another process is at it, or a folder in `src` cannot be read.
        DataError: an archive is damaged or not to be trusted, see `extract_archive`.
        RsftError: the disk is full, or writing is not permitted; what was unpacked stays.
    """
    root = root.resolve()
    work = root.parent / f".{root.name}.unpacked"
    layout = _layout(src)
    if not layout.archives and not work.exists():
        yield src
        return
    with lock_process(root.parent / f".{root.name}.unpacked.lock", "building", root):
        digest = layout.digest(src)
        _give_up_others(work, digest)
        try:
            yield _lay_out(layout, work, digest, progress) if layout.archives else src
        except (RequestError, DataError):  # the same call would fail again
            shutil.rmtree(work, ignore_errors=True)
            raise
        if work.exists():
            shutil.rmtree(work)


class _Layout(NamedTuple):
    """What becomes of a source: the original by its place, relative to the folder that is yielded."""

    archives: dict[Path, Path]
    links: dict[Path, Path]

    def digest(self, src: Path) -> str:
        """Differs where the work of an earlier attempt is of no use."""
        states = [(str(place), path.stat().st_size, path.stat().st_mtime_ns) for place, path in self.archives.items()]
        told = [str(src.resolve()), states, [str(place) for place in self.links]]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def _layout(src: Path) -> _Layout:
    if src.is_file():
        return _Layout({Path(): src}, {})
    archives: dict[Path, Path] = {}
    links: dict[Path, Path] = {}
    for here, folders, files in os.walk(src, onerror=_unreadable) if src.is_dir() else ():
        folder, place = Path(here), Path(here).relative_to(src)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        names = sorted(name for name in files if not name.startswith("."))
        links |= {place / name: folder / name for name in folders if (folder / name).is_symlink()}
        taken = {*folders, *names}
        for name in names:
            stem = _SUFFIX.sub("", name)
            if stem == name or not (folder / name).is_file() or _lies_unpacked(folder / name, folder / stem):
                links[place / name] = folder / name
            else:
                unique = name if stem in taken else stem
                taken.add(unique)
                archives[place / unique] = folder / name
    return _Layout(archives, links)


def _lies_unpacked(archive: Path, folder: Path) -> bool:
    """Whether all files of an archive lie beside it or in the `folder` of its name, by their sizes."""
    try:
        if is_rar(archive) and not has_unrar():  # then it cannot be looked into
            found = folder.is_dir()
        else:
            found = any(
                all(_has_size(parent / member.path, member.size) for member in iterate_members(archive))
                for parent in (archive.parent, folder)
            )
    except (DataError, OSError):  # unpacking it will tell
        return False
    if found:
        _log.warning("%s is left alone: its files lie beside it, unpacked", archive)
    return found


def _has_size(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def _give_up_others(work: Path, digest: str) -> None:
    """Remove what was unpacked for another source, or before this one changed."""
    origin = work / _ORIGIN
    if not work.exists() or (origin.is_file() and origin.read_text("utf-8") == digest):
        return
    if origin.is_file():
        _log.warning("%s: what was unpacked for another build is given up", work)
    shutil.rmtree(work)


def _lay_out(layout: _Layout, work: Path, digest: str, progress: Progress | None) -> Path:
    content = work / _CONTENT
    try:
        write_text(work / _ORIGIN, digest)
        for place, original in layout.links.items():
            link = content / place
            link.parent.mkdir(parents=True, exist_ok=True)
            if not link.is_symlink():
                link.symlink_to(original.absolute())
    except OSError as error:
        fix = "see to the disk, or choose a --root on one that knows links"
        raise RsftError(error.strerror or str(error), error.filename or work, fix) from error
    for place, archive in layout.archives.items():
        extract_archive(archive, content / place, progress=progress)
    return content


def _unreadable(error: OSError) -> NoReturn:
    raise RequestError(f"the folder cannot be read: {error.strerror}", error.filename, "see to its permissions")
