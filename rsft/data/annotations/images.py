"""The objects of one image, from a file or from a folder with one file per image."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path, PureWindowsPath

from rsft.data.annotations.base import (
    IMAGE,
    Annotations,
    annotation_formats,
    read_annotations,
)
from rsft.errors import DataError, RequestError

_UPLOAD = re.compile(
    r"[0-9a-f]{8}-"
)  # Label Studio puts it before the name of an uploaded file
_MATCHES: tuple[tuple[str, Callable[[str, Path], bool]], ...] = (
    ("", lambda name, image: _base_name(name) == image.name),
    ("without its suffix", lambda name, image: _stem(name) == image.stem),
    (
        "after the prefix of Label Studio",
        lambda name, image: _stem(_UPLOAD.sub("", _base_name(name), 1)) == image.stem,
    ),
    (
        "the name of its folder",
        lambda name, image: name == image.absolute().parent.name,
    ),
)
"""How the name of an image in a file is that of an image, from the strictest rule
on."""


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
    is_named = path.is_dir()
    if path.is_dir():
        path, is_named = _find_file(path, image)
    elif not path.is_file():
        raise RequestError(
            f"no file of positions for {image.name}",
            path,
            "check the path and the file name",
        )
    annotations = read_annotations(path, layer, columns)
    if not annotations.images:
        return annotations
    names, rule = _match(annotations.images, image)
    notes = list(annotations.notes)
    if len(names) > 1:
        message = f"several of its images may be {image.name}: {', '.join(names[:5])}"
        raise DataError(message, path, "keep one of them")
    if not names:
        if not is_named or len(annotations.images) > 1:
            message = (
                f"none of its {len(annotations.images):,} images has the name"
                f" {image.name}"
            )
            raise NoAnnotationsError(message, path, "rename the scene or the image")
        names = list(annotations.images)
        rule = "by the name of the file"
    if rule:
        notes.append(
            f"{path.name}: the image {names[0]} is taken as {image.name}: {rule}"
        )
    table = annotations.table[annotations.table[IMAGE] == names[0]]
    return annotations._replace(table=table, images=(names[0],), notes=notes)


def _find_file(folder: Path, image: Path) -> tuple[Path, bool]:
    """Return the file of an image in a folder, and whether the name of the file tells it."""
    files = list_annotation_files(folder)
    named = [path for path in files if path.stem in (image.stem, image.name)]
    matches = named or [
        path
        for path in files
        if _match(_image_names(path, path.stat().st_mtime_ns), image)[0]
    ]
    if len(matches) > 1:
        message = (
            f"{len(matches)} files for {image.name}:"
            f" {', '.join(path.name for path in matches)}"
        )
        raise RequestError(
            message, folder, "keep one of them, or give the path of the file"
        )
    if not matches:
        message = (
            f"no file of positions for {image.name} among {len(files):,} files of"
            " annotations"
        )
        raise NoAnnotationsError(
            message,
            folder,
            f"name it {image.stem}.txt, .xml or .json, or give the path of a file",
        )
    return matches[0], bool(named)


def list_annotation_files(folder: Path) -> list[Path]:
    """Return the files of a folder whose suffix is that of a format."""
    suffixes = {suffix for reader in annotation_formats() for suffix in reader.suffixes}
    return [
        path
        for path in sorted(folder.iterdir())
        if path.suffix.lower() in suffixes and path.is_file()
    ]


@lru_cache(maxsize=10_000)
def _image_names(path: Path, modified: int) -> tuple[str, ...]:
    """Return the names of the images in a file; none if it cannot be read, or is a text file, which names none."""
    try:
        if path.suffix.lower() == ".txt":
            return ()
        return read_annotations(path).images
    except (RequestError, DataError):
        return ()


def _match(names: tuple[str, ...], image: Path) -> tuple[list[str], str]:
    """Return the names that are an image by the strictest rule that fits, and this rule."""
    for rule, is_match in _MATCHES:
        matches = [name for name in names if is_match(name, image)]
        if matches:
            whole = [
                name
                for name in matches
                if image.as_posix().endswith(f"/{PureWindowsPath(name).as_posix()}")
            ]
            return whole if len(whole) == 1 else matches, rule
    return [], ""


def _base_name(name: str) -> str:
    return PureWindowsPath(name).name  # separators of Windows and others


def _stem(name: str) -> str:
    return PureWindowsPath(name).stem
