"""Read text tables of any program: their separator, their cells, the roles of columns.

The first row is the header. The separator gives the header most columns of known roles,
or else most columns; it is the comma if several are equal. Columns are found by their
names: `SYNONYMS` lists the names of each role in lower case, without spaces and
punctuation. `rsft.utils.tables` describes the texts that spreadsheets must not execute.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from rsft.errors import RequestError
from rsft.utils.tables import unescape_cell
from rsft.utils.untrusted.documents import read_regular_text

Synonyms = Mapping[str, Sequence[str]]
"""Names of columns by their role."""


def parse_synonyms(text: str) -> dict[str, list[str]]:
    """Return the names of each role from lines such as `lon: lon longitude`."""
    rows = [line.partition(":") for line in text.strip().splitlines()]
    return {role.strip(): names.split() for role, _, names in rows}


SYNONYMS: Synonyms = parse_synonyms("""
    xmin: xmin minx left x1
    ymin: ymin miny top y1
    xmax: xmax maxx right x2
    ymax: ymax maxy bottom y2
    west: west
    south: south
    east: east
    north: north
    lon: lon longitude lng long londeg longitudedeg longitudedegrees
    lat: lat latitude latdeg latitudedeg latitudedegrees
    col: col column pixelx px
    row: row line pixely py
    x: x easting
    y: y northing
    xcenter: xcenter centerx cx
    ycenter: ycenter centery cy
    width: width w boxwidth bboxwidth
    height: height h boxheight bboxheight
    class: class classname label category categoryname shiptype vesseltype type
    image: image imagename imagepath imageid filename scene sceneid
""")
"""Names of the columns of objects: their box or position, class and image."""

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
"""Separators of columns, and what they are called."""

_EXPONENT = re.compile(r"\d(?:[.,](\d*))?[eE]\+?(\d{1,3})")

_SAVE = "save it as CSV in UTF-8"


class TextTable(NamedTuple):
    """A table whose cells are texts.

    Attributes:
        separator: separator of its columns.
        cells: one row per row of the file, indexed by the line where it begins. Names
            of columns may be empty, and may occur several times.
    """

    separator: str
    cells: pd.DataFrame


def read_text_table(path: Path) -> TextTable:
    """Read a table in UTF-8. Empty cells are "".

    Raises:
        OSError: the file cannot be read.
        DataError: it is larger than MAX_TABLE_BYTES.
        RequestError: it is no such table, or a row has more cells than the header.
    """
    try:
        text = read_regular_text(path)
    except UnicodeDecodeError as error:
        raise _error(str(error), path) from error
    separator = find_separator(text.partition("\n")[0])
    reader = csv.reader(
        io.StringIO(text, newline=""),
        delimiter=separator,
        skipinitialspace=True,
        strict=True,
    )
    rows = {}
    line = 1
    try:
        for row in reader:
            is_blank = len(row) < 2 and not any(map(str.strip, row))
            if not is_blank:
                rows[line] = [unescape_cell(cell) for cell in row]
            line = reader.line_num + 1
    except csv.Error as error:
        raise _error(str(error), f"{path}:{line}") from error
    if not rows:
        raise _error("it is empty", path)
    header = [name.strip() for name in rows.pop(min(rows))]
    for line, row in rows.items():
        _fit_row(row, len(header), f"{path}:{line}")
    cells = pd.DataFrame(list(rows.values()), list(rows), header, dtype=object)
    return TextTable(separator, cells)


def _error(reason: str, location: object) -> RequestError:
    return RequestError(f"the table cannot be read: {reason}", location, _SAVE)


def _fit_row(row: list[str], width: int, location: str) -> None:
    """Add empty cells to a short row, and remove those of a long one."""
    if any(map(str.strip, row[width:])):
        raise RequestError(
            f"the row has {len(row)} fields, but the header has {width}",
            location,
            "enclose fields that contain the separator in quotes",
        )
    row[width:] = [""] * (width - len(row))


def find_separator(header: str, synonyms: Synonyms = SYNONYMS) -> str:
    """Return the separator of the columns of a header.

    Example:
        >>> find_separator("row;col;size (length,width)")
        ';'
    """

    def count_columns(separator: str) -> tuple[int, int]:
        names = header.split(separator)
        return len(find_columns(names, synonyms)), len(names)

    return max(SEPARATORS, key=count_columns)


def find_columns(names: Sequence[str], synonyms: Synonyms = SYNONYMS) -> dict[str, int]:
    """Return the number of the column of each role that a table has.

    Args:
        names: names of the columns. The first one of equal names counts.
        synonyms: names of columns by their role. The first one that exists counts.

    Example:
        >>> find_columns(["MMSI", "Latitude", "x_min"])
        {'xmin': 2, 'lat': 1}
    """
    numbers: dict[str, int] = {}
    for number, name in enumerate(names):
        numbers.setdefault(_plain(name), number)
    columns = {}
    for role, known_names in synonyms.items():
        present = [numbers[name] for name in known_names if name in numbers]
        if present:
            columns[role] = present[0]
    return columns


def check_names(names: Sequence[str], numbers: Iterable[int], path: Path) -> None:
    """Check that columns which are used have names of their own.

    Args:
        names: names of all columns.
        numbers: numbers of the columns that are used.
        path: the file.

    Raises:
        RequestError: two columns have the name of one of them.
    """
    plain = list(map(_plain, names))
    for number in numbers:
        if plain.count(plain[number]) > 1:
            message = f"several columns have the name {names[number]}"
            raise RequestError(message, path, "remove or rename one of them")


def check_identifiers(name: str, texts: Iterable[str], path: Path) -> None:
    """Check that a spreadsheet did not round the identifiers in a column.

    Raises:
        RequestError: it did, such as 2.11E+08 for the MMSI 211235000.
    """
    rounded = list(dict.fromkeys(filter(_is_rounded, texts)))
    if rounded:
        raise RequestError(
            f"the column {name} has rounded numbers, as a spreadsheet writes them:"
            f" {', '.join(rounded[:3])}",
            path,
            "export the original file again, with this column as text or with whole"
            " numbers",
        )


def _is_rounded(text: str) -> bool:
    """Return whether an exponent hides digits in front of the decimal separator."""
    match = _EXPONENT.fullmatch(text.strip())
    return match is not None and len(match[1] or "") < int(match[2])


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", name.lower())
