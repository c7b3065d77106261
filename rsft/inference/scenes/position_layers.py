"""Read positions from vector layers, with their feature ids and all attributes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyogrio

from rsft.data.imagery.vectors import READ_ERRORS, open_vector
from rsft.errors import RequestError
from rsft.inference.scenes.attributes import arrow_column, attribute_table, row_numbers, typed_column
from rsft.inference.scenes.position_table import PositionTable

_FID_COLUMNS = ("fid", "ogc_fid")  # names of feature ids that are not attributes
_ROW = "rsft row"  # property that is added to GeoJSON features


def read_layer_positions(path: Path, layer: str | None = None) -> PositionTable:
    """Read the positions of a vector layer.

    The identity of a position is its feature id, as QGIS shows it in `$id`; in GeoJSON, the member `id` of the feature.

    Args:
        path: a vector layer, see `open_vector`.
        layer: name of the layer; None if the file has one layer with geometry.

    Returns:
        The positions.

    Raises:
        RequestError: the file cannot be read, or it has several layers and `layer` names none of them.
    """
    source = open_vector(path)
    ids = None
    if isinstance(source, bytes):
        source, ids = _take_ids(path, source)
    try:
        layer = _select_layer(path, pyogrio.list_layers(source), layer)
        shapes = pyogrio.read_dataframe(source, layer=layer, columns=[], fid_as_index=True)
        header, table = pyogrio.read_arrow(source, layer=layer, read_geometry=False, return_fids=True)
    except READ_ERRORS as error:
        hint = "give .gpkg, .geojson, .csv, DOTA or YOLO .txt, or COCO .json"
        raise RequestError(f"the file of positions cannot be read: {error}", path, hint) from error
    fid_column = header["fid_column"] or "OGC_FID"
    if fid_column.lower() in _FID_COLUMNS or fid_column in header["fields"]:
        table = table.remove_column(table.column_names.index(fid_column))
    fids = [int(fid) for fid in shapes.index]
    if table.num_rows != len(fids):
        message = f"the layer is damaged: {len(fids)} geometries, but {table.num_rows} rows of attributes"
        raise RequestError(message, path, "export the layer again")
    if ids is not None:
        column = table.column(_ROW) if _ROW in table.column_names else None
        if column is None or column.null_count:
            raise RequestError("a feature is not what GeoJSON specifies", path, "export the layer again")
        rows: list[int] = column.to_pylist()
        table, fids = table.drop_columns([_ROW]), [ids[row] for row in rows]
    columns, notes = _convert(path, table)
    return PositionTable(
        shapes=list(shapes.geometry),
        attributes=attribute_table(fids, row_numbers(fids), columns),
        crs=None if shapes.crs is None else shapes.crs.to_wkt(),
        notes=notes,
    )


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


def _convert(path: Path, table: pa.Table) -> tuple[list[pd.Series[Any]], list[str]]:
    """Return attributes with types that every output can store, and a note on those that were left out."""
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
    return columns, [f"{path.name}: binary attributes were left out: {', '.join(binary)}"] if binary else []
