"""The formats of rsft: boxes in images (DOTA, YOLO, YOLO-OBB, COCO), vector layers, and CSV tables of positions."""

from __future__ import annotations

import csv
import io
import json
from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pyarrow as pa
import shapely
from shapely.errors import ShapelyError

from rsft.data.annotations import base
from rsft.data.annotations.base import ANNOTATIONS, PIXEL, AnnotationFormat, Annotations, annotation_table
from rsft.data.imagery.vectors import is_json, read_geojson, read_layer
from rsft.errors import RequestError
from rsft.types import Floats
from rsft.utils.tables import is_number, unescape_cell
from rsft.utils.untrusted.documents import MAX_TABLE_BYTES, load_json, read_regular_text

_DOTA_HEADERS = ("imagesource", "gsd")
_COCO_SHAPES = frozenset({"id", "image_id", "bbox", "segmentation", "keypoints", "score"})
"""Keys of annotations that are not attributes, because they are the identity, the shape or the score."""
_COCO_HINT = "COCO has images (file_name, id) and annotations (image_id, bbox), or is a list of results"


class _TextBoxes(AnnotationFormat):
    """A text file with one box per line and without a header of columns. The identity of a box is its line.

    Attributes:
        crs: coordinate system of the boxes.
        rows: the fields of a line.
    """

    crs: ClassVar[str]
    rows: ClassVar[str]

    @abstractmethod
    def parse(self, fields: list[str]) -> tuple[Floats, float | None, dict[str, str]]:
        """Return the corners as x and y (4, 2), the score, and the attributes of a line.

        Raises:
            ValueError: the line has another form.
        """

    def read(self, path: Path, layer: str | None = None) -> Annotations:
        rows: list[tuple[int, shapely.Polygon | None, float | None, dict[str, str], str]] = []
        for line, fields in _read_fields(path):
            try:
                corners, score, attributes = self.parse(fields)
                rows.append((line, _make_box(corners), score, attributes, ""))
            except ValueError as error:
                rows.append((line, None, None, {}, str(error)))
        lines, shapes, scores, records, faults = zip(*rows, strict=True) if rows else [()] * 5
        names = dict.fromkeys(name for record in records for name in record)
        columns = [base.text_column(name, [record.get(name, "") for record in records]) for name in names]
        table = annotation_table(shapes, lines, columns, scores=scores, faults=faults)
        return Annotations(table, self.crs, are_boxes=True)


@ANNOTATIONS.register
class Yolo(_TextBoxes):
    """Upright and rotated boxes in fractions of the image size."""

    name = "yolo"
    title = "YOLO or YOLO-OBB"
    crs = base.FRACTION
    rows = "`class x y width height [score]` or `class x1 y1 ... x4 y4 [score]` in fractions of the image size"

    def recognizes(self, path: Path) -> bool:
        return path.suffix.lower() == ".txt" and not Dota().recognizes(path)

    def parse(self, fields: list[str]) -> tuple[Floats, float | None, dict[str, str]]:
        if len(fields) not in (5, 6, 9, 10):
            raise ValueError(f"{len(fields)} fields; YOLO rows are {self.rows}, DOTA rows are {Dota.rows}")
        numbers, count = np.array(fields[1:], float), 4 if len(fields) < 9 else 8
        if np.abs(numbers[:count] - 0.5).max() > 0.6:  # boxes may extend a little beyond the edge
            raise ValueError("YOLO rows need fractions of the image size, from 0 to 1")
        if count == 8:
            corners = numbers[:8].reshape(4, 2)
        else:
            x, y, width, height = numbers[:4]
            corners = _upright(x - width / 2, y - height / 2, x + width / 2, y + height / 2)
        return corners, float(numbers[count]) if len(numbers) > count else None, {"class": fields[0]}


@ANNOTATIONS.register
class Dota(_TextBoxes):
    """Quadrilaterals in pixels."""

    name = "dota"
    title = "DOTA"
    crs = PIXEL
    rows = "`x1 y1 x2 y2 x3 y3 x4 y4 class [difficulty]` in pixels"

    def recognizes(self, path: Path) -> bool:
        return path.suffix.lower() == ".txt" and any(self._has_class(fields) for _, fields in _read_fields(path))

    def parse(self, fields: list[str]) -> tuple[Floats, float | None, dict[str, str]]:
        if not self._has_class(fields):
            raise ValueError(f"{len(fields)} fields; DOTA rows are {self.rows}")
        corners = np.array(fields[:8], float).reshape(4, 2)
        return corners, None, dict(zip(("class", "difficulty"), fields[8:10], strict=False))

    def _has_class(self, fields: list[str]) -> bool:
        return len(fields) >= 9 and not is_number(fields[8])


