"""Search for the archives of published data sets in and beside a folder.

A folder is recognized by its content: a file or folder in it has a name, or a row of
labels, that only this data set has. An archive is recognized by its name. The search
opens neither archives nor special files. It stays on one file system, and follows a
link only if the link has the name of the data set.
"""

from __future__ import annotations

import logging
import os
import shlex
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from rsft.data.chips.builder import check_root_is_free
from rsft.data.chips.store import DATASET
from rsft.data.datasets.formats.fusar_files import FUSAR_CATEGORIES
from rsft.data.datasets.formats.fusar_metadata import normalize_folder_name
from rsft.errors import RequestError
from rsft.utils.archive_members import describe_part
from rsft.utils.archives import is_archive_name
from rsft.utils.source_tree import is_extracted

_log = logging.getLogger(__name__)

_SYSTEM_FOLDERS = {
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/lib",
    "/lib32",
    "/lib64",
    "/proc",
    "/run",
    "/sbin",
    "/sys",
    "/tmp",
    "/usr",
    "/var",
}
"""Folders that are not searched if ROOT is a folder directly below /. Any user may put
files into /tmp."""

_INNER_FOLDERS = {
    normalize_folder_name(name) for name in FUSAR_CATEGORIES if name != "SAR"
}
_INNER_FOLDERS |= {"train", "val", "valid", "validation", "test", "trainval"}
_INNER_FOLDERS |= {"image", "jpegimage", "label", "labeltxt", "annfile", "annotation"}
"""Names of folders inside of a data set, as `normalize_folder_name` returns them."""


@dataclass(frozen=True)
class PublishedArchive:
    """A data set as its authors publish it.

    Attributes:
        name: name of the data set.
        command: name of the command of `rsft prepare` that reads it.
        option: option or argument of this command that names its folder or archive.
        word: what the names of its folders and archives contain, in lower-case letters
            and digits.
        is_member: whether a file or folder belongs to this data set alone, by its name
            or its first rows.
        content: what its folder contains, for messages.
        download: file names, size and page, for messages.
        is_unpacked: whether the command extracts archives.
    """

    name: str
    command: str
    option: str
    word: str
    is_member: Callable[[Path], bool]
    content: str
    download: str
    is_unpacked: bool = True

    def has_name(self, path: Path) -> bool:
        """Return whether a folder or archive has the name of the data set.

        Case and punctuation do not matter.
        """
        return self.word in "".join(filter(str.isalnum, path.name.lower()))

    def is_in(self, folder: Path) -> bool:
        """Return whether a folder contains a member, at most six levels below."""
        return any(map(self.is_member, iter_paths(folder)))


Sources = Mapping[PublishedArchive, Path | None]
"""Folder or archive of each data set."""


def locate_sources(
    root: Path,
    sources: Sources,
    overwrite: bool = False,
    allow_partial: bool = False,
) -> tuple[Path, Sources]:
    """Return the folder for the chip store, and the source of each data set.

    The search covers `root`, the folder that contains it, and raw/ in both. A folder or
    archive with the name of the data set comes before a folder with any name. If `root`
    contains a source, the store is a folder in `root`.

    Args:
        root: folder of the chip store, as the user names it.
        sources: folder or archive of each data set; None to search for it.
        overwrite: whether a chip store at `root` may be replaced.
        allow_partial: return None for a data set that is missing, unless all are.

    Raises:
        RequestError: a data set is missing, or several copies of it exist; or `root` is
            a chip store already.
    """
    try:
        located = _search(root, sources, allow_partial)
    except RequestError:
        if (root / DATASET).is_file():
            check_root_is_free(root, overwrite)  # the more important error
        raise
    for archive, path in located.items():
        if not path:
            _log.warning(
                "%s was not found: the chip store is built without it", archive.name
            )
        elif not sources[archive]:
            _log.warning("%s: %s", archive.name, path)
    command = next(iter(sources)).command
    return _choose_root(command, root, [*filter(None, located.values())]), located


def _search(root: Path, sources: Sources, allow_partial: bool) -> Sources:
    """Return the path of each data set; None for a missing one."""
    candidates = {}
    notes = []
    for archive, path in sources.items():
        if not path:
            search = _Search(archive, root.resolve())
            candidates[archive] = search.find_all()
            notes += search.notes
        else:
            candidates[archive] = [path]
    missing = [archive for archive, paths in candidates.items() if not paths]
    if missing and (len(missing) == len(sources) or not allow_partial):
        raise _explain_missing(missing, root, notes, len(sources) > 1)
    for archive, paths in candidates.items():
        if len(paths) > 1:
            raise RequestError(
                f"{archive.name}: {len(paths)} folders or archives contain it",
                ", ".join(map(str, paths)),
                f"name the one to read as {archive.option}",
            )
    return {archive: next(iter(paths), None) for archive, paths in candidates.items()}


