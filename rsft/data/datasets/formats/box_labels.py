"""Label files of rotated boxes, as those of DOTA and SRSDD."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from rsft.data.datasets.formats.text_files import Rejected, read_text_lines

_FIRST_ROWS = 5
_MAX_FIRST_ROWS = 2**12
"""Rows, and letters of them, that tell the format of a label file."""

_NUMBER = re.compile(r"[-+.]*\d|[-+]?(nan|inf)\b", re.IGNORECASE)


Corners = tuple[float, ...]
"""Corners x1 y1 ... x4 y4 of a box in pixels."""


@dataclass(frozen=True)
class LabelRow:
    """One object of a label file.

    Attributes:
        line: line number in the file, from 1.
        number: row number below the header, from 1; unusable rows count too.
        box: corners x1 y1 ... x4 y4 in pixels of the image; they may be NaN, have no
            area or lie outside the image.
        difficult: difficulty of the object: 0, 1, or 2 for an object that was cut when
            a large image was divided.
    """

    line: int
    number: int
    category: str
    box: Corners
    difficult: int


def build_class_lookup(classes: Iterable[str]) -> dict[str, str]:
    """Return class names by normalized name.

    Copies of a data set differ in capitals, hyphens and spaces.
    """
    return {_normalize(name): name for name in classes}


def read_label_file(
    path: Path, lookup: Mapping[str, str]
) -> tuple[dict[str, str], list[LabelRow], Rejected]:
    """Read header lines `key:value`, and rows `x1 y1 ... x4 y4 class [difficulty]`.

    Args:
        path: the file.
        lookup: class names by normalized name.

    Returns:
        Values of the header lines by key, the objects, and the rows that cannot be
        parsed. A file that cannot be read is rejected as a whole.
    """
    header: dict[str, str] = {}
    rows: list[LabelRow] = []
    rejected: Rejected = []
    try:
        lines = read_text_lines(path)
    except (OSError, ValueError) as error:
        reason = "the file is not UTF-8 text"
        if isinstance(error, OSError):
            reason = f"the file cannot be read: {error.strerror}"
        return header, rows, [(str(path), 0, reason)]
    for line, text in lines:
        number = len(rows) + len(rejected) + 1
        if number == 1 and _is_header(text):
            key, _, value = text.partition(":")
            header[key.strip("'\" ").lower()] = value.strip()
            continue
        try:
            rows.append(LabelRow(line, number, *_parse_row(text, lookup)))
        except ValueError as error:
            rejected.append((str(path), line, str(error)))
    return header, rows, rejected


def has_box(path: Path, lookup: Mapping[str, str] | None = None) -> bool:
    """Return whether one of the first rows of a text file is a box with a class.

    Args:
        path: the file.
        lookup: class names by normalized name; None for any class.
    """
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            rows = file.read(_MAX_FIRST_ROWS).splitlines()[:_FIRST_ROWS]
    except OSError:
        return False
    for text in filter(str.strip, rows):
        try:
            _parse_row(text, lookup or build_class_lookup(text.split()[8:9]))
        except ValueError:
            continue
        return True
    return False


def _is_header(text: str) -> bool:
    """Return whether a line begins with a word and has too few numbers for a box."""
    is_number = [bool(_NUMBER.match(word)) for word in re.split(r"[\s,;]+", text)]
    return not is_number[0] and sum(is_number) < 4


def _normalize(name: str) -> str:
    return re.sub(r"[^a-z]", "", name.lower())


def _parse_row(text: str, lookup: Mapping[str, str]) -> tuple[str, Corners, int]:
    """Return class, corners and difficulty of a row.

    Raises:
        ValueError: the row cannot be used, with the reason.
    """
    fields = text.split()
    difficult = 0
    if re.fullmatch("[0-2]", fields[-1]):
        difficult = int(fields.pop())
    name = " ".join(fields[8:])
    try:
        box = tuple(map(float, fields[:8]))
    except ValueError:
        box = ()
    if not box or not name or fields[-1].isdecimal():
        raise ValueError(
            "the row is not 8 numbers, a class and optionally a difficulty from 0 to 2"
        )
    category = lookup.get(_normalize(name))
    if not category:
        raise ValueError(f"unknown class {name}")
    return category, box, difficult
