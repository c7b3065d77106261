"""Label files in the text format of DOTA.

Up to two header lines precede rows of the form `x1 y1 x2 y2 x3 y3 x4 y4 class [difficult]`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rsft.data.datasets._text import read_numbered_lines
from rsft.errors import DataError
from rsft.types import Rejection

HEADERS = ("imagesource", "gsd")
"""Keys of the header lines `key:value`."""

_DIFFICULTIES = (0, 1, 2)  # 2: an object that was cut when a large image was divided


@dataclass(frozen=True)
class LabelRow:
    """One object of a label file.

    Attributes:
        line: line number in the file, from 1.
        number: row number below the header, from 1; unusable rows count too.
        category: class name, spelled as in `class_lookup`.
        box: corners x1 y1 ... x4 y4 in pixels of the image; they may be NaN, have no area or lie outside the image.
        difficult: 0, 1 or 2.
    """

    line: int
    number: int
    category: str
    box: tuple[float, ...]
    difficult: int


@dataclass
class LabelFile:
    """The content of a label file.

    Attributes:
        header: values of the header lines by key.
        rows: the objects.
        rejected: rows that cannot be parsed.
    """

    header: dict[str, str] = field(default_factory=dict)
    rows: list[LabelRow] = field(default_factory=list)
    rejected: list[Rejection] = field(default_factory=list)


def read_label_file(path: Path, class_lookup: Mapping[str, str]) -> LabelFile:
    """Read a label file.

    Args:
        path: the file.
        class_lookup: class names by normalized name, see `build_class_lookup`.

    Returns:
        Header, objects and rejected rows.

    Raises:
        DataError: the file cannot be read or is not UTF-8.
    """
    result, number = LabelFile(), 0
    for line, text in read_numbered_lines(path):
        if text.lower().startswith(HEADERS):
            key, _, value = text.partition(":")
            result.header[key.lower()] = value.strip()
            continue
        number += 1
        try:
            result.rows.append(LabelRow(line, number, *_parse(text, class_lookup)))
        except DataError as error:
            result.rejected.append((str(path), line, error.message))
    return result


def build_class_lookup(classes: Iterable[str]) -> dict[str, str]:
    """Map normalized class names to class names.

    Args:
        classes: class names.

    Returns:
        The class names by normalized name.
    """
    return {normalize_class_name(name): name for name in classes}


def normalize_class_name(name: str) -> str:
    """Return the letters of a name in lower case: copies of a data set differ in capitals, hyphens and underscores."""
    return re.sub(r"[^a-z]", "", name.lower())


def _parse(text: str, class_lookup: Mapping[str, str]) -> tuple[str, tuple[float, ...], int]:
    fields = text.split()
    if len(fields) not in (9, 10):
        raise DataError(f"{len(fields)} fields; a row has 8 numbers, a class and optionally a difficulty")
    try:
        box, difficult = tuple(float(field) for field in fields[:8]), int(fields[9]) if len(fields) == 10 else 0
    except ValueError as error:
        raise DataError("a corner or the difficulty is not a number") from error
    category = class_lookup.get(normalize_class_name(fields[8]))
    if category is None:
        raise DataError(f"unknown class {fields[8]}")
    if difficult not in _DIFFICULTIES:
        raise DataError(f"the difficulty is {difficult}; it must be 0, 1 or 2")
    return category, box, difficult
