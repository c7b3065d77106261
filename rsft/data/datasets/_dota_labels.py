"""Label files in DOTA's text form: rows `x1 y1 x2 y2 x3 y3 x4 y4 class [difficult]` below up to two header lines."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rsft.data.datasets._text import read_numbered_lines
from rsft.errors import DataError
from rsft.types import Rejection

HEADERS = ("imagesource", "gsd")

_DIFFICULTIES = (0, 1, 2)  # 2: an object that was cut when the image was split


@dataclass(frozen=True)
class LabelRow:
    """An object as a label file has it.

    Attributes:
        line: of the file, from 1.
        number: among the rows below the header, from 1, usable or not.
        box: x1 y1 ... x4 y4 in pixels of the image; may be NaN, have no area or leave the image.
    """

    line: int
    number: int
    category: str
    box: tuple[float, ...]
    difficult: int


@dataclass
class LabelFile:
    """A label file: `header` holds what the lines imagesource: and gsd: say, `rejected` the rows that are no rows."""

    header: dict[str, str] = field(default_factory=dict)
    rows: list[LabelRow] = field(default_factory=list)
    rejected: list[Rejection] = field(default_factory=list)


def read_label_file(path: Path, spellings: Mapping[str, str]) -> LabelFile:
    """Read `path`; a class is known by `spellings[letters_of(name)]`.

    Raises:
        DataError: the file cannot be read or is no UTF-8.
    """
    found, number = LabelFile(), 0
    for line, text in read_numbered_lines(path):
        if text.lower().startswith(HEADERS):
            key, _, value = text.partition(":")
            found.header[key.lower()] = value.strip()
            continue
        number += 1
        try:
            found.rows.append(LabelRow(line, number, *_parse(text, spellings)))
        except DataError as error:
            found.rejected.append((str(path), line, error.message))
    return found


def build_class_lookup(classes: Iterable[str]) -> dict[str, str]:
    """Each class by its letters alone."""
    return {normalize_class_name(name): name for name in classes}


def normalize_class_name(name: str) -> str:
    """The letters of a name in lower case: copies of one data set differ in capitals, hyphens and underscores."""
    return re.sub(r"[^a-z]", "", name.lower())


def _parse(text: str, spellings: Mapping[str, str]) -> tuple[str, tuple[float, ...], int]:
    fields = text.split()
    if len(fields) not in (9, 10):
        raise DataError(f"{len(fields)} fields, where an object has 8 numbers, a class and a difficulty")
    try:
        box, difficult = tuple(float(field) for field in fields[:8]), int(fields[9]) if len(fields) == 10 else 0
    except ValueError as error:
        raise DataError("a corner or the difficulty is not a number") from error
    category = spellings.get(normalize_class_name(fields[8]))
    if category is None:
        raise DataError(f"unknown class {fields[8]}")
    if difficult not in _DIFFICULTIES:
        raise DataError(f"a difficulty of {difficult}, where it is 0, 1 or 2")
    return category, box, difficult
