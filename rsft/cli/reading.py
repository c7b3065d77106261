"""What a command may read, and the cell that reads it: see docs/security.md.

The types of its parameters say what it does with the files that they name.
"""

import logging
import os
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from itertools import takewhile
from pathlib import Path
from typing import Any

from rsft.data.annotations import CLASS_NAME_FILES, CLASS_NAME_LEVELS
from rsft.errors import RsftError
from rsft.utils.cell.client import open_cell
from rsft.utils.cell.named import OFF, TRUSTED, check_link
from rsft.utils.cell.walls import landlock_version
from rsft.utils.command_options import Access
from rsft.utils.input_paths import exists, read_path_list
from rsft.utils.remote_files import allow_servers, refuse_servers

_log = logging.getLogger(__name__)

_PRODUCT_FOLDERS = ("measurement", "IMAGEDATA", "imagery", "metadata")
"""Folders with images of a product, whose header lies in the folder above or below
that."""
_READS = Access.READ | Access.BUNDLE | Access.OBJECTS
_Files = Collection[tuple[Access, Any]]


def open_reading_cell(files: _Files) -> list[Path]:
    """Open the cell of a command, which reads what its arguments name.

    Readable are the named files and folders, with a file the folder that contains it,
    since other files of a product or a layer lie there, and what the command makes.
    GDAL and rsft ask servers if an argument names one.

    Args:
        files: values of its parameters, and what it does with the files they name.

    Returns:
        What the cell may read, besides Python and the libraries of the system.

    Raises:
        RequestError: a link in a named folder leads to a file or folder that no
            argument names.
    """
    inputs = list(_one_per_folder(_list_texts(files, _READS)))
    connects = any(map(_names_server, inputs))
    asks_servers = any(
        (access & Access.ONLINE and value) or (access & Access.OFFLINE and not value)
        for access, value in files
    )
    (allow_servers if connects or asks_servers else refuse_servers)()
    named = set(TRUSTED)
    named.update(*map(_find_inputs, inputs))
    named.update(*map(_class_names, _list_texts(files, Access.OBJECTS)))
    if not OFF and not landlock_version():
        _log.warning(
            "this system has no walls for its reader (security.md); RSFT_FENCE=off"
            " hides this line"
        )
    named.update(map(Path, _list_texts(files, Access.WRITE | Access.BESIDE)))
    open_cell(named, connects=connects)
    if not OFF:
        for text in _list_texts(files, Access.READ | Access.OBJECTS):
            for link in _find_links(text):
                check_link(link)
    return sorted(named)


def _list_texts(files: _Files, accesses: Access) -> list[str]:
    """Return what parameters with any of the accesses name, and the lines of lists."""
    texts = []
    for access, value in files:
        if access & accesses and isinstance(value, str | os.PathLike):
            text = os.fspath(value)
            texts += [text, *_list_lines(text)]
    return texts


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

    return SceneUri(text).is_remote or names_servers(Path(text))


def _list_lines(text: str) -> list[str]:
    """Return the file and the inputs of a list that is named as "@path"."""
    if not text.startswith("@"):
        return []
    try:
        lines = list(read_path_list(Path(text[1:])))
    except (RsftError, ValueError):  # the command reports it
        return []
    return [text[1:], *(line for line in lines if not line.startswith("@"))]


def _one_per_folder(texts: Iterable[str]) -> Iterator[str]:
    """Yield what arguments name, but only one file of each folder.

    Its folder may be read with all its files, and a list may name a million scenes.
    """
    folders = set()
    for text in texts:
        path = Path(text)
        # .json and .geojson may name servers; a name may be no path
        is_json = path.suffix.lower().endswith("json")
        if not is_json and exists(text) and path.is_file() and not path.is_symlink():
            if path.parent in folders:
                continue
            if not _contains_home(path.parent.absolute()):
                folders.add(path.parent)
        yield text


def _find_inputs(text: str) -> Iterator[Path]:
    """Yield the paths that an argument names, and the folders of files."""
    from rsft.data.imagery.scene_uri import SceneUri

    path = SceneUri(text).path
    if not path:
        return
    try:
        if not path.exists():
            plain = takewhile(lambda part: not set(part) & set("*?["), path.parts)
            path = Path(*plain)
        yield from _with_neighbors(path)
    except (OSError, ValueError):  # no name of a file
        return


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
    from rsft.data.imagery.reader import IMAGE_SUFFIXES, RASTER_SUFFIXES

    is_image = link.suffix.lower() in {*IMAGE_SUFFIXES, *RASTER_SUFFIXES}
    # The methods of a Path raise errors for names that are too long.
    return os.path.isdir(link) or (  # noqa: PTH112
        is_image and os.path.exists(link)  # noqa: PTH110
    )


def _with_neighbors(path: Path) -> Iterator[Path]:
    """Yield a folder, or the folder of a file.

    If the folder of a file contains the home of the user, only the files of the same
    stem are yielded.
    """
    if not path.exists():
        return
    if path.is_dir():
        yield path.absolute()
        return
    folders = [path.absolute().parent, path.resolve().parent]
    if path.parent.name in _PRODUCT_FOLDERS:
        folders += [folder.parent for folder in folders]
    stem = path.name.partition(".")[0]
    for folder in dict.fromkeys(folders):
        if not _contains_home(folder):
            yield folder
            continue
        for neighbor in folder.iterdir():
            if neighbor.name.partition(".")[0] == stem:
                yield neighbor


def _contains_home(folder: Path) -> bool:
    return Path.home().is_relative_to(folder)
