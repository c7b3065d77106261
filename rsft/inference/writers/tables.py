"""Write a table of predictions as GeoPackage, GeoJSON, GeoParquet or CSV, without ever leaving an unfinished file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import shapely
from geopandas import GeoDataFrame

from rsft.errors import RequestError
from rsft.inference.scenes.georeference import LONLAT
from rsft.inference.writers.geopackage import LAYER_NAME, GeometryType, write_geopackage
from rsft.inference.writers.palette import class_colors
from rsft.utils.atomic_files import atomic_file, write_text

Metadata = dict[str, Any]


class PredictionLayer(NamedTuple):
    """A table of predictions with everything that belongs into its file.

    Attributes:
        table: one row per chip; its column `geometry` contains shapes or None.
        crs: EPSG:4326; None if shapes are in pixels of the scene: column and -row, as in QGIS.
        classes: names of the classes, in the order of the bundle.
        metadata: how the table was made.
        geometry_type: type of the geometries, if the table has no rows.
    """

    table: pd.DataFrame
    crs: str | None
    classes: tuple[str, ...]
    metadata: Metadata
    geometry_type: GeometryType = "Point"


def check_output_path(path: Path, columns: Iterable[str], *, overwrite: bool = False) -> None:
    """Check that a table can be written, before a job starts.

    Args:
        path: path of the table.
        columns: names of its columns.
        overwrite: whether to replace an existing file.

    Raises:
        RequestError: the format is unknown or does not support the columns, or the file exists.
    """
    suffix = path.suffix.lower()
    if suffix == ".shp":
        message = "a Shapefile cuts column names at 10 characters, has no NULL and ends at 2 GB"
        raise RequestError(message, path, "use .gpkg, which has none of these limits")
    if suffix not in _WRITERS:
        raise RequestError(f"unknown format: {suffix or 'no suffix'}", path, f"use {', '.join(_WRITERS)}")
    folded = [column.casefold() for column in columns]
    if suffix == ".gpkg" and len(set(folded)) < len(folded):
        repeated = sorted({column for column in folded if folded.count(column) > 1})
        message = f"a GeoPackage ignores case, so these column names are duplicates: {', '.join(repeated)}"
        raise RequestError(message, path, "use .geojson or .csv")
    if path.is_dir():
        raise RequestError("the output is a folder", path, "give the path of a file")
    if path.exists() and not overwrite:
        raise RequestError("the file exists already", path, "give --overwrite to replace it, or another name")


def write_prediction_table(layer: PredictionLayer, path: Path, *, overwrite: bool = False) -> None:
    """Write a table in the format of the suffix.

    A GeoPackage has a table of metadata, GeoJSON has a member beside the features, and GeoParquet has a schema entry.
    CSV has no metadata.

    Args:
        layer: the table.
        path: path of the file.
        overwrite: whether to replace an existing file.

    Raises:
        RequestError: see `check_output_path`.
    """
    check_output_path(path, layer.table.columns, overwrite=overwrite)
    _WRITERS[path.suffix.lower()](layer, path)


def _write_gpkg(layer: PredictionLayer, path: Path) -> None:
    texts = {
        key: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for key, value in layer.metadata.items()
    }
    with atomic_file(path) as temporary:
        temporary.unlink()  # SQLite needs to create the file itself
        write_geopackage(temporary, layer.table, layer.crs, texts, class_colors(layer.classes), layer.geometry_type)


def _write_geojson(layer: PredictionLayer, path: Path) -> None:
    rows = layer.table.drop(columns="geometry").astype(object)
    rows = rows.where(rows.notna() & ~rows.isin([np.inf, -np.inf]), None)  # JSON has neither NaN nor infinity
    shapes = layer.table["geometry"] if layer.crs == LONLAT else [None] * len(rows)  # RFC 7946 only allows degrees
    features = [
        {"type": "Feature", "geometry": shape and json.loads(shapely.to_geojson(shape)), "properties": row}
        for row, shape in zip(rows.to_dict("records"), shapes, strict=True)
    ]
    collection = {"type": "FeatureCollection", "name": LAYER_NAME, "metadata": layer.metadata, "features": features}
    write_text(path, json.dumps(collection, ensure_ascii=False, default=lambda date: date.isoformat()))


def _write_parquet(layer: PredictionLayer, path: Path) -> None:
    frame = GeoDataFrame(layer.table, geometry="geometry", crs=layer.crs)
    with atomic_file(path) as temporary:
        frame.to_parquet(temporary, index=False)
        table = pq.read_table(temporary)
        metadata = json.dumps(layer.metadata, ensure_ascii=False).encode()
        pq.write_table(table.replace_schema_metadata({**table.schema.metadata, b"rsft": metadata}), temporary)


def _write_csv(layer: PredictionLayer, path: Path) -> None:
    flat = layer.table.rename(columns={"geometry": "wkt"})
    flat["wkt"] = [shape and shapely.to_wkt(shape, rounding_precision=7) for shape in layer.table["geometry"]]
    if len(flat) and flat["wkt"].isna().all():
        flat = flat.drop(columns="wkt")
    with atomic_file(path) as temporary:
        flat.to_csv(temporary, index=False)


_WRITERS: dict[str, Callable[[PredictionLayer, Path], None]] = {
    ".gpkg": _write_gpkg,
    ".geojson": _write_geojson,
    ".parquet": _write_parquet,
    ".csv": _write_csv,
}
