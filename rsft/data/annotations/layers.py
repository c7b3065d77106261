"""Vector layers with their feature ids and all attributes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyogrio
import shapely

from rsft.data.annotations.base import ANNOTATIONS, AnnotationFormat, Annotations, annotation_table
from rsft.data.annotations.columns import arrow_column, typed_column
from rsft.data.imagery.vectors import READ_ERRORS, open_vector
from rsft.errors import RequestError

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
        source, ids = open_vector(path), None
        if isinstance(source, bytes):
            source, ids = _take_ids(path, source)
        try:
            layer = _select_layer(path, pyogrio.list_layers(source), layer)
            header, table = pyogrio.read_arrow(source, layer=layer, return_fids=True)
            shapes = shapely.from_wkb(table.columns[-1].to_numpy(zero_copy_only=False))
        except (*READ_ERRORS, pa.ArrowException, OSError) as error:
            hint = "give .gpkg, .geojson, .csv, DOTA or YOLO .txt, or COCO .json"
            raise RequestError(f"the layer cannot be read: {error}", path, hint) from error
        fids: list[Any] = table.columns[0].to_pylist()  # the first column; the last one is the geometry
        fid_column = table.column_names[0]
        is_attribute = fid_column.lower() not in _FID_COLUMNS and fid_column not in header["fields"]
        table = table.select(range(0 if is_attribute else 1, table.num_columns - 1))
        if ids is not None:
            column = table[_ROW] if _ROW in table.column_names else None
            if column is None or column.null_count:
                raise RequestError("a feature is not what GeoJSON specifies", path, "export the layer again")
            table, fids = table.drop_columns([_ROW]), [ids[row] for row in column.to_pylist()]
        attributes, binary = _convert(table)
        notes = [f"{path.name}: binary attributes were left out: {', '.join(binary)}"] if binary else []
        return Annotations(annotation_table(shapes, fids, attributes), header["crs"], notes=notes)


@ANNOTATIONS.register
class GeoJson(VectorLayer):
    """GeoJSON or TopoJSON. The identity of a position is the member `id` of its feature."""

    name = "geojson"
    title = "GeoJSON"

    def recognizes(self, path: Path) -> bool:
        return path.suffix.lower() in (".geojson", ".topojson")


def _select_layer(path: Path, listing: Any, layer: str | None) -> str:
    names = [str(name) for name, kind in listing if kind is not None]
    if layer in names:
        return str(layer)
    listed = ", ".join(names) or "none"
    if layer is not None:
        raise RequestError(f"no layer {layer} with geometry", f"{path} --layer", f"choose one of: {listed}")
    if len(names) != 1:
        message = f"{len(names)} layers with geometry: {listed}"
        raise RequestError(message, path, "choose one: --layer NAME" if names else "give a file with a vector layer")
    return names[0]


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
            columns.append(typed_column(name, texts))
        else:
            columns.append(arrow_column(name, array))
    return columns, binary
