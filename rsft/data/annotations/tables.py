"""Tables of positions and boxes in CSV or Parquet, whose columns are found by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import shapely
from pyproj import CRS
from pyproj.exceptions import ProjError
from shapely.errors import ShapelyError

from rsft.data.annotations.base import (
    ANNOTATIONS,
    PIXEL,
    AnnotationFormat,
    Annotations,
    annotation_table,
    describe_counts,
)
from rsft.data.annotations.columns import name_texts, text_column
from rsft.data.annotations.layers import convert_columns
from rsft.data.annotations.table_checks import (
    check_numbers,
    check_order,
    check_thousands,
)
from rsft.errors import RequestError
from rsft.types import LONLAT, Floats, Names
from rsft.utils.parquet_files import read_parquet
from rsft.utils.untrusted.documents import MAX_TABLE_BYTES, open_regular, parse_json
from rsft.utils.untrusted.text_tables import (
    SEPARATORS,
    SYNONYMS,
    check_identifiers,
    check_names,
    find_columns,
    find_separator,
    read_text_table,
)

_POSITIONS: dict[Names, str | None] = {
    ("xmin", "ymin", "xmax", "ymax"): None,
    ("west", "south", "east", "north"): LONLAT,
    ("lon", "lat"): LONLAT,
    ("col", "row"): PIXEL,
    ("xmin", "ymin", "width", "height"): None,
    ("xcenter", "ycenter", "width", "height"): None,
    ("xcenter", "ycenter"): None,
    ("x", "y"): None,
}
"""Roles of the columns of a box or a point -> coordinate system, if the roles tell."""

_SIZES = ("width", "height")
_PLAIN_POINTS = (("col", "row"), ("x", "y"))
"""Roles that do not say which point of a box they are."""

_IDENTIFIERS = ("mmsi", "imo")
"""Columns of identifiers, which must not be rounded."""

_DOCUMENTED = frozenset((*SYNONYMS, "longitude", "latitude"))
"""Documented names of columns. Another name is a guess, which a note states."""

_CORNERS = ("x1", "y1", "x2", "y2")
"""Columns of an upright box, unless the table has x3 as well."""

_HEADER_BYTES = 2**16


class _Columns(NamedTuple):
    """The columns of a table that have a role.

    Attributes:
        header: names of all columns.
        named: names of columns by role that the user gave.
        numbers: number of the column of each role.
        position: roles that are the position.
    """

    header: Sequence[str]
    named: Mapping[str, str]
    numbers: dict[str, int]
    position: Names

    @property
    def position_numbers(self) -> list[int]:
        """Numbers of the columns of the position."""
        return [self.numbers[role] for role in self.position]

    @property
    def position_names(self) -> str:
        """Names of the columns of the position."""
        return ", ".join(self.header[number] for number in self.position_numbers)

    def name_of(self, role: str) -> str:
        """Return the name of the column of a role; "" without one."""
        return self.header[self.numbers[role]] if role in self.numbers else ""

    @property
    def name_images(self) -> bool:
        """Whether the rows belong to the images that a column names.

        A position on a map belongs to every image. So do coordinates of scenes, which
        may be on a map as well.
        """
        crs = _POSITIONS[self.position]
        return "image" in self.numbers and (
            crs == PIXEL or (crs is None and not self.name_scenes)
        )

    @property
    def name_scenes(self) -> bool:
        """Whether a column that the user did not name contains scenes."""
        is_scene = self.name_of("image").lower().startswith("scene")
        return is_scene and "image" not in self.named


@ANNOTATIONS.register
class CsvTable(AnnotationFormat):
    """A table with columns of positions.

    The identity of a position is its line.
    """

    name = "csv"
    title = "CSV"
    suffixes = (".csv",)
    has_columns = True

    def read(self, path: Path, layer: str | None = None) -> Annotations:
        separator, cells = read_text_table(path)
        header = [str(name) for name in cells]
        columns = _find_columns(path, header, self.columns, SEPARATORS[separator])
        for name, column in cells.items():
            if str(name).lower() in _IDENTIFIERS:
                check_identifiers(str(name), column, path)
        coordinates = cells.iloc[:, columns.position_numbers]
        if separator != "," and _POSITIONS[columns.position] != LONLAT:
            check_thousands(path, columns.position_names, coordinates)
        texts = "".join(coordinates.to_numpy(object).ravel())
        has_commas = separator != "," and "," in texts and "." not in texts
        decimal = "," if has_commas else "."
        attributes = [
            text_column(name or f"column_{number}", cells.iloc[:, number - 1], decimal)
            for number, name in enumerate(header, 1)
        ]
        notes = []
        if separator != ",":
            commas = ", numbers with decimal commas" if has_commas else ""
            columns_text = f"columns separated by {SEPARATORS[separator]}"
            notes.append(f"{path.name}: {columns_text}{commas}")
        floats = read_floats(coordinates.map(lambda cell: cell.replace(decimal, ".")))
        check_numbers(path, columns.position_names, coordinates, floats)
        ids = cells.index.tolist()
        return _make_annotations(path, columns, floats, attributes, ids, notes)


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
            description = (table.schema.metadata or {}).get(b"geo")
            geometry = None
            if description is not None and not self.columns:
                geometry = _read_geometry(table, description)
        except (
            OSError,
            ValueError,
            LookupError,
            TypeError,
            AttributeError,
            pa.ArrowException,
            ShapelyError,
            ProjError,
        ) as error:
            raise RequestError(
                f"the file cannot be read: {error!r}",
                path,
                "write it again with GeoPandas or GDAL",
            ) from error
        ids = list(range(table.num_rows))
        if geometry:
            shapes, crs, table = geometry
        attributes, notes = convert_columns(path, table)
        if geometry:
            objects = annotation_table(shapes, ids, attributes)
            return Annotations(objects, crs, notes=notes)
        header = [str(column.name) for column in attributes]
        columns = _find_columns(path, header, self.columns)
        coordinates = [attributes[number] for number in columns.position_numbers]
        floats = read_floats(pd.concat(coordinates, axis=1))
        return _make_annotations(path, columns, floats, attributes, ids, notes)


def _find_columns(
    path: Path, header: Sequence[str], named: Mapping[str, str], separator: str = ""
) -> _Columns:
    """Find the columns of a table by their names, and those that the user named.

    Raises:
        RequestError: no columns are a position, or `named` has an unknown role or
            column.
    """
    names = [name.lower() for name in header]
    if "x3" in names:
        names = ["" if name in _CORNERS else name for name in names]
    numbers = find_columns(names)
    numbers |= _find_named(path, header, named)
    possible = [position for position in _POSITIONS if set(position) <= set(numbers)]
    if not possible:
        raise _no_position(path, header, separator)
    position = max(possible, key=lambda roles: len(set(roles) & set(named)))
    columns = _Columns(header, named, numbers, position)
    roles = [*position, *({"class", "image"} & set(numbers))]
    check_names(header, [numbers[role] for role in roles if role not in named], path)
    _check_corner(path, columns)
    return columns


def _check_corner(path: Path, columns: _Columns) -> None:
    """Check that a table with sizes says which point of a box its position is.

    Raises:
        RequestError: it does not, and neither does the caller.
    """
    has_sizes = set(_SIZES) <= set(columns.numbers)
    is_named = not columns.named.keys().isdisjoint(columns.position)
    if columns.position not in _PLAIN_POINTS or is_named or not has_sizes:
        return
    x, y = map(columns.name_of, columns.position)
    width, height = map(columns.name_of, _SIZES)
    first, second = columns.position
    raise RequestError(
        f"{x}, {y} may be the corner or the center of a box with {width} and {height}",
        path,
        "rename them to xmin and ymin, or to x_center and y_center; or say it:"
        f" --columns xmin={x},ymin={y} or --columns xcenter={x},ycenter={y}; for points"
        f" without boxes: --columns {first}={x},{second}={y}",
    )


def _find_named(
    path: Path, header: Sequence[str], named: Mapping[str, str]
) -> dict[str, int]:
    option = f"{path} --columns"
    for role, name in named.items():
        if role not in SYNONYMS or name not in header:
            raise RequestError(
                f"{role}={name} is not ROLE=COLUMN",
                option,
                f"the roles are {', '.join(SYNONYMS)}, the columns {', '.join(header)}",
            )
    return {role: list(header).index(name) for role, name in named.items()}


def _no_position(path: Path, header: Sequence[str], separator: str) -> RequestError:
    separated = f" (separated by {separator})" if separator else ""
    choices = [" and ".join(roles) for roles in sorted(_POSITIONS, key=len)]
    return RequestError(
        f"no columns of positions among {', '.join(header).lower()}{separated}",
        path,
        f"name the columns {'; '.join(choices)}; or say which they are: --columns"
        " lon=NAME,lat=NAME",
    )


def read_floats(table: pd.DataFrame) -> Floats:
    """Return columns as numbers; NaN for cells that are none."""
    numbers = table.astype(object).apply(pd.to_numeric, errors="coerce")
    return np.asarray(numbers.to_numpy(np.float64, na_value=np.nan))


def _make_annotations(
    path: Path,
    columns: _Columns,
    floats: Floats,
    attributes: list[pd.Series[Any]],
    ids: list[int],
    notes: list[str],
) -> Annotations:
    """Return the objects of a table.

    Args:
        path: the file.
        columns: its columns.
        floats: positions (N, 2) or boxes (N, 4).
        attributes: all columns of the table.
        ids: identities of the objects.
        notes: remarks for the reader.
    """
    images = [""] * len(ids)
    if columns.name_images:
        images = name_texts(attributes[columns.numbers["image"]])
        counts = {"rows without the name of an image": images.count("")}
        notes = notes + describe_counts(path, "left out", counts)
    guesses = ", ".join(_list_guesses(columns))
    if guesses:
        notes = [*notes, f"{path.name}: by the names of columns: {guesses}"]
    shapes, faults = _make_shapes(path, columns, floats, ids)
    kept = _select_attributes(columns, attributes)
    table = annotation_table(shapes, ids, kept, images=images, faults=faults)
    crs = PIXEL if columns.name_images else _POSITIONS[columns.position]
    image_names = tuple(dict.fromkeys(filter(None, images)))
    return Annotations(table, crs, image_names, notes=notes)


def _make_shapes(
    path: Path, columns: _Columns, floats: Floats, ids: list[int]
) -> tuple[Any, list[str]]:
    """Return the shape of each row, and why it has none.

    Args:
        path: the file.
        columns: its columns.
        floats: points (N, 2), or boxes (N, 4) as corners or with width and height.
        ids: identities of the rows.

    Raises:
        RequestError: most boxes end before they begin.
    """
    shapes = np.full(len(ids), None, object)
    is_complete = np.isfinite(floats).all(axis=1)
    if len(columns.position) == 2:
        shapes[is_complete] = shapely.points(floats[is_complete])
        return shapes, [""] * len(ids)
    first, last = _find_corners(columns, floats)
    is_reversed = last < first
    if columns.position[0] == "west":
        is_reversed[:, 0] = False  # the box lies across the antimeridian
    elif columns.name_of("ymin").lower() == "top":
        is_reversed[:, 1] = False  # the y axis of a map points up
    is_wrong = is_complete & is_reversed.any(axis=1)
    check_order(path, columns.position_names, ids, floats, is_wrong)
    is_usable = is_complete & ~is_wrong
    shapes[is_usable] = shapely.box(*first[is_usable].T, *last[is_usable].T)
    return shapes, np.where(is_wrong, "the box ends before it begins", "").tolist()


def _find_corners(columns: _Columns, boxes: Floats) -> tuple[Floats, Floats]:
    """Return the first and the last corners (N, 2) of boxes (N, 4)."""
    first = boxes[:, :2]
    last = boxes[:, 2:]
    if columns.position[2:] != _SIZES:
        return first, last
    if columns.position[0] == "xcenter":
        first = first - last / 2
    return first, first + last


def _select_attributes(
    columns: _Columns, attributes: Sequence[pd.Series[Any]]
) -> list[pd.Series[Any]]:
    """Return the columns that are no position; the class has the name "class"."""
    selected = []
    name = columns.name_of("class")
    if name and name.lower() != "class":
        selected.append(attributes[columns.numbers["class"]].rename("class"))
    for number, column in enumerate(attributes):
        if number in columns.position_numbers:
            continue
        if name.lower() == "class" and number == columns.numbers["class"]:
            column = column.rename("class")
        selected.append(column)
    return selected


def _list_guesses(columns: _Columns) -> Iterator[str]:
    """Yield what names of columns decided that are not documented."""
    for role in (*columns.position, "image", "class"):
        name = columns.name_of(role)
        if name and role not in columns.named and name.lower() not in _DOCUMENTED:
            yield f"{role}={name}"
    if _POSITIONS[columns.position] is not None:
        return
    if columns.name_images:
        yield "positions are pixels of the image"
    elif columns.name_scenes:
        yield (
            "rows of all scenes belong to an image; for those of one: --columns"
            " image=NAME"
        )


def _read_geometry(table: pa.Table, description: bytes) -> tuple[Any, Any, pa.Table]:
    """Return the shapes of GeoParquet, their coordinate system, and other columns.

    Args:
        table: the content of the file.
        description: its metadata "geo".
    """
    geo = parse_json(description)
    name = geo["primary_column"]
    column = geo["columns"][name]
    if column["encoding"] != "WKB":
        raise ValueError(f"the geometry is not WKB, but {str(column['encoding'])[:40]}")
    crs = column.get("crs", "OGC:CRS84")
    if crs is not None:
        crs = CRS.from_user_input(crs).to_wkt()
    covering = {box["xmin"][0] for box in (column.get("covering") or {}).values()}
    shapes = shapely.from_wkb(table[name].to_numpy())
    return shapes, crs, table.drop_columns([name, *covering])


def csv_header(path: Path) -> set[str]:
    """Return the names of the columns of a table, in lower case."""
    with open_regular(path, MAX_TABLE_BYTES) as file:
        line = file.readline(_HEADER_BYTES).decode("utf-8-sig", "replace")
    return {name.strip(' "\r\n').lower() for name in line.split(find_separator(line))}