def _choose_root(command: str, root: Path, paths: Sequence[Path]) -> Path:
    """Return `root`, or a folder in it if it contains one of the paths."""
    top = root.resolve()
    is_inside = any(path.resolve().is_relative_to(top) for path in paths)
    is_named_inside = any(path.absolute().is_relative_to(top) for path in paths)
    if not is_inside and not is_named_inside:
        return root
    store = root / command
    _log.warning("%s contains the archives: the chip store is %s", root, store)
    return store


def _explain_missing(
    missing: Sequence[PublishedArchive], root: Path, notes: Sequence[str], is_pair: bool
) -> RequestError:
    names = " and ".join(archive.name for archive in missing)
    downloads = "; ".join(f"{archive.name} {archive.download}" for archive in missing)
    folders = ", ".join(map(str, _list_places(root.resolve())))
    hint = (
        f"download {downloads}. Put the folders or archives into {root} or beside it,"
        f" or name them: {format_example(missing, root)}"
    )
    if is_pair and len(missing) == 1:
        hint += " (--allow-partial builds from the other data set alone)"
    return RequestError(
        f"{names} not found",
        f"{folders}, and the folders in them",
        ". ".join([*notes, hint]),
    )


def format_example(archives: Sequence[PublishedArchive], root: Path) -> str:
    """Return the command that names the folders or archives of data sets.

    Example:
        >>> from rsft.data.datasets.published_archives import FUSAR_SHIP_ARCHIVE
        >>> format_example([FUSAR_SHIP_ARCHIVE], Path("/data"))
        'rsft prepare fusrs --root /data --fusar FUSAR-Ship'
    """
    words = ["rsft", "prepare", archives[0].command, "--root", str(root)]
    for archive in archives:
        if archive.option.startswith("--"):
            words.append(archive.option)
        words.append(archive.name)
    return shlex.join(words)


def _list_places(root: Path) -> list[Path]:
    """Return the folders that a search reads."""
    return list(dict.fromkeys([root, root / "raw", root.parent, root.parent / "raw"]))


@dataclass
class _Search:
    """The search for one data set.

    Attributes:
        root: folder of the chip store, without links.
        notes: paths with the name of the data set that cannot be used, each with the
            reason.
    """

    archive: PublishedArchive
    root: Path
    notes: list[str] = field(default_factory=list)

    def find_all(self) -> list[Path]:
        """Return the folders and archives of the data set.

        Those with its name come before folders with any name. An archive whose files
        exist beside it is left out.
        """
        paths = self._find_in_places(
            lambda place: self._find_named(_list_folder(place, follow_links=True))
        )
        paths = paths or self._find_in_places(self._find_by_content)
        if len(paths) > 1:
            return [path for path in paths if path.is_dir() or not is_extracted(path)]
        return paths

    def _find_in_places(self, find: Callable[[Path], Iterator[Path]]) -> list[Path]:
        candidates = dict[Path, Path]()
        for place in _list_places(self.root):
            for path in find(place):
                candidates.setdefault(path.resolve(), path)
        return list(candidates.values())

    def _find_named(self, paths: Iterable[Path]) -> Iterator[Path]:
        """Yield archives with the name of the data set, and such folders with it."""
        for path in paths:
            if not self.archive.has_name(path) or self._is_left_out(path):
                continue
            if _is_dir(path):
                yield from self._check_folder(path)
            elif _is_file(path):
                yield from self._check_file(path)

    def _check_file(self, path: Path) -> Iterator[Path]:
        """Yield a file with the name of the data set that the command extracts."""
        fault = describe_part(path)
        if fault:
            self.notes.append(fault)
        elif self.archive.is_unpacked and is_archive_name(path):
            yield path
        elif is_archive_name(path) or path.suffix.lower() == ".7z":
            self.notes.append(f"rsft does not extract {path}: extract it by hand")

    def _check_folder(self, folder: Path) -> Iterator[Path]:
        """Yield a folder with the name of the data set and a member or an archive."""
        try:
            os.scandir(folder).close()
        except OSError:
            self.notes.append(f"{folder} cannot be read: change its permissions")
            return
        fault = ""
        for path in iter_paths(folder):
            is_archive = self.archive.is_unpacked and is_archive_name(path)
            if is_archive or self.archive.is_member(path):
                yield folder
                return
            fault = fault or describe_part(path)
        self.notes.append(fault or f"{folder} does not contain {self.archive.content}")

    def _find_by_content(self, place: Path) -> Iterator[Path]:
        """Yield the data set in the folders of a place.

        ROOT and raw/ may be its folder themselves.
        """
        paths = _list_folder(place)
        is_parent = place == self.root.parent
        if not is_parent and any(map(self.archive.is_member, paths[:_MAX_ENTRIES])):
            yield place
            return
        for folder in filter(_is_open, paths):
            if not self._is_left_out(folder) and not self.archive.has_name(folder):
                yield from self._find_below(folder, folder if is_parent else place)

    def _find_below(self, folder: Path, top: Path) -> Iterator[Path]:
        """Yield what has the name of the data set in a folder of any name.

        If nothing has, yield the folder of all members.

        Args:
            folder: the folder.
            top: the folder or its parent: the highest folder that may be that of the
                data set.
        """
        named = list[Path]()
        homes = []
        for paths in _walk(folder, self.archive.has_name):
            named += self._find_named(paths)
            if any(map(self.archive.is_member, paths)):
                homes.append(_outer_folder(paths[0].parent, top))
        if named:
            yield from named
        elif homes:
            yield Path(os.path.commonpath(homes))

    def _is_left_out(self, path: Path) -> bool:
        """Return whether a path is a place, a folder of the system or a chip store."""
        return (
            path in _list_places(self.root)
            or str(path) in _SYSTEM_FOLDERS
            or _is_file(path / DATASET)
        )


