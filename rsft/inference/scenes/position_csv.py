"""Read positions from CSV tables with commas, semicolons, tabs or vertical bars."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import shapely

from rsft.errors import RequestError
from rsft.inference.scenes.attributes import attribute_table, text_column
from rsft.inference.scenes.georeference import LONLAT
from rsft.inference.scenes.position_table import PIXEL_CRS, PositionTable
from rsft.utils.tables import unescape_cell

_POINTS = {("lon", "lat"): LONLAT, ("longitude", "latitude"): LONLAT, ("col", "row"): PIXEL_CRS, ("x", "y"): None}
_BOXES = {("xmin", "ymin", "xmax", "ymax"): None, ("west", "south", "east", "north"): LONLAT}
_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}


class _Rows(NamedTuple):
    """The content of a table: names of the columns, fields of every row, and the line on which each row begins."""

    header: list[str]
    fields: list[list[str]]
    lines: list[int]


def read_csv_positions(path: Path) -> PositionTable:
    """Read the positions of a CSV table. The identity of a position is its line; the header is line 1.

    Args:
        path: a table in UTF-8, with columns as in docs/analyst.md. Other separators than commas are recognized, and
            decimal commas beside them.

    Returns:
        The positions. Columns that contain the position are not among their attributes.

    Raises:
        RequestError: the table is damaged, or has no columns of positions.
    """
    try:
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RequestError(f"the table cannot be read: {error}", path, "save it as CSV in UTF-8") from error
    separator = _find_separator(text)
    rows = _split_rows(path, text, separator)
    names = [name.lower() for name in rows.header]
    position = next((columns for columns in _BOXES | _POINTS if set(columns) <= set(names)), None)
    if position is None:
        choices = "; ".join(" and ".join(columns) for columns in (*_POINTS, *_BOXES))
        message = f"no columns of positions among {', '.join(names)} (separated by {_SEPARATORS[separator]})"
        raise RequestError(message, path, f"name the columns {choices}")
    texts = dict(zip(names, zip(*rows.fields, strict=True) if rows.fields else [()] * len(names), strict=True))
    decimal = _decimal_separator([texts[name] for name in position], separator)
    attributes = [
        text_column(name or f"column_{number}", [row[number - 1] for row in rows.fields], decimal)
        for number, name in enumerate(rows.header, 1)
        if name.lower() not in position
    ]
    return PositionTable(
        shapes=_make_shapes([[text.replace(decimal, ".") for text in texts[name]] for name in position]),
        attributes=attribute_table(rows.lines, rows.lines, attributes),
        crs=(_BOXES | _POINTS)[position],
        notes=[] if separator == "," else [_describe(path, separator, decimal)],
    )


def _find_separator(text: str) -> str:
    """Return the separator that gives the header columns of positions, or else the one that gives most columns."""
    header = text.partition("\n")[0]

    def rank(separator: str) -> tuple[bool, int]:
        names = {name.strip().strip('"').strip().lower() for name in header.split(separator)}
        return any(set(columns) <= names for columns in _BOXES | _POINTS), header.count(separator)

    return max(_SEPARATORS, key=rank)  # the comma if they are equal


def _split_rows(path: Path, text: str, separator: str) -> _Rows:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True, strict=True)
    fields, lines, line = [], [], 1
    try:
        for row in reader:
            if len(row) > 1 or any(field.strip() for field in row):  # not a blank line
                fields.append([unescape_cell(field) for field in row])
                lines.append(line)
            line = reader.line_num + 1
    except csv.Error as error:
        raise RequestError(f"the table cannot be read: {error}", f"{path}:{line}", "save it as CSV in UTF-8") from error
    header, width = [name.strip() for name in (fields or [[]])[0]], len((fields or [[]])[0])
    for row, line in zip(fields, lines, strict=True):
        if any(field.strip() for field in row[width:]):
            message = f"the row has {len(row)} fields, but the header has {width}"
            raise RequestError(message, f"{path}:{line}", "enclose fields that contain the separator in quotes")
    return _Rows(header, [(row + [""] * width)[:width] for row in fields[1:]], lines[1:])


def _decimal_separator(positions: Sequence[Sequence[str]], separator: str) -> str:
    """Return "," if the numbers of the positions have decimal commas and no points."""
    texts = [text for column in positions for text in column]
    has_commas = separator != "," and any("," in text for text in texts)
    return "," if has_commas and not any("." in text for text in texts) else "."


def _make_shapes(columns: Sequence[Sequence[str]]) -> list[shapely.Geometry | None]:
    """Return points of two columns and boxes of four; None for a row without numbers."""
    numbers = pd.DataFrame(columns, dtype=object).T.apply(pd.to_numeric, errors="coerce").to_numpy(float)
    is_complete = np.isfinite(numbers).all(axis=1)
    values = numbers[is_complete].T
    shapes = np.full(len(numbers), None, object)
    shapes[is_complete] = shapely.points(*values) if len(columns) == 2 else shapely.box(*values)
    return list(shapes)


def _describe(path: Path, separator: str, decimal: str) -> str:
    commas = ", numbers with decimal commas" if decimal == "," else ""
    return f"{path.name}: columns separated by {_SEPARATORS[separator]}{commas}"
