"""A table of predictions as a file: GeoPackage, GeoJSON or CSV, whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pandas as pd
import pyogrio
import shapely
from geopandas import GeoDataFrame

from rsft.errors import RequestError
from rsft.files import replacing, write_text

Metadata = dict[str, Any]

LAYER = "predictions"


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


def write_predictions(table: pd.DataFrame, path: Path, metadata: Metadata, *, overwrite: bool = False) -> list[str]:
    """Write `table`, whose column `geometry` holds outlines in EPSG:4326 or None; return what the reader should know.

    A GeoPackage carries `metadata` in its metadata table, GeoJSON as a member beside the features, CSV not at all.

    Raises:
        RequestError: as `check_output`.
    """
    check_output(path, table.columns, overwrite=overwrite)
    _WRITERS[path.suffix.lower()](table, path, metadata)
    without = int(table["geometry"].isna().sum())
    return [f"chips without usable georeference, so without geometry: {without:,} of {len(table):,}"] if without else []


def _write_gpkg(table: pd.DataFrame, path: Path, metadata: Metadata) -> None:
    layer = table.drop(columns="geometry")  # without any outline it is a table, which a GeoPackage holds as well
    if table["geometry"].notna().any():
        layer = GeoDataFrame(layer, geometry=list(table["geometry"]), crs="EPSG:4326")
    texts = {
        key: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for key, value in metadata.items()
    }
    with replacing(path) as temporary:
        pyogrio.write_dataframe(layer, temporary, layer=LAYER, driver="GPKG", layer_metadata=texts)


def _write_geojson(table: pd.DataFrame, path: Path, metadata: Metadata) -> None:
    rows = table.drop(columns="geometry").to_dict("records")
    features = [
        {"type": "Feature", "geometry": outline and json.loads(shapely.to_geojson(outline)), "properties": row}
        for row, outline in zip(rows, table["geometry"], strict=True)
    ]
    collection = {"type": "FeatureCollection", "name": LAYER, "metadata": metadata, "features": features}
    write_text(path, json.dumps(collection, ensure_ascii=False))


def _write_csv(table: pd.DataFrame, path: Path, metadata: Metadata) -> None:
    flat = table.rename(columns={"geometry": "wkt"})
    flat["wkt"] = [outline and shapely.to_wkt(outline, rounding_precision=7) for outline in table["geometry"]]
    flat = flat.dropna(axis="columns", how="all")
    with replacing(path) as temporary:
        flat.to_csv(temporary, index=False)


_WRITERS: dict[str, Callable[[pd.DataFrame, Path, Metadata], None]] = {
    ".gpkg": _write_gpkg,
    ".geojson": _write_geojson,
    ".csv": _write_csv,
}
