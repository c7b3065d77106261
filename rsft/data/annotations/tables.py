"""CSV tables with columns of positions, separated by commas, semicolons, tabs or vertical bars."""

import csv
import io
from pathlib import Path

import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray

from rsft.data.annotations.base import ANNOTATIONS, PIXEL, AnnotationFormat, Annotations, annotation_table
from rsft.data.annotations.columns import text_column
from rsft.errors import RequestError
from rsft.utils.tables import unescape_cell

_LONLAT = "EPSG:4326"
_POSITIONS: dict[tuple[str, ...], str | None] = {  # columns of boxes and points, and their coordinate system
    ("xmin", "ymin", "xmax", "ymax"): None,
    ("west", "south", "east", "north"): _LONLAT,
    ("lon", "lat"): _LONLAT,
    ("longitude", "latitude"): _LONLAT,
    ("col", "row"): PIXEL,
    ("x", "y"): None,
}
_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}


@ANNOTATIONS.register
class CsvTable(AnnotationFormat):
    """A table with columns of positions as in docs/analyst.md. The identity of a position is its line."""

    name = "csv"
    title = "CSV"

    def recognizes(self, path: Path) -> bool:
        return path.suffix.lower() == ".csv"

    def read(self, path: Path, layer: str | None = None) -> Annotations:
        try:
            text = path.read_text("utf-8-sig")
        except UnicodeDecodeError as error:
            raise RequestError(f"the table cannot be read: {error}", path, "save it as CSV in UTF-8") from error
        separator = _find_separator(text)
        header, rows = _read_rows(path, text, separator)
        numbers = {name.lower(): number for number, name in enumerate(header)}
        position = next((columns for columns in _POSITIONS if set(columns) <= set(numbers)), None)
        if position is None:
            listed = ", ".join(name.lower() for name in header)
            message = f"no columns of positions among {listed} (separated by {_SEPARATORS[separator]})"
            choices = "; ".join(" and ".join(columns) for columns in sorted(_POSITIONS, key=len))
            raise RequestError(message, path, f"name the columns {choices}")
        coordinates = rows[[numbers[name] for name in position]]
        cells = coordinates.to_numpy(object).ravel()
        has_commas = separator != "," and any("," in cell for cell in cells) and not any("." in cell for cell in cells)
        decimal = "," if has_commas else "."
        attributes = [
            text_column(name or f"column_{number + 1}", rows[number], decimal)
            for number, name in enumerate(header)
            if name.lower() not in position
        ]
        commas = ", numbers with decimal commas" if has_commas else ""
        note = f"{path.name}: columns separated by {_SEPARATORS[separator]}{commas}"
        table = annotation_table(_make_shapes(coordinates, decimal), rows.index.tolist(), attributes)
        return Annotations(table, _POSITIONS[position], notes=() if separator == "," else (note,))


def _find_separator(text: str) -> str:
    """Return the separator that gives the header columns of positions, or else the one that gives most columns."""
    header = text.partition("\n")[0]

    def rank(separator: str) -> tuple[bool, int]:
        names = {name.strip().strip('"').strip().lower() for name in header.split(separator)}
        return any(set(columns) <= names for columns in _POSITIONS), header.count(separator)

    return max(_SEPARATORS, key=rank)  # the comma if they are equal


def _read_rows(path: Path, text: str, separator: str) -> tuple[list[str], pd.DataFrame]:
    """Return the header, and the cells of all rows as texts, indexed by the line on which a row begins."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True, strict=True)
    rows: dict[int, list[str]] = {}
    line = 1
    try:
        for row in reader:
            if len(row) > 1 or any(cell.strip() for cell in row):  # not a blank line
                rows[line] = [unescape_cell(cell) for cell in row]
            line = reader.line_num + 1
    except csv.Error as error:
        raise RequestError(f"the table cannot be read: {error}", f"{path}:{line}", "save it as CSV in UTF-8") from error
    header = [name.strip() for name in rows.pop(next(iter(rows)))] if rows else []
    width = len(header)
    for line, row in rows.items():
        if any(cell.strip() for cell in row[width:]):
            message = f"the row has {len(row)} fields, but the header has {width}"
            raise RequestError(message, f"{path}:{line}", "enclose fields that contain the separator in quotes")
    cells = [(row + [""] * width)[:width] for row in rows.values()]
    return header, pd.DataFrame(cells, list(rows), range(width), dtype=object)


def _make_shapes(coordinates: pd.DataFrame, decimal: str) -> NDArray[np.object_]:
    """Return points of two columns and boxes of four; None for a row without numbers."""
    texts = coordinates.map(lambda cell: cell.replace(decimal, "."))
    numbers = texts.apply(pd.to_numeric, errors="coerce").to_numpy(float)
    is_complete = np.isfinite(numbers).all(axis=1)
    values = numbers[is_complete].T
    shapes = np.full(len(numbers), None, object)
    shapes[is_complete] = shapely.points(*values) if len(values) == 2 else shapely.box(*values)
    return shapes
