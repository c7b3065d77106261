"""The formats of positions, boxes and labels of objects, and their common table.

A format is one class with a `name` that reads a file into one table. To add one,
register a class in a module of this package, or list a class of another package in the
entry-point group `rsft.annotations`:

    [project.entry-points."rsft.annotations"]
    my_format = "my_package.my_module:MyFormat"

`rsft predict --at`, `--truth` and `--land` then read its files.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
import pandas as pd

from rsft.data.annotations.columns import typed_column, unique_names
from rsft.errors import RequestError
from rsft.types import Names, Size
from rsft.utils.registry import Registry
from rsft.utils.untrusted.documents import MAX_TABLE_BYTES, load_json, read_regular
from rsft.utils.untrusted.xml_documents import parse_xml

if TYPE_CHECKING:
    import shapely
    from geopandas import GeoDataFrame

PIXEL = "pixel"
"""Coordinate system of an image: x is the column and y the row, from the upper left
corner of the first pixel."""

FRACTION = "fraction"
"""Coordinate system of an image: x is a fraction of its width and y of its height, from
the upper left corner."""

SCORE = "_score"
IMAGE = "_image"
FAULT = "_fault"
"""Columns of score, image and fault, see `Annotations`."""

AT = "at"
"""Column of the identity of an object: feature id, annotation id or line number."""

MAX_XML_BYTES = 2**28
"""Largest XML file of annotations: 256 MiB."""


class Annotations(NamedTuple):
    """The objects in a file.

    Attributes:
        table: one row per object, as `annotation_table` makes it. The index is the
            number of the object in its file: its identity if all are unique whole
            numbers, else the number of the row from 1. Columns:

            - `geometry`: point, or polygon around the object; None without a position.
              An object with length, width and heading is a rotated rectangle.
            - `at`: identity of the object in the file: feature id, annotation id or
              line.
            - `_score`: score of a detector; NaN without a score.
            - `_image`: name of the image; "" if the file does not name it.
            - `_fault`: why the row cannot be used; "" if it can.
            - all other columns are attributes. `class` is the class of the object.
        crs: coordinate system of `geometry`: any text that pyproj knows, "pixel" or
            "fraction"; None if the file does not name it.
        images: names of the images of the file; empty if it does not name them.
        are_boxes: whether the file is one of boxes in images, rather than one of
            positions on a map.
        notes: remarks for the reader: what was left out or guessed.
        sizes: width and height of images, by their names, as far as the file states
            them.
        path: the file, which `read_annotations` sets.
    """

    table: GeoDataFrame
    crs: str | None
    images: Names = ()
    are_boxes: bool = False
    notes: Sequence[str] = ()
    sizes: Mapping[str, Size] = {}
    path: Path = Path()


class AnnotationFormat(ABC):
    """Base class of formats.

    Attributes:
        name: name of the format.
        title: name in messages.
        suffixes: suffixes of its files, in lower case.
        has_layers: whether a file may have several layers.
        has_columns: whether `columns` can name the columns of positions.
        columns: names of columns by their role, see `read_annotations`.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    suffixes: ClassVar[Names] = ()
    has_layers = False
    has_columns = False
    columns: Mapping[str, str] = {}

    def recognizes(self, path: Path) -> bool:
        """Return whether a file has this format.

        Its suffix decides and, if formats share the suffix, its content.

        Raises:
            RequestError: the file is damaged.
        """
        return path.suffix.lower() in self.suffixes

    @abstractmethod
    def read(self, path: Path, layer: str | None = None) -> Annotations:
        """Read a file, which may be damaged or hostile.

        Args:
            path: the file.
            layer: name of the layer if it has several.

        Raises:
            RequestError: the file cannot be read, or it has several layers and `layer`
                names none of them.
        """


ANNOTATIONS: Registry[type[AnnotationFormat]] = Registry(
    "annotation format", "rsft.annotations", "rsft.data.annotations"
)
"""Registry of formats."""

_OTHER_FILES = "layer"
"""Format of the files that no format recognizes: it checks the content."""


def annotation_formats() -> Iterator[AnnotationFormat]:
    """Yield the formats in the order in which they are asked.

    A warning names those that cannot be imported.
    """
    for kind in ANNOTATIONS.usable(reversed(ANNOTATIONS.names())):
        yield kind()


def read_annotations(
    path: Path, layer: str | None = None, columns: Mapping[str, str] | None = None
) -> Annotations:
    r"""Read the objects of a file.

    Formats of plug-ins and other packages are asked first whether they recognize it.

    Args:
        path: the file.
        layer: name of the layer, if the file has several.
        columns: names of columns of a table by their role (`lon`, `lat`, `x`, `row`,
            `xmin`, `class`, `image`, ...), if their names do not tell it.

    Returns:
        The objects, also those that cannot be used.

    Raises:
        RequestError: the file does not exist, is empty or cannot be read, or it has no
            such layer or column.

    Example:
        >>> text = "row,col,class\n10,20,tanker\n30,40,cargo\n"
        >>> _ = Path("ships.csv").write_text(text)
        >>> read_annotations(Path("ships.csv")).table["class"].tolist()
        ['tanker', 'cargo']
    """
    if not path.is_file():
        raise RequestError("no such file", path, "check the path")
    may_be_empty = path.suffix.lower() == ".txt"  # no rows are no objects
    if path.stat().st_size == 0 and not may_be_empty:
        raise RequestError("the file is empty: 0 bytes", path, "export it again")
    try:
        reader = _find_format(path, has_columns=bool(columns))
        if layer is not None and not reader.has_layers:
            raise RequestError(
                f"{path.name} has no layers", "--layer", "leave out --layer"
            )
        reader.columns = columns or {}
        return reader.read(path, layer)._replace(path=path)
    finally:
        _load.cache_clear()


