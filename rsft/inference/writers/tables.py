"""A table of predictions as a file: GeoPackage, GeoJSON, GeoParquet or CSV, whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pyarrow.parquet as pq
import shapely
from geopandas import GeoDataFrame

from rsft.errors import RequestError
from rsft.inference.scenes.georeference import LONLAT
from rsft.inference.writers.geopackage import LAYER, write_geopackage
from rsft.inference.writers.palette import colours
from rsft.utils.atomic_files import replacing, write_text

Metadata = dict[str, Any]


class Layer(NamedTuple):
    """What is written.

    Attributes:
        table: a row a chip; its column `geometry` holds shapes or None.
        crs: EPSG:4326, or None where shapes are in pixels of the scene (column, and -row, as QGIS shows such images).
        classes: of the bundle, in its order.
        metadata: how the table was made.
    """

    table: pd.DataFrame
    crs: str | None
    classes: tuple[str, ...]
    metadata: Metadata


def check_output(path: Path, columns: Iterable[str], *, overwrite: bool = False) -> None:
    """See that a table can be written to `path`, before the work is done.

    Raises:
        RequestError: a format that is not written or cannot hold the columns, or a file that is there already.
    """
    suffix = path.suffix.lower()
    if suffix == ".shp":
        reason = "a Shapefile cuts column names at 10 characters, has no NULL and ends at 2 GB"
        raise RequestError(reason, path, "use .gpkg, which holds the table as it is")
    if suffix not in _WRITERS:
        raise RequestError(f"{suffix or 'no suffix'} names no known format", path, f"use {', '.join(_WRITERS)}")
    folded = [column.casefold() for column in columns]
    if suffix == ".gpkg" and len(set(folded)) < len(folded):
        alike = sorted({column for column in folded if folded.count(column) > 1})
        reason = f"a GeoPackage does not tell upper from lower case: columns {', '.join(alike)} stand twice"
        raise RequestError(reason, path, "use .geojson or .csv")
    if path.is_dir():
        raise RequestError("this is a folder", path, "name a file in it")
    if path.exists() and not overwrite:
        raise RequestError("there is a file already", path, "give --overwrite to replace it, or another name")


def write_predictions(layer: Layer, path: Path, *, overwrite: bool = False) -> None:
    """Write a layer. All formats but CSV carry the metadata: a table, a member beside the features, a schema entry.

    Raises:
        RequestError: as `check_output`.
    """
    check_output(path, layer.table.columns, overwrite=overwrite)
    _WRITERS[path.suffix.lower()](layer, path)


def _write_gpkg(layer: Layer, path: Path) -> None:
    texts = {
        key: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for key, value in layer.metadata.items()
    }
    with replacing(path) as temporary:
        temporary.unlink()  # a new database, not an empty file
        write_geopackage(temporary, layer.table, layer.crs, texts, colours(layer.classes))


def _write_geojson(layer: Layer, path: Path) -> None:
    rows = layer.table.drop(columns="geometry").astype(object)
    rows = rows.where(rows.notna(), None)  # JSON has no NaN
    shapes = layer.table["geometry"] if layer.crs == LONLAT else [None] * len(rows)  # RFC 7946: degrees or nothing
    features = [
        {"type": "Feature", "geometry": shape and json.loads(shapely.to_geojson(shape)), "properties": row}
        for row, shape in zip(rows.to_dict("records"), shapes, strict=True)
    ]
    collection = {"type": "FeatureCollection", "name": LAYER, "metadata": layer.metadata, "features": features}
    write_text(path, json.dumps(collection, ensure_ascii=False))


def _write_parquet(layer: Layer, path: Path) -> None:
    frame = GeoDataFrame(layer.table, geometry="geometry", crs=layer.crs)
    with replacing(path) as temporary:
        frame.to_parquet(temporary, index=False)
        table = pq.read_table(temporary)
        told = json.dumps(layer.metadata, ensure_ascii=False).encode()
        pq.write_table(table.replace_schema_metadata({**table.schema.metadata, b"rsft": told}), temporary)


def _write_csv(layer: Layer, path: Path) -> None:
    flat = layer.table.rename(columns={"geometry": "wkt"})
    flat["wkt"] = [shape and shapely.to_wkt(shape, rounding_precision=7) for shape in layer.table["geometry"]]
    flat = flat.dropna(axis="columns", how="all")
    with replacing(path) as temporary:
        flat.to_csv(temporary, index=False)


_WRITERS: dict[str, Callable[[Layer, Path], None]] = {
    ".gpkg": _write_gpkg,
    ".geojson": _write_geojson,
    ".parquet": _write_parquet,
    ".csv": _write_csv,
}
