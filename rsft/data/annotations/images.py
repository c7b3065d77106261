"""The objects of one image, from a file or from a folder with one file per image."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path, PureWindowsPath

from rsft.data.annotations.base import (
    IMAGE,
    Annotations,
    annotation_formats,
    read_annotations,
)
from rsft.errors import DataError, RequestError
from rsft.types import Names

_UPLOAD = re.compile(r"[0-9a-f]{8}-")  # before the name of an uploaded file


_RULES = (
    "",
    "",
    "without its suffix",
    "without the prefix of an upload",
    "the name of its folder",
)
"""How the name of an image in a file is that of an image, from the strictest rule on,
see `_find_rule`."""


class NoAnnotationsError(DataError):
    """The annotations of several images say nothing about an image."""


def find_annotations(
    path: Path,
    image: Path,
    layer: str | None = None,
    columns: Mapping[str, str] | None = None,
) -> Annotations:
    """Read the objects of one image.

    Args:
        path: a file in one of the formats; or a folder with a file for the image, which
            has its name or contains it.
        image: path of the image. Only its name and that of its folder count.
        layer: see `read_annotations`.
        columns: see `read_annotations`.

    Returns:
        The objects of the image: all objects of a file that does not name images.
            `path` is the file.

    Raises:
        RequestError: the file cannot be read, or the folder has several files for the
            image.
        NoAnnotationsError: the folder has no file for the image, or the file names
            other images.
        DataError: the file names several images with the name of the image.
    """
    is_named = False
    if path.is_dir():
        path, is_named = _find_file(path, image)
    annotations = read_annotations(path, layer, columns)
    images = annotations.images
    if not images:
        return annotations
    names, rule = _match(images, image)
    if not names and is_named and len(images) == 1:
        names = list(images)
        rule = "by the name of the file"
    if not names:
        message = f"none of its {len(images):,} images has the name {image.name}"
        raise NoAnnotationsError(message, path, "rename the scene or the image")
    if len(names) > 1:
        message = f"several of its images may be {image.name}: {', '.join(names[:5])}"
        raise DataError(message, path, "keep one of them")
    (name,) = names
    notes = list(annotations.notes)
    if rule:
        notes.append(f"{path.name}: the image {name} is taken as {image.name}: {rule}")
    table = annotations.table[annotations.table[IMAGE] == name]
    return annotations._replace(table=table, images=(name,), notes=notes)


def _find_file(folder: Path, image: Path) -> tuple[Path, bool]:
    """Return the file of an image in a folder, and whether its name tells it."""
    files = list_annotation_files(folder)
    matches = [path for path in files if path.stem in (image.stem, image.name)]
    is_named = bool(matches)
    if not is_named:
        for path in files:
            if _match(_image_names(path, path.stat().st_mtime_ns), image)[0]:
                matches.append(path)
    if len(matches) > 1:
        listed = ", ".join(path.name for path in matches)
        raise RequestError(
            f"{len(matches)} files for {image.name}: {listed}",
            folder,
            "keep one of them, or give the path of the file",
        )
    if not matches:
        raise NoAnnotationsError(
            f"no file of positions for {image.name} among {len(files):,} files of"
            " annotations",
            folder,
            f"name it {image.stem}.txt, .xml or .json, or give the path of a file",
        )
    return matches[0], is_named


def list_annotation_files(folder: Path) -> list[Path]:
    """Return the files of a folder whose suffix is that of a format."""
    suffixes = set().union(*[reader.suffixes for reader in annotation_formats()])
    return [
        path
        for path in sorted(folder.iterdir())
        if path.suffix.lower() in suffixes and path.is_file()
    ]


@lru_cache(maxsize=10_000)
def _image_names(path: Path, modified: int) -> Names:
    """Return the names of the images in a file.

    A text file names none; neither does a file that cannot be read.
    """
    try:
        if path.suffix.lower() == ".txt":
            return ()
        return read_annotations(path).images
    except (RequestError, DataError):
        return ()


def _match(names: Names, image: Path) -> tuple[list[str], str]:
    """Return the names that are an image by the strictest rule, and this rule."""
    rules = [_find_rule(name, image) for name in names]
    strictest = min(rules, default=len(_RULES))
    if strictest == len(_RULES):
        return [], ""
    pairs = zip(names, rules, strict=True)
    return [name for name, rule in pairs if rule == strictest], _RULES[strictest]


def _find_rule(name: str, image: Path) -> int:
    """Return the number of the strictest rule by which a name is that of an image.

    It is the number of rules if the name is another one.
    """
    path = PureWindowsPath(name)  # separators of Windows and others
    is_same = (
        image.as_posix().endswith(f"/{path.as_posix()}"),
        path.name == image.name,
        path.stem == image.stem,
        _UPLOAD.sub("", path.stem, count=1) == image.stem,
        name == image.absolute().parent.name,
        True,
    )
    return is_same.index(True)