@ANNOTATIONS.register
class Coco(AnnotationFormat):
    """Upright boxes of many images in JSON, or a list of the results of a detector.

    The name of the category is the attribute `category`. Annotations without ids are counted from 1.
    """

    name = "coco"
    title = "COCO"

    def recognizes(self, path: Path) -> bool:
        if path.suffix.lower() != ".json":
            return False
        try:
            content = load_json(path, MAX_TABLE_BYTES)
        except ValueError as error:
            raise RequestError(f"not a JSON file: {error}", path, "give GeoJSON or COCO") from error
        return not isinstance(content, dict) or "type" not in content

    def read(self, path: Path, layer: str | None = None) -> Annotations:
        try:
            content = load_json(path, MAX_TABLE_BYTES)
            is_results = isinstance(content, list)
            content = {"annotations": content, "images": ()} if is_results else content
            rows = content["annotations"]
            files = {image["id"]: str(image["file_name"]) for image in content["images"]}
            images = [files.get(row["image_id"], str(row["image_id"])) for row in rows]
            boxes = [_parse_box(row["bbox"], row.get("score")) for row in rows]
            records = [{key: value for key, value in row.items() if key not in _COCO_SHAPES} for row in rows]
            if categories := {x["id"]: x.get("name") for x in content.get("categories", [])}:
                records = [row | {"category": categories.get(row.get("category_id"))} for row in records]
            ids = [row.get("id", number) for number, row in enumerate(rows, 1)]
        except (KeyError, TypeError, AttributeError) as error:
            raise RequestError(f"not a COCO file: {error!r} is missing", path, _COCO_HINT) from error
        shapes, scores, faults = zip(*boxes, strict=True) if boxes else ((), (), ())
        names = dict.fromkeys(name for record in records for name in record)
        columns = [base.typed_column(name, [record.get(name) for record in records]) for name in names]
        table = annotation_table(shapes, ids, columns, scores=scores, images=images, faults=faults)
        image_names = tuple(dict.fromkeys(images if is_results else files.values()))
        if is_results and len(image_names) < 2:  # a list of results does not name its image
            image_names = ()
        return Annotations(table, PIXEL, image_names, are_boxes=True)


def _read_fields(path: Path) -> list[tuple[int, list[str]]]:
    """Return the number and the fields of every line that is neither blank nor a header of DOTA."""
    try:
        lines = read_regular_text(path).splitlines()
    except UnicodeDecodeError as error:
        hint = f"YOLO rows are {Yolo.rows}, DOTA rows are {Dota.rows}"
        raise RequestError("the file is not UTF-8 text", path, hint) from error
    rows = ((number, line) for number, line in enumerate(lines, 1) if not line.lower().startswith(_DOTA_HEADERS))
    return [(number, line.split()) for number, line in rows if line.strip()]


def _parse_box(box: Any, score: Any) -> tuple[shapely.Polygon | None, float | None, str]:
    """Return the shape of a COCO box, its score, and why it cannot be used."""
    fault = "bbox must be x, y, width, height"
    try:
        left, top, width, height = map(float, box)
        fault = f"the score {str(score)[:40]!r} is not a number"
        probability = None if score is None else float(score)
        fault = "the box has no area"
        return _make_box(_upright(left, top, left + max(width, 0), top + max(height, 0))), probability, ""
    except (TypeError, ValueError, OverflowError):
        return None, None, fault


def _upright(left: float, top: float, right: float, bottom: float) -> Floats:
    return np.array([(left, top), (left, bottom), (right, bottom), (right, top)])


def _make_box(corners: Floats) -> shapely.Polygon:
    """Return the polygon of corners (4, 2); raise ValueError if it has no area."""
    if not np.isfinite(corners).all() or np.ptp(corners, axis=0).min() <= 0:
        raise ValueError("the box has no area")
    return shapely.Polygon(corners)


_FID_COLUMNS = ("fid", "ogc_fid")  # names of feature ids that are not attributes
_ROW = "rsft row"  # property that is added to GeoJSON features


@ANNOTATIONS.register
class VectorLayer(AnnotationFormat):
    """A GeoPackage, FlatGeobuf, Shapefile or KML. The identity of a position is its feature id, `$id` in QGIS."""

    name = "layer"
    title = "vector layer"
    has_layers = True

    def recognizes(self, path: Path) -> bool:
        return path.suffix.lower() in (".gpkg", ".fgb", ".shp", ".kml", ".sqlite")

    def read(self, path: Path, layer: str | None = None) -> Annotations:
        content, ids = _take_ids(path, read_geojson(path)) if is_json(path) else (None, None)
        layers, features = read_layer(path, layer, content)
        if features is None or not layers.get(layer or "", True):
            raise _selection_error(path, [name for name, has_geometries in layers.items() if has_geometries], layer)
        table = features.table
        try:
            shapes = shapely.from_wkb(table.columns[-1].to_numpy(zero_copy_only=False))
        except (ShapelyError, pa.ArrowException, ValueError) as error:
            hint = "give .gpkg, .geojson, .csv, DOTA or YOLO .txt, or COCO .json"
            raise RequestError(f"the layer cannot be read: {error}", path, hint) from error
        fids: list[Any] = table.columns[0].to_pylist()  # the first column; the last one is the geometry
        fid_column = table.column_names[0]
        is_attribute = fid_column.lower() not in _FID_COLUMNS and fid_column not in features.fields
        table = table.select(range(0 if is_attribute else 1, table.num_columns - 1))
        if ids is not None:
            column = table[_ROW] if _ROW in table.column_names else None
            if column is None or column.null_count:
                raise RequestError("a feature is not what GeoJSON specifies", path, "export the layer again")
            table, fids = table.drop_columns([_ROW]), [ids[row] for row in column.to_pylist()]
        attributes, binary = _convert(table)
        notes = [f"{path.name}: binary attributes were left out: {', '.join(binary)}"] if binary else []
        return Annotations(annotation_table(shapes, fids, attributes), features.crs, notes=notes)


