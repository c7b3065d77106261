"""Files of positions for `--at`, and polygons of land for `--land`."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import geopandas
import numpy as np

from rsft.scenes.detection import open_land_polygons
from rsft.scenes.positions import read_positions
from rsft.scenes.raster import PixelWindow, open_scene
from tests.fuzz.mutate import (
    Mutator,
    mutate_bytes,
    mutate_json,
    mutate_parquet,
    mutate_sqlite,
    mutate_text,
)
from tests.fuzz.target import Target
from tests.helpers.scenes import UTM, write_geotiff

PLACES = ((15.0006, 45.1533), (15.0031, 45.1512))
"""Longitude and latitude of two points in the scene."""
OUTLINE = [5, 5, 14, 5, 14, 14, 5, 14]
COCO = {
    "images": [{"id": 1, "file_name": "scene.tif", "width": 80, "height": 60}],
    "categories": [{"id": 3, "name": "ship"}],
    "annotations": [
        {"image_id": 1, "category_id": 3}
        | {"id": 1, "bbox": [10, 10, 20, 15], "score": 0.7},
        {"image_id": 1, "category_id": 3}
        | {"id": 2, "bbox": [5, 5, 9, 9], "segmentation": [OUTLINE]},
    ],
}
TEXTS = {
    "lonlat.csv": "lon,lat,name,speed\n15.0006,45.1533,a,3.5\n15.0031,45.1512,b,\n",
    "pixels.csv": "row;col;score\n20,5;30;0,5\n10;12,25;0,1\n",
    "boxes.csv": (
        "west,south,east,north,id\n15.000,45.150,15.002,45.152,7\n15.003,45.151,15.004,45.152,8\n"
    ),
}
DOTA = (
    "imagesource:x\ngsd:10\n10 10 30 10 30 25 10 25 ship 0\n40 40 50 42 49 47 39 45"
    " plane 1\n"
)
YOLO = "0 0.5 0.5 0.2 0.1\n1 0.25 0.3 0.1 0.1 0.9\n"


def _geojson(kind: str) -> str:
    shapes = [
        (
            {"type": "Point", "coordinates": place}
            if kind == "Point"
            else {"type": "Polygon", "coordinates": [_ring(*place)]}
        )
        for place in PLACES
    ]
    features = [
        {
            "type": "Feature",
            "id": number,
            "properties": {"name": f"ship {number}", "score": 0.5},
            "geometry": shape,
        }
        for number, shape in enumerate(shapes, 1)
    ]
    return json.dumps({"type": "FeatureCollection", "features": features})


def _ring(lon: float, lat: float) -> list[list[float]]:
    return [[lon, lat], [lon + 0.002, lat], [lon + 0.002, lat + 0.001], [lon, lat]]


def _build(name: str, content: str | Callable[[Path], object], folder: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (60, 80), np.uint8)
    write_geotiff(folder / "scene.tif", pixels, crs="EPSG:32633", transform=UTM)
    (
        (folder / name).write_text(content)
        if isinstance(content, str)
        else content(folder / name)
    )


def _write_layer(kind: str, path: Path) -> None:
    geopandas.read_file(_geojson(kind)).to_file(path, index=False)


def _write_parquet(path: Path) -> None:
    geopandas.read_file(_geojson("Polygon")).to_parquet(path, write_covering_bbox=True)


def _read(name: str, folder: Path) -> None:
    read_positions(folder / name, open_scene(folder / "scene.tif"))


def _read_land(name: str, folder: Path) -> None:
    mask = open_land_polygons(folder / name, open_scene(folder / "scene.tif"))
    assert mask is not None
    mask(PixelWindow(0, 0, 60, 80))


def make_target(
    name: str,
    file: str,
    content: str | Callable[[Path], object],
    mutator: Mutator,
) -> Target:
    """Return a class of input of `--at` or, if its name begins with land, `--land`."""
    read = _read_land if name.startswith("land") else _read
    return Target(
        name,
        partial(_build, file, content),
        {file: mutator},
        partial(read, file),
    )


TARGETS = [
    *(
        make_target(f"positions_{name[:-4]}_csv", name, text, mutate_text)
        for name, text in TEXTS.items()
    ),
    make_target("positions_geojson", "at.geojson", _geojson("Point"), mutate_json),
    make_target("positions_polygons", "at.geojson", _geojson("Polygon"), mutate_json),
    make_target(
        "positions_gpkg",
        "at.gpkg",
        partial(_write_layer, "Polygon"),
        mutate_sqlite,
    ),
    make_target(
        "positions_fgb", "at.fgb", partial(_write_layer, "Polygon"), mutate_bytes
    ),
    make_target("positions_coco", "at.json", json.dumps(COCO), mutate_json),
    make_target("positions_dota", "scene.txt", DOTA, mutate_text),
    make_target("positions_yolo", "scene.txt", YOLO, mutate_text),
    make_target("positions_parquet", "at.parquet", _write_parquet, mutate_parquet),
    make_target("land_geojson", "land.geojson", _geojson("Polygon"), mutate_json),
    make_target(
        "land_gpkg", "land.gpkg", partial(_write_layer, "Polygon"), mutate_sqlite
    ),
]