def _outer_folder(folder: Path, top: Path) -> Path:
    """Return the highest parent below `top` that contains a folder such as images/.

    Without such a folder on the way, return the folder itself.
    """
    parts = folder.relative_to(top).parts
    for level, name in enumerate(parts):
        if normalize_folder_name(name) in _INNER_FOLDERS:
            return top.joinpath(*parts[:level])
    return folder


_MAX_LEVELS = 6
_MAX_FOLDERS = 300
_MAX_ENTRIES = 1000
"""Limits of a walk: levels, folders in all, and entries of each folder. A data set has
two levels below its own folder."""


def iter_paths(folder: Path) -> Iterator[Path]:
    """Yield the files and folders in a folder, at most six levels below.

    Links and special files are left out.
    """
    for paths in _walk(folder, lambda path: False):
        yield from paths


def _walk(folder: Path, is_leaf: Callable[[Path], bool]) -> Iterator[list[Path]]:
    """Yield the paths in a folder and in the folders below it, level by level.

    What is in a leaf is left out.
    """
    waiting = deque([(folder, 1)])
    for _ in range(_MAX_FOLDERS):
        if not waiting:
            return
        path, level = waiting.popleft()
        paths = _list_folder(path, _MAX_ENTRIES)
        yield paths
        if level < _MAX_LEVELS:
            for inner in filter(_is_open, paths):
                if not is_leaf(inner):
                    waiting.append((inner, level + 1))


# unlike the methods of `Path`, they are False for what cannot be read
_is_dir = os.path.isdir
_is_file = os.path.isfile
_is_mount = os.path.ismount


def _is_open(path: Path) -> bool:
    """Return whether a path is a folder on the file system of its parent.

    A chip store is none.
    """
    return _is_dir(path) and not _is_mount(path) and not _is_file(path / DATASET)


def _list_folder(
    folder: Path, limit: int | None = None, follow_links: bool = False
) -> list[Path]:
    """Return folders and regular files in a folder, sorted by name.

    Hidden and special files are left out. A folder that cannot be read has none.

    Args:
        folder: the folder.
        limit: number of entries; the file system chooses what is beyond it.
        follow_links: whether to return links.
    """
    try:
        with os.scandir(folder) as entries:
            usable = (entry for entry in entries if _is_usable(entry, follow_links))
            return sorted(map(Path, islice(usable, limit)))
    except OSError:
        return []


def _is_usable(entry: os.DirEntry[str], follow_links: bool) -> bool:
    if entry.name.startswith("."):
        return False
    if entry.is_symlink():
        return follow_links
    return entry.is_dir() or entry.is_file()
