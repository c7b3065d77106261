"""The formats of positions, boxes and labels of objects, and the table that they all return.

A format is one class with a `name` that reads a file into one table. To add one,
register a class in a module of this package, or list a class of another package in the
entry-point group `rsft.annotations`:

    [project.entry-points."rsft.annotations"]
    my_format = "my_package.my_module:MyFormat"

`rsft predict --at`, `--truth` and `--land` then read its files.
"""

from __future__ import annotations

import json
import re
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

from rsft.errors import RequestError
from rsft.utils.registry import Registry
from rsft.utils.untrusted.documents import (
    MAX_TABLE_BYTES,
    load_json,
    parse_xml,
    read_regular,
)

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

PREFIX = "at_"
"""Prefix of an attribute whose name is that of another column. Upper and lower case are
the same name."""

_MISSING = frozenset(
    {"", "na", "n/a", "nan", "none", "null"}
)  # of a number or a truth value, in lower case
_PARSERS: tuple[tuple[re.Pattern[str], Callable[[str], Any]], ...] = (
    (
        re.compile(r"-?(0|[1-9]\d{0,17})"),
        int,
    ),  # no leading zero, which only identifiers have
    (re.compile(r"-?(0|[1-9]\d{0,14}|(?=\.\d))(\.\d*)?([eE][+-]\d+)?"), float),
    (re.compile(r"true|false", re.IGNORECASE), lambda value: value.lower() == "true"),
)


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
    images: tuple[str, ...] = ()
    are_boxes: bool = False
    notes: Sequence[str] = ()
    sizes: Mapping[str, tuple[int, int]] = {}
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
    suffixes: ClassVar[tuple[str, ...]] = ()
    has_layers: ClassVar[bool] = False
    has_columns: ClassVar[bool] = False
    columns: Mapping[str, str] = {}

    def recognizes(self, path: Path) -> bool:
        """Return whether a file has this format, by its suffix and, if formats share the suffix, by its content.

        Raises:
            RequestError: the file is damaged.
        """
        return path.suffix.lower() in self.suffixes

    @abstractmethod
    def read(self, path: Path, layer: str | None = None) -> Annotations:
        """Read a file, which may be damaged or hostile; `layer` is the name of the layer if it has several.

        Raises:
            RequestError: the file cannot be read, or it has several layers and `layer`
                names none of them.
        """


class DocumentFormat(AnnotationFormat):
    """Base class of formats in JSON or XML, which several formats share."""

    def recognizes(self, path: Path) -> bool:
        return super().recognizes(path) and self.matches(load_document(path))

    @abstractmethod
    def matches(self, content: Any) -> bool:
        """Return whether the content of a JSON file, or the root element of an XML file, has this format."""


ANNOTATIONS: Registry[type[AnnotationFormat]] = Registry(
    "annotation format", "rsft.annotations", "rsft.data.annotations"
)
"""Registry of formats."""

_OTHER_FILES = (  # the format of files that no format recognizes: it checks the content
    "layer"
)


def annotation_formats() -> Iterator[AnnotationFormat]:
    """Yield the formats in the order in which they are asked; warn of those that cannot be imported."""
    for name in reversed(ANNOTATIONS.names()):
        try:
            yield ANNOTATIONS[name]()
        except ImportError as error:
            warnings.warn(
                f"the annotation format {name} cannot be imported: {error}",
                stacklevel=2,
            )


def read_annotations(
    path: Path, layer: str | None = None, columns: Mapping[str, str] | None = None
) -> Annotations:
    r"""Read the objects of a file; formats of other packages are asked first whether they recognize it.

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
        >>> _ = Path("ships.csv").write_text("row,col,class\n10,20,tanker\n30,40,cargo\n")
        >>> read_annotations(Path("ships.csv")).table["class"].tolist()
        ['tanker', 'cargo']
    """
    if not path.is_file():
        raise RequestError("no such file", path, "check the path")
    if (
        path.suffix.lower() != ".txt" and path.stat().st_size == 0
    ):  # a text file without rows means no objects
        raise RequestError("the file is empty: 0 bytes", path, "export it again")
    try:
        formats = (
            reader
            for reader in annotation_formats()
            if reader.has_columns or not columns
        )
        reader = next((reader for reader in formats if reader.recognizes(path)), None)
        if reader is None and columns:
            raise RequestError(
                f"{path.name} has no columns",
                "--columns",
                "leave out --columns, or give a table",
            )
        reader = reader or ANNOTATIONS[_OTHER_FILES]()
        if layer is not None and not reader.has_layers:
            raise RequestError(
                f"{path.name} has no layers", "--layer", "leave out --layer"
            )
        reader.columns = columns or {}
        return reader.read(path, layer)._replace(path=path)
    finally:
        _load.cache_clear()


