"""Layers of a GIS: GeoPackage, FlatGeobuf, Shapefile, KML and GeoJSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
import pyarrow as pa
import shapely
from shapely.errors import ShapelyError

from rsft.data.annotations.base import (
    ANNOTATIONS,
    AnnotationFormat,
    Annotations,
    annotation_table,
    describe_counts,
)
from rsft.data.annotations.columns import arrow_column, name_texts, typed_column
from rsft.data.imagery.vectors import is_json, read_geojson, read_layer
from rsft.errors import RequestError
from rsft.types import Names

_FID_COLUMNS = ("fid", "ogc_fid")  # names of feature ids that are not attributes
_ROW = "rsft row"  # property that is added to GeoJSON features


@ANNOTATIONS.register
class VectorLayer(AnnotationFormat):
    """A GeoPackage, FlatGeobuf, Shapefile or KML.

    The identity of a position is its feature id, `$id` in QGIS.
    """

    name = "layer"
    title = "vector layer"
    suffixes: ClassVar[Names] = (".gpkg", ".fgb", ".shp", ".kml", ".sqlite")
    has_layers = True

    def read(self, path: Path, layer: str | None = None) -> Annotations:
        content, ids = _take_ids(path) if is_json(path) else (None, [])
        layers, features = read_layer(path, layer, content)
        if not features or not layers.get(layer or "", True):
            names = [name for name, has_geometries in layers.items() if has_geometries]
            raise RequestError(
                f"no layer {layer or 'is the only one'} with geometry",
                f"{path} --layer",
                f"choose one of: {', '.join(names) or 'none'}",
            )
        fids, *_, geometry = features.table.columns
        try:
            shapes = shapely.from_wkb(geometry.to_numpy(zero_copy_only=False))
        except (ShapelyError, pa.ArrowException, ValueError) as error:
            raise RequestError(
                f"the layer cannot be read: {error}",
                path,
                "give .gpkg, .geojson, .csv, DOTA or YOLO .txt, or COCO .json",
            ) from error
        fid_name = features.table.column_names[0]
        is_fid = fid_name.lower() in _FID_COLUMNS or fid_name in features.fields
        table = features.table.select(
            range(int(is_fid), features.table.num_columns - 1)
        )
        identities = fids.to_pylist()
        if ids:
            if _ROW not in table.column_names or table[_ROW].null_count:
                raise RequestError(
                    "a feature is not what GeoJSON specifies",
                    path,
                    "export the layer again",
                )
            identities = [ids[row] for row in table[_ROW].to_pylist()]
            table = table.drop_columns([_ROW])
        attributes, notes = convert_columns(path, table)
        scenes = _scenes_of_pixels(features.crs, attributes)
        counts = {"rows without the name of a scene": scenes.count("")}
        notes += describe_counts(path, "left out", counts)
        objects = annotation_table(shapes, identities, attributes, images=scenes or "")
        images = tuple(dict.fromkeys(filter(None, scenes)))
        return Annotations(objects, features.crs, images, notes=notes)


@ANNOTATIONS.register
class GeoJson(VectorLayer):
    """GeoJSON or TopoJSON.

    The identity of a position is the member `id` of its feature.
    """

    name = "geojson"
    title = "GeoJSON"
    suffixes = (".geojson", ".topojson")


def _take_ids(path: Path) -> tuple[bytes, list[Any]]:
    """Return GeoJSON without the ids of its features, and these ids, if it has any.

    GDAL renumbers features whose ids are repeated, sorts by id, and drops text ids
    beside a property `id`.
    """
    content = read_geojson(path)
    ids: list[Any] = []
    features = content.get("features")
    if not isinstance(features, list):
        features = []
    has_ids = any("id" in feature for feature in features if isinstance(feature, dict))
    for number, feature in enumerate(features if has_ids else ()):
        is_object = isinstance(feature, dict)
        properties = (feature.get("properties") or {}) if is_object else None
        if not isinstance(properties, dict):
            raise RequestError(
                "a feature or its properties are not objects",
                path,
                "export the layer again",
            )
        value = feature.pop("id", None)
        ids.append(value if value is None or isinstance(value, int) else str(value))
        feature["properties"] = {**properties, _ROW: number}
    return json.dumps(content).encode(), ids


def convert_columns(
    path: Path, table: pa.Table
) -> tuple[list[pd.Series[Any]], list[str]]:
    """Return attributes of types that every output can store.

    Returns:
        The columns, and a note of binary ones, which are left out.
    """
    columns = []
    binary = []
    for name, array in zip(table.column_names, table.columns, strict=True):
        kind = getattr(array.type, "storage_type", array.type)  # JSON is stored as text
        if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
            binary.append(name)
        elif pa.types.is_nested(kind) or pa.types.is_time(kind) or kind != array.type:
            columns.append(typed_column(name, list(map(_to_text, array.to_pylist()))))
        else:
            columns.append(arrow_column(name, array))
    if binary:
        return columns, [
            f"{path.name}: binary attributes were left out: {', '.join(binary)}"
        ]
    return columns, []


def _scenes_of_pixels(crs: str | None, attributes: list[pd.Series[Any]]) -> list[str]:
    """Return the scenes of a layer that rsft wrote for scenes without a georeference.

    Several scenes may have an object at the same pixel.

    Returns:
        The scene of every row, "" if a row has none; empty if the layer names none.
    """
    columns = {str(column.name): column for column in attributes}
    if crs or not {"scene", "row", "col"} <= set(columns):
        return []
    names = name_texts(columns["scene"])
    if any(names):
        return names
    return []


def _to_text(value: Any) -> Any:
    return value.isoformat() if hasattr(value, "isoformat") else value