@ANNOTATIONS.register
class GeoJson(VectorLayer):
    """GeoJSON or TopoJSON. The identity of a position is the member `id` of its feature."""

    name = "geojson"
    title = "GeoJSON"

    def recognizes(self, path: Path) -> bool:
        return path.suffix.lower() in (".geojson", ".topojson")


def _selection_error(path: Path, names: list[str], layer: str | None) -> RequestError:
    listed = ", ".join(names) or "none"
    if layer is not None:
        return RequestError(f"no layer {layer} with geometry", f"{path} --layer", f"choose one of: {listed}")
    message = f"{len(names)} layers with geometry: {listed}"
    return RequestError(message, path, "choose one: --layer NAME" if names else "give a file with a vector layer")


def _take_ids(path: Path, data: bytes) -> tuple[bytes, list[Any] | None]:
    """Return GeoJSON without the ids of its features, and these ids; None if it has none.

    GDAL renumbers features whose ids are repeated, sorts by id, and drops text ids beside a property `id`.
    """
    content = json.loads(data)
    features = content.get("features") if isinstance(content, dict) else None
    if not isinstance(features, list) or not any(isinstance(x, dict) and "id" in x for x in features):
        return data, None
    if not all(isinstance(x, dict) and isinstance(x.get("properties") or {}, dict) for x in features):
        raise RequestError("a feature or its properties are not objects", path, "export the layer again")
    ids = []
    for number, feature in enumerate(features):
        value = feature.pop("id", None)
        ids.append(value if value is None or isinstance(value, int) else str(value))
        feature["properties"] = (feature.get("properties") or {}) | {_ROW: number}
    return json.dumps(content).encode(), ids


def _convert(table: pa.Table) -> tuple[list[pd.Series[Any]], list[str]]:
    """Return attributes with types that every output can store, and the names of binary ones, which are left out."""
    columns, binary = [], []
    for name, array in zip(table.column_names, table.columns, strict=True):
        kind = getattr(array.type, "storage_type", array.type)  # JSON is stored as text
        if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
            binary.append(name)
        elif pa.types.is_nested(kind) or pa.types.is_time(kind) or kind != array.type:
            texts = [value.isoformat() if hasattr(value, "isoformat") else value for value in array.to_pylist()]
            columns.append(base.typed_column(name, texts))
        else:
            columns.append(base.arrow_column(name, array))
    return columns, binary


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
        separator, header, rows = _read_rows(path)
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
            base.text_column(name or f"column_{number + 1}", rows[number], decimal)
            for number, name in enumerate(header)
            if name.lower() not in position
        ]
        commas = ", numbers with decimal commas" if has_commas else ""
        note = f"{path.name}: columns separated by {_SEPARATORS[separator]}{commas}"
        texts = coordinates.map(lambda cell: cell.replace(decimal, "."))
        corners = texts.apply(pd.to_numeric, errors="coerce").to_numpy(float)
        is_complete = np.isfinite(corners).all(axis=1)
        shapes = np.full(len(corners), None, object)
        shapes[is_complete] = (shapely.points if len(position) == 2 else shapely.box)(*corners[is_complete].T)
        table = annotation_table(shapes, rows.index.tolist(), attributes)
        return Annotations(table, _POSITIONS[position], notes=() if separator == "," else (note,))


def _read_rows(path: Path) -> tuple[str, list[str], pd.DataFrame]:
    """Return the separator, the header, and the cells of all rows as texts, indexed by the line where a row begins.

    The separator gives the header columns of positions, or else most columns; it is the comma if several are equal.
    """
    try:
        text = read_regular_text(path)
    except UnicodeDecodeError as error:
        raise RequestError(f"the table cannot be read: {error}", path, "save it as CSV in UTF-8") from error
    first = text.partition("\n")[0]

    def rank(separator: str) -> tuple[bool, int]:
        names = {name.strip().strip('"').strip().lower() for name in first.split(separator)}
        return any(set(columns) <= names for columns in _POSITIONS), first.count(separator)

    separator = max(_SEPARATORS, key=rank)
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
    return separator, header, pd.DataFrame(cells, list(rows), range(width), dtype=object)
