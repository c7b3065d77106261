"""Search for the archives of published data sets in the folder of a chip store and beside it.

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
from itertools import islice, zip_longest
from pathlib import Path

from rsft.data.chips.builder import check_root_is_free
from rsft.data.chips.store import DATASET
from rsft.data.datasets.formats.fusar_files import FUSAR_CATEGORIES
from rsft.data.datasets.formats.fusar_metadata import normalize_folder_name
from rsft.errors import RequestError
from rsft.utils.archive_members import describe_part
from rsft.utils.archives import is_archive_name
from rsft.utils.fence import OUTSIDE, describe_fence, is_hidden
from rsft.utils.source_tree import is_extracted

_log = logging.getLogger(__name__)

_SYSTEM_FOLDERS = {
    f"/{name}"
    for name in (
        "bin",
        "boot",
        "dev",
        "etc",
        "lib",
        "lib32",
        "lib64",
        "proc",
        "run",
        "sbin",
    )
}
_SYSTEM_FOLDERS |= {"/sys", "/tmp", "/usr", "/var"}
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
        """Return whether a folder or archive has the name of the data set; case and punctuation do not matter."""
        return self.word in "".join(filter(str.isalnum, path.name.lower()))

    def is_in(self, folder: Path) -> bool:
        """Return whether a folder contains a member of the data set at most six levels below."""
        return any(map(self.is_member, iter_paths(folder)))


def locate_sources(
    command: str,
    root: Path,
    sources: Mapping[PublishedArchive, Path | None],
    overwrite: bool = False,
    allow_partial: bool = False,
) -> tuple[Path, list[Path | None]]:
    """Return the folder for the chip store, and the folder or archive of each data set.

    The search covers `root`, the folder that contains it, and raw/ in both. A folder or
    archive with the name of the data set comes before a folder with any name. If `root`
    contains a source, the store is a folder in `root`.

    Args:
        command: name of the command of `rsft prepare`.
        root: folder of the chip store, as the user names it.
        sources: folder or archive of each data set; None to search for it.
        overwrite: whether a chip store at `root` may be replaced.
        allow_partial: return None for a data set that is missing, unless all are.

    Raises:
        RequestError: a data set is missing, or several copies of it exist; or `root` is
            a chip store already.
    """
    try:
        paths = _search(root, sources, allow_partial)
    except RequestError:
        if (root / DATASET).is_file():
            check_root_is_free(root, overwrite)  # the more important error
        raise
    for archive, path in zip(sources, paths, strict=True):
        if path is None:
            _log.warning(
                "%s was not found: the chip store is built without it", archive.name
            )
        elif sources[archive] is None:
            _log.warning("%s: %s", archive.name, path)
    return (
        _choose_root(command, root, [path for path in paths if path is not None]),
        paths,
    )


def _search(
    root: Path, sources: Mapping[PublishedArchive, Path | None], allow_partial: bool
) -> list[Path | None]:
    """Return the path of each data set; None for a missing one."""
    candidates = dict[PublishedArchive, list[Path]]()
    notes = list[str]()
    for archive, path in sources.items():
        search = _Search(archive, root.resolve())
        candidates[archive] = search.find_all() if path is None else [path]
        notes += search.notes
    missing = [archive for archive, paths in candidates.items() if not paths]
    if missing and (len(missing) == len(sources) or not allow_partial):
        raise _explain_missing(missing, root, notes, len(sources) > 1)
    for archive, paths in candidates.items():
        if len(paths) > 1:
            raise RequestError(
                f"{archive.name}: {len(paths)} folders or archives contain it",
                ", ".join(map(str, paths)),
                (
                    "name the one to read, such as"
                    f" {format_example([archive], root, paths[:1])}"
                ),
            )
    return [next(iter(paths), None) for paths in candidates.values()]


def locate_source(
    archive: PublishedArchive, root: Path, source: Path | None, overwrite: bool
) -> tuple[Path, Path]:
    """Return the folder for the chip store, and the folder or archive of one data set, see `locate_sources`."""
    store, [path] = locate_sources(archive.command, root, {archive: source}, overwrite)
    assert path is not None  # a missing one is an error
    return store, path


def _choose_root(command: str, root: Path, paths: Iterable[Path]) -> Path:
    """Return `root`, or a folder in it if it contains one of the paths."""

    def is_inside(path: Path, folder: Path) -> bool:
        return path.resolve().is_relative_to(
            folder.resolve()
        ) or path.absolute().is_relative_to(folder.absolute())

    if not any(is_inside(path, root) for path in paths):
        return root
    store = root / command
    if any(is_inside(path, store) for path in paths):
        store = root / f"{command}-chips"
    _log.warning("%s contains the archives: the chip store is %s", root, store)
    return store


def _explain_missing(
    missing: Sequence[PublishedArchive], root: Path, notes: Sequence[str], is_pair: bool
) -> RequestError:
    names = " and ".join(archive.name for archive in missing)
    downloads = "; ".join(f"{archive.name} {archive.download}" for archive in missing)
    folders = ", ".join(map(str, _places(root.resolve())))
    hint = (
        f"download {downloads}. Put the folders or archives into {root} or beside it,"
        " or name them: "
    )
    hint += format_example(missing, root)
    hint += (
        " (--allow-partial builds from the other data set alone)"
        if is_pair and len(missing) == 1
        else ""
    )
    return RequestError(
        f"{names} not found",
        f"{folders}, and the folders in them",
        ". ".join([*notes, hint]),
    )


def format_example(
    archives: Sequence[PublishedArchive], root: Path, paths: Sequence[Path] = ()
) -> str:
    """Return the command that names the folders or archives of data sets; `paths` replace the names of the data sets.

    Example:
        >>> from rsft.data.datasets.published_archives import FUSAR_SHIP_ARCHIVE
        >>> format_example([FUSAR_SHIP_ARCHIVE], Path("/data"))
        'rsft prepare fusrs --root /data --fusar FUSAR-Ship'
    """
    words = ["rsft", "prepare", archives[0].command, "--root", str(root)]
    for archive, path in zip_longest(archives, paths):
        words += [archive.option] if archive.option.startswith("--") else []
        words.append(str(path or archive.name))
    return shlex.join(words)


def _places(root: Path) -> list[Path]:
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
        """Return the folders and archives of the data set: those with its name, or else folders with any name.

        An archive whose files exist beside it is left out.

        Raises:
            RequestError: the fence hides a folder with the name of the data set.
        """
        places = _places(self.root)
        candidates = [
            path for place in places for path in self._find_named(_list_folder(place))
        ]
        if not candidates:
            candidates = [
                path for place in places for path in self._find_by_content(place)
            ]
        candidates = list(
            {path.resolve(): path for path in reversed(candidates)}.values()
        )[::-1]
        if len(candidates) > 1:
            candidates = [
                path for path in candidates if path.is_dir() or not is_extracted(path)
            ]
        return candidates

    def _find_named(self, entries: Iterable[os.DirEntry[str]]) -> Iterator[Path]:
        """Yield the archives with the name of the data set, and the folders with its name and content."""
        for path in (
            Path(entry) for entry in entries if self.archive.has_name(Path(entry))
        ):
            if self._is_left_out(path):
                continue
            if _is_kind(path, Path.is_dir):
                yield from self._check_folder(path)
            elif _is_kind(path, Path.is_file):
                yield from self._check_file(path)

    def _check_file(self, path: Path) -> Iterator[Path]:
        """Yield a file with the name of the data set if it is an archive that the command extracts."""
        fault = describe_part(path)
        if fault:
            self.notes.append(fault)
        elif self.archive.is_unpacked and is_archive_name(path):
            yield path
        elif is_archive_name(path) or path.suffix.lower() == ".7z":
            self.notes.append(f"rsft does not extract {path}: extract it by hand")

    def _check_folder(self, folder: Path) -> Iterator[Path]:
        """Yield a folder with the name of the data set if it contains a member or an archive.

        Raises:
            RequestError: the fence hides the folder.
        """
        if not _is_kind(folder, _can_list):
            if describe_fence() and is_hidden(folder):
                raise RequestError(
                    OUTSIDE,
                    folder,
                    f"name it: {format_example([self.archive], self.root, [folder])}",
                )
            self.notes.append(f"{folder} cannot be read: change its permissions")
            return
        paths = list(iter_paths(folder))
        has_archive = self.archive.is_unpacked and any(map(is_archive_name, paths))
        if has_archive or any(map(self.archive.is_member, paths)):
            yield folder
            return
        parts = list(filter(None, map(describe_part, paths)))
        self.notes += parts[:1] or [f"{folder} does not contain {self.archive.content}"]

    def _find_by_content(self, place: Path) -> Iterator[Path]:
        """Yield the data set in the folders of a place; ROOT and raw/ may be its folder themselves."""
        entries = [entry for entry in _list_folder(place) if not entry.is_symlink()]
        is_parent = place == self.root.parent
        if not is_parent and any(
            self.archive.is_member(Path(entry))
            for entry in entries[: _NEIGHBORS.entries]
        ):
            yield place
            return
        device = place.stat().st_dev if entries else 0
        folders = [
            entry
            for entry in entries
            if entry.is_dir(follow_symlinks=False) and _is_open(entry, device)
        ]
        paths = [
            path
            for path in map(Path, folders)
            if not (self._is_left_out(path) or self.archive.has_name(path))
        ]
        for folder in paths[: _NEIGHBORS.entries]:
            yield from self._find_below(folder, folder if is_parent else place)

    def _find_below(self, folder: Path, top: Path) -> Iterator[Path]:
        """Yield what has the name of the data set in a folder of any name, or else the folder of all members.

        Args:
            folder: the folder.
            top: the folder or its parent: the highest folder that may be that of the
                data set.
        """
        named = list[Path]()
        homes = list[Path]()
        for entries in _walk(folder, _NEIGHBORS, self.archive.has_name):
            named += self._find_named(entries)
            members = (
                Path(entry) for entry in entries if self.archive.is_member(Path(entry))
            )
            member = next(members, None)
            if member is not None:
                homes.append(_outer_folder(member.parent, top))
        if named:
            yield from named
        elif homes:
            yield Path(os.path.commonpath(homes))

    def _is_left_out(self, path: Path) -> bool:
        """Return whether a path is a place of the search itself, a folder of the system or a chip store."""
        return (
            path in _places(self.root)
            or str(path) in _SYSTEM_FOLDERS
            or _is_kind(path / DATASET, Path.is_file)
        )


def _outer_folder(folder: Path, top: Path) -> Path:
    """Return the folder, or its highest parent below `top` that contains a folder such as images/ on the way to it."""
    parts = folder.relative_to(top).parts
    inner = [
        level
        for level, name in enumerate(parts)
        if normalize_folder_name(name) in _INNER_FOLDERS
    ]
    if inner:
        return top.joinpath(*parts[: inner[0]])
    return folder


@dataclass(frozen=True)
class _Limits:
    """Limits of a walk: levels below its folder, folders in all, and entries of each folder."""

    levels: int
    folders: int
    entries: int


_NEIGHBORS = _Limits(
    levels=5, folders=100, entries=300
)  # a data set has two levels below its own folder
_NAMED = _Limits(levels=6, folders=1000, entries=3000)


def iter_paths(folder: Path) -> Iterator[Path]:
    """Yield the files and folders in a folder, at most six levels below, without links and special files."""
    for entries in _walk(folder, _NAMED, lambda path: False):
        yield from map(Path, entries)


def _walk(
    folder: Path, limits: _Limits, is_leaf: Callable[[Path], bool]
) -> Iterator[list[os.DirEntry[str]]]:
    """Yield the entries of a folder and of the folders below it, level by level, but not of those that are leaves."""
    waiting = deque([(folder, 1)])
    device = folder.stat().st_dev
    for _ in range(limits.folders):
        if not waiting:
            return
        path, level = waiting.popleft()
        entries = [
            entry
            for entry in _list_folder(path, limits.entries)
            if not entry.is_symlink()
        ]
        yield entries
        if level < limits.levels:
            folders = [
                entry for entry in entries if entry.is_dir(follow_symlinks=False)
            ]
            folders = [
                entry
                for entry in folders
                if _is_open(entry, device) and not is_leaf(Path(entry))
            ]
            waiting += [(Path(entry), level + 1) for entry in folders]


def _is_open(folder: os.DirEntry[str], device: int) -> bool:
    """Return whether the walk may enter a folder: it is on the file system `device`, and is no chip store."""
    try:
        is_on_device = (
            Path(folder).stat().st_dev == device
        )  # that of a DirEntry is 0 on Windows
    except OSError:
        return False
    return is_on_device and not _is_kind(Path(folder, DATASET), Path.is_file)


def _list_folder(folder: Path, limit: int | None = None) -> list[os.DirEntry[str]]:
    """Return `limit` folders, regular files and links in a folder, sorted by name; none if it cannot be read.

    Hidden and special files are left out. The file system chooses what is beyond the
    limit.
    """
    try:
        with os.scandir(folder) as entries:
            usable = (
                entry
                for entry in entries
                if not entry.name.startswith(".") and _is_usable(entry)
            )
            return sorted(islice(usable, limit), key=lambda entry: entry.name)
    except OSError:
        return []


def _is_usable(entry: os.DirEntry[str]) -> bool:
    return (
        entry.is_symlink()
        or entry.is_dir(follow_symlinks=False)
        or entry.is_file(follow_symlinks=False)
    )


def _is_kind(path: Path, is_kind: Callable[[Path], bool]) -> bool:
    """Return the result of a test of a path; False if the path cannot be read."""
    try:
        return is_kind(path)
    except OSError:
        return False


def _can_list(folder: Path) -> bool:
    os.scandir(folder).close()
    return True
