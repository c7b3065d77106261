"""Rows `path label` of list files, and the names of classes in them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from rsft.data.datasets.formats.text_files import read_text_lines
from rsft.errors import DataError

MAX_LABEL_BYTES = 250
"""Longest name of a class; names of files have at most 255 bytes, with their suffix."""

OUTSIDE = ("/", "../")
"""Begin of a normalized path that is absolute or leaves its root."""


def read_numbered_lines(path: Path) -> list[tuple[int, str]]:
    """Return number, from 1, and stripped text of the lines that are not blank.

    Raises:
        DataError: the file cannot be read, or is not UTF-8 text.
    """
    try:
        return read_text_lines(path)
    except OSError as error:
        raise DataError(f"the file cannot be read: {error.strerror}", path) from error
    except ValueError as error:
        raise DataError(
            "the file is not UTF-8 text", path, "save it as UTF-8"
        ) from error


def read_list_rows(path: Path) -> Iterator[tuple[int, str, str]]:
    r"""Yield line, path and label of the rows `path label`.

    \ in a path becomes /, and a row of one word has the path "".
    """
    for number, line in read_numbered_lines(path):
        name, _, label = line.rpartition("\t" if "\t" in line else " ")
        name = name.strip().replace("\\", "/")
        if name:
            name = os.path.normpath(name).removeprefix("./")
        yield number, name, label


def describe_row_fault(relative: str, label: str) -> str:
    """Return why a row cannot be used, or "".

    Args:
        relative: path of the image, which must not leave the root.
        label: name of the class, which must be able to name a folder.
    """
    if not relative:
        return "a row is `path label`"
    if relative.startswith(OUTSIDE):
        return f"{relative} leaves the folder"
    if label.startswith("-") and label[1:].isdecimal():
        return f"label {label}: a class number must be 0 or more"
    if any("\ud800" <= letter <= "\udfff" for letter in label):
        return "the name of the class folder is not UTF-8 text: rename it"
    if len(os.fsencode(label)) > MAX_LABEL_BYTES:
        return (
            f"label {label[:40]}... has {len(label):,} letters; the limit is"
            f" {MAX_LABEL_BYTES} bytes"
        )
    if label in (".", "..") or "/" in label or "\\" in label:
        return f"label {label} cannot name a class"
    return ""


def sort_class_names(labels: set[str]) -> list[str]:
    """Return class names, sorted by number if all are numbers, else alphabetically."""
    if all(label.isdecimal() for label in labels):
        return sorted(labels, key=int)
    return sorted(labels)


exists = os.path.isfile
"""Whether a file exists; a name that is too long names no file."""
