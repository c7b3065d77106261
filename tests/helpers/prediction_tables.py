"""Small tables of predictions."""

import pandas as pd
import shapely

from rsft.inference.writers.layer import PredictionLayer
from rsft.inference.writers.tables import (
    write_prediction_table,
)

SQUARE = shapely.box(10, 50, 10.5, 50.5)
POINT = shapely.Point(10, 50)
CLASSES = ("ship", "Öltanker")
METADATA = {"bundle_sha256": "abc", "recipe": "ships", "classes": list(CLASSES)}
COLUMNS = ["chip", "path", "class", "probability", "p_ship", "p_Öltanker"]
QGIS = {
    **{
        "id": "INTEGER",
        "f_table_catalog": "TEXT(256)",
        "f_table_schema": "TEXT(256)",
        "f_table_name": "TEXT(256)",
    },
    **{
        "f_geometry_column": "TEXT(256)",
        "styleName": "TEXT(30)",
        "styleQML": "TEXT",
        "styleSLD": "TEXT",
    },
    **{
        "useAsDefault": "BOOLEAN",
        "description": "TEXT",
        "owner": "TEXT(30)",
        "ui": "TEXT(30)",
    },
    "update_time": "DATETIME",
}
"""The table that QGIS makes when it saves a style in a GeoPackage
(qgsogrprovider.cpp)."""


class Unprintable:
    """A value that cannot be written."""

    def __repr__(self):
        """Raise an error."""
        raise RuntimeError("the disk is full")

    __str__ = __repr__


def table(*outlines):
    names = [f"{index}.tif" for index in range(len(outlines))]
    rows = pd.DataFrame(
        {"chip": names, "path": [f"d,1/{name}" for name in names], "class": "Öltanker"}
    )
    rows = rows.assign(probability=0.75, p_ship=0.25, p_Öltanker=0.75)
    return rows.assign(geometry=pd.Series(outlines, dtype=object))


def write(out, *outlines, crs="EPSG:4326", overwrite=False):
    write_prediction_table(
        PredictionLayer(table(*outlines), crs, CLASSES, METADATA),
        out,
        overwrite=overwrite,
    )
    return out
