"""Tables of positions and boxes in CSV or Parquet, whose columns are found by their names, and those of xView3."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import shapely
from pyproj import CRS
from pyproj.exceptions import ProjError
from shapely.errors import ShapelyError

from rsft.data.annotations import base
from rsft.data.annotations.base import (
    ANNOTATIONS,
    PIXEL,
    AnnotationFormat,
    Annotations,
    annotation_table,
)
from rsft.data.annotations.layers import convert_columns
from rsft.errors import RequestError
from rsft.types import Floats
from rsft.utils.tables import read_parquet, unescape_cell
from rsft.utils.untrusted.documents import (
    MAX_TABLE_BYTES,
    open_regular,
    parse_json,
    read_regular_text,
)

_LONLAT = "EPSG:4326"
_POSITIONS: dict[
    tuple[str, ...], str | None
] = {  # roles of the columns of boxes and points, and coordinate system
    ("xmin", "ymin", "xmax", "ymax"): None,
    ("west", "south", "east", "north"): _LONLAT,
    ("lon", "lat"): _LONLAT,
    ("col", "row"): PIXEL,
    ("x", "y"): None,
}
_SYNONYMS: dict[
    str, tuple[str, ...]
] = {  # names of columns by their role, in lower case with _ between words
    "xmin": ("x_min", "minx", "min_x", "left", "x1"),
    "ymin": ("y_min", "miny", "min_y", "top", "y1"),
    "xmax": ("x_max", "maxx", "max_x", "right", "x2"),
    "ymax": ("y_max", "maxy", "max_y", "bottom", "y2"),
    **{name: () for name in ("west", "south", "east", "north")},
    "lon": ("longitude", "lng", "long", "lon_deg", "longitude_deg"),
    "lat": ("latitude", "lat_deg", "latitude_deg"),
    "col": ("column", "pixel_x", "px"),
    "row": ("line", "pixel_y", "py"),
    "x": ("easting", "x_center", "center_x", "cx"),
    "y": ("northing", "y_center", "center_y", "cy"),
    "class": (
        "class_name",
        "label",
        "category",
        "category_name",
        "ship_type",
        "vessel_type",
        "type",
    ),
    "image": (
        "image_name",
        "image_path",
        "image_id",
        "filename",
        "file_name",
        "scene",
        "scene_id",
    ),
}
_DOCUMENTED = frozenset((*_SYNONYMS, "longitude", "latitude"))
"""Names of columns that docs/analyst.md documents. A column with another name is a
guess, which a note states."""
_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
_HEADER_BYTES = 2**16


class _Columns(NamedTuple):
    """The columns of a table that have a role.

    Attributes:
        roles: number of the column of each role.
        position: roles that are the position.
        crs: coordinate system of the position.
        guesses: what was decided by the names of columns that docs/analyst.md does not
            document.
    """

    roles: dict[str, int]
    position: tuple[str, ...]
    crs: str | None
    guesses: list[str]


@ANNOTATIONS.register
class CsvTable(AnnotationFormat):
    """A table with columns of positions as in docs/analyst.md.

    The identity of a position is its line.
    """

    name = "csv"
    title = "CSV"
    suffixes = (".csv",)
    has_columns = True

    def read(self, path: Path, layer: str | None = None) -> Annotations:
        separator, header, rows = read_csv_rows(path)
        columns = _find_columns(
            path, header, self.columns, f" (separated by {_SEPARATORS[separator]})"
        )
        coordinates = rows[[columns.roles[role] for role in columns.position]]
        cells = coordinates.to_numpy(object).ravel()
        has_commas = (
            separator != ","
            and any("," in cell for cell in cells)
            and not any("." in cell for cell in cells)
        )
        decimal = "," if has_commas else "."
        attributes = [
            base.text_column(name or f"column_{number + 1}", rows[number], decimal)
            for number, name in enumerate(header)
        ]
        commas = ", numbers with decimal commas" if has_commas else ""
        if separator == ",":
            notes = []
        else:
            notes = [
                f"{path.name}: columns separated by {_SEPARATORS[separator]}{commas}"
            ]
        floats = coordinates.map(lambda cell: cell.replace(decimal, ".")).apply(
            pd.to_numeric, errors="coerce"
        )
        return _make_annotations(
            path,
            columns,
            floats.to_numpy(float),
            attributes,
            rows.index.tolist(),
            notes,
        )


@ANNOTATIONS.register
class Parquet(AnnotationFormat):
    """GeoParquet, read without GDAL, or a Parquet file with columns of positions.

    The identity of a position is the number of its row, from 0.
    """

    name = "parquet"
    title = "Parquet"
    suffixes = (".parquet", ".geoparquet")
    has_columns = True

    def read(self, path: Path, layer: str | None = None) -> Annotations:
        try:
            open_regular(path, MAX_TABLE_BYTES).close()
            table = read_parquet(path)
            shapes, crs, left = (
                (None, None, []) if self.columns else _read_geometry(table)
            )
            table = table.drop_columns(left)
        except (KeyError, TypeError, AttributeError, IndexError) as error:
            raise RequestError(
                f"its description as GeoParquet is damaged: {error!r}",
                path,
                "write it again with GeoPandas or GDAL",
            ) from error
        except (
            OSError,
            ValueError,
            pa.ArrowException,
            ShapelyError,
            ProjError,
        ) as error:
            raise RequestError(
                f"the file cannot be read: {error}", path, "export it again"
            ) from error
        attributes, notes = convert_columns(path, table)
        ids = list(range(table.num_rows))
        if shapes is not None:
            return Annotations(
                annotation_table(shapes, ids, attributes), crs, notes=notes
            )
        columns = _find_columns(
            path, [str(column.name) for column in attributes], self.columns
        )
        floats = number_columns(
            pd.concat(attributes, axis=1, ignore_index=True),
            [columns.roles[role] for role in columns.position],
        )
        return _make_annotations(path, columns, floats, attributes, ids, notes)


def _find_columns(
    path: Path, header: Sequence[str], columns: Mapping[str, str], separated: str = ""
) -> _Columns:
    """Find the columns of a table by their names, and by `columns`, see `read_annotations`.

    Raises:
        RequestError: no columns are a position, or `columns` has an unknown role or
            column.
    """
    numbers = {_words(name): number for number, name in enumerate(header)}
    if "x3" in numbers:  # x1, y1, x2, y2 are then no upright box
        numbers = {
            name: number
            for name, number in numbers.items()
            if not re.fullmatch("[xy][12]", name)
        }
    present = {
        role: [name for name in (role, *names) if name in numbers]
        for role, names in _SYNONYMS.items()
    }
    roles = {role: numbers[names[0]] for role, names in present.items() if names}
    for role, name in columns.items():
        if role not in _SYNONYMS or name not in header:
            if role in _SYNONYMS:
                message = f"no column {name}"
            else:
                message = f"{role} is no role of a column"
            choices = ", ".join(header if role in _SYNONYMS else _SYNONYMS)
            raise RequestError(message, f"{path} --columns", f"choose among {choices}")
        roles[role] = list(header).index(name)
    candidates = [position for position in _POSITIONS if set(position) <= set(roles)]
    position = max(
        candidates, key=lambda position: len(set(position) & set(columns)), default=None
    )
    if position is None:
        listed = ", ".join(header).lower()
        choices = "; ".join(" and ".join(x) for x in sorted(_POSITIONS, key=len))
        raise RequestError(
            f"no columns of positions among {listed}{separated}",
            path,
            (
                f"name the columns {choices}; or say which they are: --columns"
                " lon=NAME,lat=NAME"
            ),
        )
    used = [header[roles[role]] for role in position]
    guesses = []
    crs = _POSITIONS[position]
    if not {name.lower() for name in used} <= _DOCUMENTED and not set(position) & set(
        columns
    ):
        guesses.append(f"the position is {', '.join(used)}")
    is_scene = (
        "image" in roles
        and header[roles["image"]].lower().startswith("scene")
        and "image" not in columns
    )
    if crs == _LONLAT or (crs is None and is_scene):
        roles.pop("image", None)  # positions on a map belong to every image
        if crs is None and is_scene:
            guesses.append(
                "rows of all scenes belong to an image; for those of one: --columns"
                " image=NAME"
            )
    elif "image" in roles:
        if crs is None:
            meaning = f" and {', '.join(used)} are pixels in it"
        else:
            meaning = ""
        guesses.append(f"{header[roles['image']]} names the image{meaning}")
        crs = PIXEL
    if (
        "class" in roles
        and header[roles["class"]].lower() != "class"
        and "class" not in columns
    ):
        guesses.append(f"the class is {header[roles['class']]}")
    return _Columns(roles, position, crs, guesses)


def number_columns(table: pd.DataFrame, names: Sequence[Any]) -> Floats:
    """Return columns as numbers (N, K); NaN for cells that are none."""
    columns = [table[name].astype(object) for name in names]
    return np.array([pd.to_numeric(x, errors="coerce") for x in columns], float).T


def _words(name: str) -> str:
    return re.sub(r"[\W_]+", "_", name.lower()).strip("_")


def _make_annotations(
    path: Path,
    columns: _Columns,
    floats: Floats,
    attributes: list[pd.Series[Any]],
    ids: list[int],
    notes: list[str],
) -> Annotations:
    """Return the annotations of positions (N, 2) or boxes (N, 4); `attributes` are all columns of the table."""
    roles = columns.roles
    position = columns.position
    kept = {
        number: column
        for number, column in enumerate(attributes)
        if number not in map(roles.get, position)
    }
    if "class" in roles:
        column = attributes[roles["class"]].rename("class")
        if str(attributes[roles["class"]].name).lower() == "class":
            kept[roles["class"]] = column
        else:
            kept = {-1: column} | kept
    images = [""] * len(ids)
    if "image" in roles:
        cells = attributes[roles["image"]]
        images = [
            "" if is_missing else str(name)
            for name, is_missing in zip(cells, cells.isna(), strict=True)
        ]
        unnamed = images.count("")
        notes = notes + base.describe_counts(
            path, "left out", {"rows without the name of an image": unnamed}
        )
    if columns.guesses:
        notes = [
            *notes,
            f"{path.name}: {'; '.join(columns.guesses)}, by the names of columns",
        ]
    is_complete = np.isfinite(floats).all(axis=1)
    shapes = np.full(len(floats), None, object)
    shapes[is_complete] = (shapely.points if len(position) == 2 else shapely.box)(
        *floats[is_complete].T
    )
    table = annotation_table(shapes, ids, kept.values(), images=images)
    return Annotations(
        table,
        columns.crs,
        tuple(dict.fromkeys(name for name in images if name)),
        notes=notes,
    )


def _read_geometry(table: pa.Table) -> tuple[Any, str | None, list[str]]:
    """Return the shapes of GeoParquet, their coordinate system, and the columns that are no attributes.

    Returns:
        None, None and [] if the file is no GeoParquet.
    """
    description = (table.schema.metadata or {}).get(b"geo")
    if description is None:
        return None, None, []
    geo = parse_json(description)
    name = geo["primary_column"]
    column = geo["columns"][name]
    if column["encoding"] != "WKB":
        raise ValueError(f"the geometry is not WKB, but {str(column['encoding'])[:40]}")
    crs = column.get("crs", "OGC:CRS84")
    covering = {box["xmin"][0] for box in (column.get("covering") or {}).values()}
    shapes = shapely.from_wkb(table[name].to_numpy())
    return (
        shapes,
        None if crs is None else CRS.from_user_input(crs).to_wkt(),
        [name, *covering],
    )


def csv_header(path: Path) -> set[str]:
    """Return the names of the columns of a table, in lower case."""
    with open_regular(path, MAX_TABLE_BYTES) as file:
        line = file.readline(_HEADER_BYTES).decode("utf-8-sig", "replace")
    return {
        name.strip().strip('"').strip().lower() for name in re.split(r"[,;\t|]", line)
    }


def read_csv_rows(path: Path) -> tuple[str, list[str], pd.DataFrame]:
    """Return the separator, the header, and the cells of all rows as texts, indexed by the line where a row begins.

    The separator gives the header columns of positions, or else most columns; it is the
    comma if several are equal.
    """
    try:
        text = read_regular_text(path)
    except UnicodeDecodeError as error:
        raise RequestError(
            f"the table cannot be read: {error}", path, "save it as CSV in UTF-8"
        ) from error
    first = text.partition("\n")[0]

    def rank(separator: str) -> tuple[bool, int]:
        names = {_words(name) for name in first.split(separator)}
        roles = {
            role for role, synonyms in _SYNONYMS.items() if names & {role, *synonyms}
        }
        return any(set(columns) <= roles for columns in _POSITIONS), first.count(
            separator
        )

    separator = max(_SEPARATORS, key=rank)
    reader = csv.reader(
        io.StringIO(text, newline=""),
        delimiter=separator,
        skipinitialspace=True,
        strict=True,
    )
    rows: dict[int, list[str]] = {}
    line = 1
    try:
        for row in reader:
            if len(row) > 1 or any(cell.strip() for cell in row):  # not a blank line
                rows[line] = [unescape_cell(cell) for cell in row]
            line = reader.line_num + 1
    except csv.Error as error:
        raise RequestError(
            f"the table cannot be read: {error}",
            f"{path}:{line}",
            "save it as CSV in UTF-8",
        ) from error
    if rows:
        header = [name.strip() for name in rows.pop(next(iter(rows)))]
    else:
        header = []
    width = len(header)
    for line, row in rows.items():
        if any(cell.strip() for cell in row[width:]):
            raise RequestError(
                f"the row has {len(row)} fields, but the header has {width}",
                f"{path}:{line}",
                "enclose fields that contain the separator in quotes",
            )
        row[width:] = [""] * (width - len(row))
    return (
        separator,
        header,
        pd.DataFrame(list(rows.values()), list(rows), range(width), dtype=object),
    )
