"""Layers of a geographic information system: GeoPackage, FlatGeobuf, Shapefile, KML and GeoJSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
import pyarrow as pa
import shapely
from shapely.errors import ShapelyError

from rsft.data.annotations import base
from rsft.data.annotations.base import (
    ANNOTATIONS,
    AnnotationFormat,
    Annotations,
    annotation_table,
)
from rsft.data.imagery.vectors import is_json, read_geojson, read_layer
from rsft.errors import RequestError

_FID_COLUMNS = ("fid", "ogc_fid")  # names of feature ids that are not attributes
_ROW = "rsft row"  # property that is added to GeoJSON features


@ANNOTATIONS.register
class VectorLayer(AnnotationFormat):
    """A GeoPackage, FlatGeobuf, Shapefile or KML.

    The identity of a position is its feature id, `$id` in QGIS.
    """

    name = "layer"
    title = "vector layer"
    suffixes: ClassVar[tuple[str, ...]] = (".gpkg", ".fgb", ".shp", ".kml", ".sqlite")
    has_layers = True

    def read(self, path: Path, layer: str | None = None) -> Annotations:
        content, ids = (
            _take_ids(path, read_geojson(path)) if is_json(path) else (None, None)
        )
        layers, features = read_layer(path, layer, content)
        if features is None or not layers.get(layer or "", True):
            raise _selection_error(
                path,
                [name for name, has_geometries in layers.items() if has_geometries],
                layer,
            )
        table = features.table
        try:
            shapes = shapely.from_wkb(table.columns[-1].to_numpy(zero_copy_only=False))
        except (ShapelyError, pa.ArrowException, ValueError) as error:
            raise RequestError(
                f"the layer cannot be read: {error}",
                path,
                "give .gpkg, .geojson, .csv, DOTA or YOLO .txt, or COCO .json",
            ) from error
        fids: list[Any] = table.columns[
            0
        ].to_pylist()  # the first column; the last one is the geometry
        fid_column = table.column_names[0]
        is_attribute = (
            fid_column.lower() not in _FID_COLUMNS and fid_column not in features.fields
        )
        table = table.select(range(0 if is_attribute else 1, table.num_columns - 1))
        if ids is not None:
            column = table[_ROW] if _ROW in table.column_names else None
            if column is None or column.null_count:
                raise RequestError(
                    "a feature is not what GeoJSON specifies",
                    path,
                    "export the layer again",
                )
            table = table.drop_columns([_ROW])
            fids = [ids[row] for row in column.to_pylist()]
        attributes, notes = convert_columns(path, table)
        return Annotations(
            annotation_table(shapes, fids, attributes), features.crs, notes=notes
        )


@ANNOTATIONS.register
class GeoJson(VectorLayer):
    """GeoJSON or TopoJSON.

    The identity of a position is the member `id` of its feature.
    """

    name = "geojson"
    title = "GeoJSON"
    suffixes = (".geojson", ".topojson")


def _selection_error(path: Path, names: list[str], layer: str | None) -> RequestError:
    listed = ", ".join(names) or "none"
    if layer is not None:
        return RequestError(
            f"no layer {layer} with geometry",
            f"{path} --layer",
            f"choose one of: {listed}",
        )
    message = f"{len(names)} layers with geometry: {listed}"
    return RequestError(
        message,
        path,
        "choose one: --layer NAME" if names else "give a file with a vector layer",
    )


def _take_ids(path: Path, data: bytes) -> tuple[bytes, list[Any] | None]:
    """Return GeoJSON without the ids of its features, and these ids; None if it has none.

    GDAL renumbers features whose ids are repeated, sorts by id, and drops text ids
    beside a property `id`.
    """
    content = json.loads(data)
    if isinstance(content, dict):
        features = content.get("features")
    else:
        features = None
    if not isinstance(features, list) or not any(
        isinstance(x, dict) and "id" in x for x in features
    ):
        return data, None
    if not all(
        isinstance(x, dict) and isinstance(x.get("properties") or {}, dict)
        for x in features
    ):
        raise RequestError(
            "a feature or its properties are not objects",
            path,
            "export the layer again",
        )
    ids = []
    for number, feature in enumerate(features):
        value = feature.pop("id", None)
        ids.append(value if value is None or isinstance(value, int) else str(value))
        feature["properties"] = (feature.get("properties") or {}) | {_ROW: number}
    return json.dumps(content).encode(), ids


def convert_columns(
    path: Path, table: pa.Table
) -> tuple[list[pd.Series[Any]], list[str]]:
    """Return attributes of types that every output can store, and a note of binary ones, which are left out."""
    columns = []
    binary = []
    for name, array in zip(table.column_names, table.columns, strict=True):
        kind = getattr(array.type, "storage_type", array.type)  # JSON is stored as text
        if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
            binary.append(name)
        elif pa.types.is_nested(kind) or pa.types.is_time(kind) or kind != array.type:
            texts = [
                value.isoformat() if hasattr(value, "isoformat") else value
                for value in array.to_pylist()
            ]
            columns.append(base.typed_column(name, texts))
        else:
            columns.append(base.arrow_column(name, array))
    return columns, (
        [f"{path.name}: binary attributes were left out: {', '.join(binary)}"]
        if binary
        else []
    )