def _find_format(path: Path, *, has_columns: bool) -> AnnotationFormat:
    """Return the format of a file, which must have columns if `has_columns`."""
    for reader in annotation_formats():
        if (reader.has_columns or not has_columns) and reader.recognizes(path):
            return reader
    if has_columns:
        raise RequestError(
            f"{path.name} has no columns",
            "--columns",
            "leave out --columns, or give a table",
        )
    return ANNOTATIONS[_OTHER_FILES]()


def parse_columns(text: str | None) -> dict[str, str]:
    """Return the columns by role of the option --columns.

    Raises:
        RequestError: the text is no list of ROLE=COLUMN.

    Example:
        >>> parse_columns("lon=X, lat=Y")
        {'lon': 'X', 'lat': 'Y'}
    """
    columns = {}
    for part in filter(str.strip, (text or "").split(",")):
        role, _, name = map(str.strip, part.partition("="))
        if not role or not name or role in columns:
            raise RequestError(
                f"{text} does not name columns",
                "--columns",
                "write ROLE=COLUMN, such as lon=X,lat=Y",
            )
        columns[role] = name
    return columns


def load_document(path: Path) -> Any:
    """Return the content of a JSON file, or the root element of an XML file.

    Several formats look at it, so it is loaded once.

    Raises:
        RequestError: the file is damaged.
    """
    status = path.stat()
    return _load(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=1)
def _load(path: Path, *state: int) -> Any:
    kind = path.suffix[1:].upper()
    try:
        if kind == "XML":
            return parse_xml(read_regular(path, MAX_XML_BYTES))
        return load_json(path, MAX_TABLE_BYTES)
    except ValueError as error:
        raise RequestError(
            f"not a {kind} file: {error}", path, "export it again"
        ) from error


def check_vessels(path: Path, table: pd.DataFrame) -> None:
    """Check that a vessel (MMSI) has one row, and that all rows have one time.

    Args:
        path: the file.
        table: those of its rows that belong to one scene.

    Raises:
        RequestError: the rows are messages of AIS.
    """
    names = list(map(str, table))
    vessels = next((name for name in names if "mmsi" in name.lower()), None)
    if vessels is None:
        return
    numbers = table[vessels].dropna().astype(str)
    numbers = numbers[numbers.str.strip("0. ") != ""]  # 0 means unknown
    times = [name for name in names if re.search("time|utc", name, re.IGNORECASE)]
    if numbers.is_unique and not (table[times].nunique() > 1).any():
        return
    raise RequestError(
        f"{len(table):,} rows of {numbers.nunique():,} vessels are AIS messages, not"
        f" objects (columns {', '.join([vessels, *times])})",
        path,
        "keep one position per vessel, at the time of the acquisition, without the"
        " column of the time; if the rows are different objects, drop the column"
        f" {vessels}",
    )


def annotation_table(
    geometry: Iterable[shapely.Geometry | None],
    ids: Sequence[Any],
    attributes: Iterable[pd.Series[Any]] = (),
    *,
    scores: Sequence[float | None] | float = np.nan,
    images: Sequence[str] = "",
    faults: Sequence[str] = "",
) -> GeoDataFrame:
    """Return the table of `Annotations`.

    Args:
        geometry: position of every object, None if it has none.
        ids: identity of every object: whole numbers or texts, None if it has none.
        attributes: columns of attributes with their names, see `typed_column`.
        scores: score of every object.
        images: name of the image of every object.
        faults: why an object cannot be used; "" if it can.

    Returns:
        One row per object, in the order given.
    """
    from geopandas import GeoDataFrame

    columns = list(attributes)
    count = len(ids)
    present = [value for value in ids if value is not None]
    index: pd.Index[int] = pd.RangeIndex(1, count + 1)
    if all(type(value) is int and abs(value) < 2**63 for value in present):
        identity = pd.Series(ids, dtype="Int64")
        if len(set(present)) == count and min(present, default=0) >= 0:
            index = pd.Index(present, dtype="int64")
    else:
        texts = [None if value is None else str(value) for value in ids]
        identity = typed_column(AT, texts)
    reserved = [AT, SCORE, IMAGE, FAULT, "geometry"]
    names = unique_names([str(column.name) for column in columns], reserved)
    table = pd.concat([identity, *columns], axis=1).set_axis([AT, *names], axis=1)
    table.index = index
    table[SCORE] = np.array(scores, float)
    table[IMAGE] = images
    table[FAULT] = faults
    return GeoDataFrame(table, geometry=list(geometry))


def describe_counts(path: Path, what: str, counts: Mapping[str, int]) -> list[str]:
    """Return a note that counts things, unless there are none."""
    listed = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)
    return [f"{path.name}: {what}: {listed}"] if listed else []
