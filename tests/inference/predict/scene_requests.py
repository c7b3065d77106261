"""Requests for chips at positions of a scene."""

import sqlite3
from datetime import date

import geopandas
import numpy as np
import pandas as pd
import pyarrow as pa
import shapely
from pyproj import Transformer

from rsft.inference.options import PredictionRequest
from rsft.scenes.options import ChipOptions, ChipSize
from rsft.scenes.query import Query
from tests.helpers.scenes import (
    UTM,
)


def request_at(positions, **fields):
    """Return a request for chips of 16 pixels at the positions of a file."""
    return PredictionRequest(
        Query(at=positions),
        **({"chip_options": ChipOptions(size=ChipSize(16))} | fields),
    )


def ships_layer(path):
    """Write a layer of three ships with the feature ids 3, 4 and 6, as after features
    were deleted in QGIS."""
    lon, lat = Transformer.from_crs(32633, 4326, always_xy=True).transform(
        *(UTM @ (np.array([30, 100, 30]), 20))
    )
    attributes = {
        "mmsi": pd.array([211, 212, None], "Int64"),
        "class": ["tug", None, "ferry"],
        "built": pd.array([date(1999, 5, 1), None, None], pd.ArrowDtype(pa.date32())),
        "towing": pd.array([True, None, False], "boolean"),
        "nothing": pd.array([None] * 3, "Int64"),
    }
    layer = geopandas.GeoDataFrame(
        attributes, geometry=shapely.points(lon, lat), crs=4326
    )
    layer.to_file(path, use_arrow=True, SPATIAL_INDEX="NO")
    with sqlite3.connect(path) as database:
        database.executescript(
            "UPDATE ships SET fid = 9 WHERE fid = 3; UPDATE ships SET fid = fid + 2"
            " WHERE fid < 9;"
        )
        database.execute("UPDATE ships SET fid = 6 WHERE fid = 9")
    return path