def parse_columns(text: str | None) -> dict[str, str]:
    """Return the columns by role of the option --columns.

    Raises:
        RequestError: the text is no list of ROLE=COLUMN.

    Example:
        >>> parse_columns("lon=X, lat=Y")
        {'lon': 'X', 'lat': 'Y'}
    """
    pairs = [part.partition("=") for part in (text or "").split(",") if part.strip()]
    columns = {role.strip(): name.strip() for role, _, name in pairs}
    if not all(columns) or not all(columns.values()) or len(columns) < len(pairs):
        raise RequestError(
            f"{text} does not name columns",
            "--columns",
            "write ROLE=COLUMN, such as lon=X,lat=Y",
        )
    return columns


def load_document(path: Path) -> Any:
    """Return the content of a JSON file, or the root element of an XML file, which several formats look at.

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
    """Raise RequestError if a vessel (MMSI) has several rows, or if rows with an MMSI have different times.

    Args:
        path: the file.
        table: those of its rows that belong to one scene.
    """
    vessels = next((str(name) for name in table if "mmsi" in str(name).lower()), None)
    if vessels is None:
        return
    numbers = table[vessels].dropna().astype(str)
    numbers = numbers[numbers.str.strip("0 ") != ""]  # 0 means unknown
    times = [
        str(name) for name in table if re.search("time|utc", str(name), re.IGNORECASE)
    ]
    if numbers.is_unique and not any(table[name].nunique() > 1 for name in times):
        return
    columns = ", ".join([vessels, *times])
    message = (
        f"{len(table):,} rows of {numbers.nunique():,} vessels are AIS messages, not"
        f" objects (columns {columns})"
    )
    hint = (
        "keep one position per vessel, at the time of the acquisition, without the"
        " column of the time"
    )
    raise RequestError(
        message,
        path,
        f"{hint}; if the rows are different objects, drop the column {vessels}",
    )


def annotation_table(
    geometry: Iterable[shapely.Geometry | None],
    ids: Sequence[Any],
    attributes: Iterable[pd.Series[Any]] = (),
    *,
    scores: Sequence[float | None] | None = None,
    images: Sequence[str] | None = None,
    faults: Sequence[str] | None = None,
) -> GeoDataFrame:
    """Return the table of `Annotations`.

    Args:
        geometry: position of every object, None if it has none.
        ids: identity of every object: whole numbers or texts, None if it has none.
        attributes: columns of attributes with their names, see `typed_column`.
        scores: score of every object.
        images: name of the image of every object.
        faults: why an object cannot be used; "" if it can.
    """
    from geopandas import GeoDataFrame

    is_whole = [
        isinstance(x, int) and not isinstance(x, bool) and abs(x) < 2**63 for x in ids
    ]
    if all(known or value is None for known, value in zip(is_whole, ids, strict=True)):
        identity = pd.Series(ids, dtype="Int64")
    else:
        identity = typed_column(
            AT, [None if value is None else str(value) for value in ids]
        )
    columns = list(attributes)
    names = unique_names(
        (str(column.name) for column in columns), [AT, SCORE, IMAGE, FAULT, "geometry"]
    )
    table = pd.concat([identity, *columns], axis=1).set_axis([AT, *names], axis=1)
    is_number = (
        all(is_whole) and len(set(ids)) == len(ids) and all(value >= 0 for value in ids)
    )
    table.index = pd.Index(
        list(ids) if is_number else range(1, len(ids) + 1), dtype="int64"
    )
    table[SCORE] = np.nan if scores is None else np.array(scores, float)
    table[IMAGE] = "" if images is None else list(images)
    table[FAULT] = "" if faults is None else list(faults)
    return GeoDataFrame(table, geometry=np.array([*geometry, None], object)[:-1])


class AnnotatedObject(NamedTuple):
    """One object of a file, see `Annotations`."""

    shape: shapely.Geometry | None
    fault: str
    attributes: Mapping[str, Any]
    identity: Any
    image: str = ""
    score: float | None = None


def image_annotations(
    path: Path,
    objects: Sequence[AnnotatedObject],
    images: Iterable[tuple[str, Any, Any]] = (),
    left_out: Mapping[str, int] | None = None,
    *,
    crs: str = PIXEL,
    column: Callable[[str, list[Any]], pd.Series[Any]] | None = None,
) -> Annotations:
    """Return the objects in images, with a column for every attribute of an object.

    Args:
        path: the file.
        objects: the objects.
        images: name, width and height of every image; "" or None if they are not known.
        left_out: number of things that were left out, for a note.
        crs: coordinate system of the shapes, PIXEL or FRACTION.
        column: makes a column of its name and values: `typed_column` by default, or
            `text_column`.
    """
    images = list(images)
    names = dict.fromkeys(name for item in objects for name in item.attributes)
    columns = [
        (column or typed_column)(name, [item.attributes.get(name) for item in objects])
        for name in names
    ]
    shapes, faults, _, ids, of_images, scores = (
        zip(*objects, strict=True) if objects else ((),) * 6
    )
    table = annotation_table(
        shapes, ids, columns, scores=scores, images=of_images, faults=faults
    )
    sizes: dict[str, tuple[int, int]] = {}
    for name, *size in images:
        with suppress(TypeError, ValueError, OverflowError):
            width, height = map(int, size)
            sizes |= {name: (width, height)} if min(width, height) > 0 else {}
    image_names = tuple(dict.fromkeys(name for name, *_ in images if name))
    notes = describe_counts(path, "left out", left_out or {})
    return Annotations(
        table, crs, image_names, are_boxes=True, notes=notes, sizes=sizes
    )


def describe_counts(path: Path, what: str, counts: Mapping[str, int]) -> list[str]:
    """Return a note that counts things, unless there are none."""
    listed = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)
    if listed:
        return [f"{path.name}: {what}: {listed}"]
    return []


def typed_column(name: str, values: Sequence[Any]) -> pd.Series[Any]:
    """Return values of any type, None if there is no value, as a column of one type.

    Returns:
        The column. Lists, objects and values of several types become JSON or text.
    """
    flat = [
        (
            json.dumps(value, ensure_ascii=False)
            if isinstance(value, list | dict)
            else value
        )
        for value in values
    ]
    try:
        array = pa.array(flat)
    except (pa.ArrowException, OverflowError):
        array = pa.array(
            [
                value if value is None or isinstance(value, str) else str(value)
                for value in flat
            ]
        )
    return arrow_column(
        name, array.cast(pa.string()) if pa.types.is_null(array.type) else array
    )


def arrow_column(name: str, array: pa.Array | pa.ChunkedArray) -> pd.Series[Any]:
    """Return an Arrow array as a column of pandas that keeps its type and its nulls."""
    return pd.Series(pd.array(array, dtype=pd.ArrowDtype(array.type)), name=name)


def text_column(
    name: str, texts: Iterable[str | None], decimal: str = "."
) -> pd.Series[Any]:
    """Return texts of a file without types as a column of whole numbers, numbers, truth values or texts.

    Texts with a leading zero are not numbers, because identifiers have them.

    Args:
        name: name of the column.
        texts: the texts; "" or None if there is no value.
        decimal: decimal separator of numbers.
    """
    values = [(text or "").strip() for text in texts]
    numbers = [
        None if value.lower() in _MISSING else value.replace(decimal, ".")
        for value in values
    ]
    present = [number for number in numbers if number is not None]
    for pattern, parse in _PARSERS:
        if present and all(pattern.fullmatch(number) for number in present):
            return typed_column(
                name, [None if number is None else parse(number) for number in numbers]
            )
    return typed_column(name, [value or None for value in values])


def unique_names(names: Iterable[str], reserved: Iterable[str]) -> list[str]:
    """Return names that differ from each other and from the reserved ones, regardless of case.

    Returns:
        The names; those that are taken get the prefix `at_`.
    """
    taken = {name.casefold() for name in reserved}
    unique = []
    for name in names:
        while name.casefold() in taken:
            name = PREFIX + name
        taken.add(name.casefold())
        unique.append(name)
    return unique


def concat_attributes(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return tables of attributes, one per scene, below each other.

    A column whose types differ becomes text.
    """
    types = pd.DataFrame([table.dtypes.astype(str) for table in tables])
    mixed = types.columns[types.nunique() > 1]
    result = []
    for table in tables:
        names = mixed.intersection(table.columns)
        texts = [
            [None if pd.isna(value) else str(value) for value in table[name]]
            for name in names
        ]
        columns = {
            name: typed_column(name, column).array
            for name, column in zip(names, texts, strict=True)
        }
        result.append(table.assign(**columns))
    return pd.concat(result)
