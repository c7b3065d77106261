"""Predictions as GeoJSON, with the metadata beside the features."""

from __future__ import annotations

import json
import sys
from operator import methodcaller
from pathlib import Path
from typing import Any

import shapely

from rsft.inference.writers.layer import (
    CORRECTED_COLUMN,
    LAYER_NAME,
    PredictionLayer,
    without_nan,
)
from rsft.inference.writers.styles import qml_style
from rsft.inference.writers.table_format import (
    TABLE_FORMATS,
    TableFormat,
    table_and_sidecar,
)
from rsft.types import LONLAT
from rsft.utils.untrusted.documents import load_json


@TABLE_FORMATS.register
class GeoJsonFile(TableFormat):
    """GeoJSON; the style for QGIS lies beside it."""

    name = "geojson"
    sidecar = ".qml"

    def write(self, layer: PredictionLayer, path: Path) -> None:
        style = None
        shapes: Any = [None] * len(layer.table)
        if layer.crs == LONLAT and layer.is_spatial:  # RFC 7946 only allows degrees
            layer = layer.with_corrections()
            style = qml_style(layer)
            shapes = layer.table["geometry"]
        rows = without_nan(layer.table.drop(columns="geometry")).to_dict("records")
        features = []
        for row, shape in zip(rows, shapes, strict=True):
            geometry = shape and json.loads(shapely.to_geojson(shape))
            features.append(
                {"type": "Feature", "geometry": geometry, "properties": row}
            )
        collection = {
            "type": "FeatureCollection",
            "name": LAYER_NAME,
            "metadata": layer.metadata,
            "features": features,
        }
        with table_and_sidecar(path, self.sidecar, style) as temporary:
            temporary.write_text(
                json.dumps(
                    collection, ensure_ascii=False, default=methodcaller("isoformat")
                ),
                encoding="utf-8",
            )

    def find_corrections(self, path: Path) -> list[Any]:
        features = load_json(path, sys.maxsize)["features"]
        return [feature["properties"].get(CORRECTED_COLUMN) for feature in features]
