"""What a command may read, and the cell that reads it: see docs/security.md.

The types of its parameters say what it does with the files that they name.
"""

import logging
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from rsft.data.annotations import CLASS_NAME_FILES, CLASS_NAME_LEVELS
from rsft.errors import RequestError, RsftError
from rsft.utils.cell.client import open_cell
from rsft.utils.cell.named import OFF, TRUSTED, outside_hint
from rsft.utils.cell.walls import landlock_version
from rsft.utils.command_options import Access
from rsft.utils.remote_files import allow_servers, refuse_servers
from rsft.utils.untrusted.documents import read_regular

_log = logging.getLogger(__name__)

_PRODUCT_FOLDERS = ("measurement", "IMAGEDATA", "imagery", "metadata")
"""Folders with images of a product, whose header lies in the folder above or below
that."""
_IMAGE_SUFFIXES = frozenset(
    (
        ".tif",
        ".tiff",
        ".png",
        ".jpg",
        ".jpeg",
        ".jp2",
        ".bmp",
        ".webp",
        ".img",
        ".ntf",
        ".nitf",
        ".nc",
        ".h5",
        ".hdf5",
    )
)
_READS = Access.READ | Access.BUNDLE | Access.OBJECTS


def open_reading_cell(files: Mapping[Access, Collection[Any]]) -> list[Path]:
    """Open the cell of a command, which reads what its arguments name.

    Readable are the named files and folders, with a file the folder that contains it,
    since other files of a product or a layer lie there, and what the command makes.
    GDAL and rsft ask servers if an argument names one.

    Args:
        files: values of its parameters by what it does with them.

    Returns:
        What the cell may read, besides Python and the libraries of the system.

    Raises:
        RequestError: a link in a named folder leads to a file or folder that no
            argument names.
    """
    inputs = _list_texts(files, _READS)
    asks_servers = any(_list_values(files, Access.ONLINE)) or not all(
        _list_values(files, Access.OFFLINE)
    )
    connects = any(map(_names_server, inputs))
    (allow_servers if connects or asks_servers else refuse_servers)()
    named = {*TRUSTED, *map(Path.resolve, TRUSTED)}
    for text in inputs:
        named.update(_find_inputs(text))
    if not OFF:
        for text in _list_texts(files, Access.READ | Access.OBJECTS):
            _check_links(text, named)
    for text in _list_texts(files, Access.OBJECTS):
        named.update(_class_names(text))
    if not OFF and not landlock_version():
        text = "this system has no walls for its reader (security.md)"
        _log.warning("%s; RSFT_FENCE=off hides this line", text)
    named.update(map(Path, _list_texts(files, Access.WRITE | Access.BESIDE)))
    open_cell(named, connects=connects)
    return sorted(named)


def _list_values(files: Mapping[Access, Collection[Any]], access: Access) -> list[Any]:
    """Return the values of all parameters with any of the given accesses."""
    values: list[Any] = []
    for kind, some in files.items():
        if kind & access:
            values += some
    return values


def _list_texts(files: Mapping[Access, Collection[Any]], access: Access) -> list[str]:
    values = _list_values(files, access)
    return [os.fspath(x) for x in values if isinstance(x, str | os.PathLike)]


def _class_names(text: str) -> Iterator[Path]:
    """Yield the files that may name the classes of YOLO labels.

    Links are left out, since they may lead anywhere.
    """
    path = Path(text).absolute()
    for folder in (path, *path.parents)[: CLASS_NAME_LEVELS + (not path.is_dir())]:
        for name in CLASS_NAME_FILES:
            file = folder / name
            if not file.is_symlink():
                yield file


def _names_server(text: str) -> bool:
    """Return whether an argument is an address, or an item with files on servers."""
    from rsft.data.imagery.scene_uri import SceneUri, names_servers

    is_list = text.startswith("@") and any(map(_names_server, _list_lines(text)))
    return is_list or SceneUri(text).is_remote or names_servers(Path(text))


def _list_lines(text: str) -> list[str]:
    """Return the inputs in a list that is named as "@path"."""
    try:
        lines = read_regular(Path(text[1:])).decode(errors="replace").splitlines()
    except (RsftError, OSError, ValueError):  # the command reports it
        return []
    return [line.strip() for line in lines if line.strip() and not line.startswith("@")]


def _find_inputs(text: str) -> Iterator[Path]:
    """Yield the paths that an argument names, and the folders of files."""
    from rsft.data.imagery.scene_uri import SceneUri

    if text.startswith("@"):
        yield from _with_neighbors(Path(text[1:]))
        for line in _list_lines(text):
            yield from _find_inputs(line)
    path = SceneUri(text).path
    if path is None:
        return
    try:
        if not path.exists():
            for number, part in enumerate(path.parts):
                if set(part) & set("*?["):
                    path = Path(*path.parts[:number])
                    break
        yield from _with_neighbors(path)
    except (OSError, ValueError):  # no name of a file
        return


def _check_links(text: str, named: Collection[Path]) -> None:
    """Raise an error if a named folder contains a link to what no argument names.

    Links to folders and images count. The content of a folder may be a stranger's, so a
    link in it opens nothing. It is no reason to leave chips out either.

    Args:
        text: the argument; a list names several folders.
        named: all named files and folders, with links resolved.

    Raises:
        RequestError: there is such a link.
    """
    for folder in _list_lines(text) if text.startswith("@") else [text]:
        for link in _find_links(folder):
            target = Path(os.path.realpath(link))
            if not any(path in named for path in (target, *target.parents)):
                raise RequestError(
                    f"the link leads to {target}, which no argument names",
                    link,
                    outside_hint(link),
                )


def _find_links(folder: str) -> Iterator[Path]:
    """Yield the links to folders and images in a folder and those below.

    No list of names is kept, which may be long. Links to nothing are left out: they are
    reported where they are read.
    """
    folders = [folder]
    while folders:
        with suppress(OSError, ValueError), os.scandir(folders.pop()) as entries:
            for entry in entries:
                if not entry.is_symlink():
                    if entry.is_dir():
                        folders.append(entry.path)
                elif _leads_to_images(Path(entry)):
                    yield Path(entry)


def _leads_to_images(link: Path) -> bool:
    """Return whether a link leads to a folder, or as an image to a file."""
    is_image = link.suffix.lower() in _IMAGE_SUFFIXES
    # The methods of a Path raise errors for names that are too long.
    return os.path.isdir(link) or (  # noqa: PTH112
        is_image and os.path.exists(link)  # noqa: PTH110
    )


def _with_neighbors(path: Path) -> Iterator[Path]:
    """Yield a folder, or a file and its folder.

    If the folder of a file contains the home of the user, only the files of the same
    stem are yielded.
    """
    if not path.exists():
        return
    yield from (path.resolve(), path.absolute())
    if path.is_dir():
        return
    folders = [path.absolute().parent, path.resolve().parent]
    if path.parent.name in _PRODUCT_FOLDERS:
        folders += [folder.parent for folder in folders]
    stem = path.name.partition(".")[0]
    for folder in dict.fromkeys(folders):
        if not Path.home().is_relative_to(folder):
            yield folder
            continue
        for neighbor in folder.iterdir():
            if neighbor.name.partition(".")[0] == stem:
                yield neighbor
