"""Files of positions for `--at`, and polygons of land for `--land`."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import geopandas
import numpy as np

from rsft.scenes.detection import open_land_polygons
from rsft.scenes.locations import read_positions
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
BOX = "<bndbox><xmin>10</xmin><ymin>5</ymin><xmax>30</xmax><ymax>25</ymax></bndbox>"
ROTATED = (
    "<robndbox><cx>40</cx><cy>30</cy><w>20</w><h>8</h><angle>0.5</angle></robndbox>"
)
VOC = (
    "<annotation><filename>scene.tif</filename><size><width>80</width><height>60</height></size>\n"
    f"<object><name>ship</name><difficult>0</difficult>{BOX}</object>\n<object><name>tug</name>{ROTATED}</object>\n"
    "</annotation>"
)
CVAT = (
    '<annotations><version>1.1</version><image id="0" name="scene.tif" width="80"'
    ' height="60">\n<tag label="sea"/>\n<box label="ship" xtl="10" ytl="5" xbr="30"'
    ' ybr="25" rotation="30"><attribute name="a">b</attribute></box>\n<polygon'
    ' label="oil" points="1,1;20,2;9,30"/>\n<points label="buoy"'
    ' points="5,6;7,8"/>\n</image></annotations>'
)
LABELME = {
    "shapes": [
        {
            "label": "ship",
            "shape_type": "rectangle",
            "points": [[10, 5], [30, 25]],
            "flags": {"sure": True},
        },
        {
            "label": "oil",
            "shape_type": "polygon",
            "points": [[1, 1], [20, 2], [9, 30]],
            "group_id": 4,
        },
        {"label": "tank", "shape_type": "circle", "points": [[40, 30], [45, 30]]},
    ],
    "imagePath": "scene.tif",
    "imageHeight": 60,
    "imageWidth": 80,
}
_RECTANGLE = {
    "x": 10,
    "y": 20,
    "width": 30,
    "height": 20,
    "rotation": 15,
    "rectanglelabels": ["ship"],
}
_SIZE = {"original_width": 80, "original_height": 60}
_REGIONS = [
    {"id": "r1", "from_name": "label", "type": "rectanglelabels", "value": _RECTANGLE}
    | _SIZE,
    {"id": "r2", "from_name": "label", "type": "polygonlabels"}
    | {"value": {"points": [[1, 1], [50, 2], [9, 60]], "polygonlabels": ["oil"]}},
    {
        "id": "r3",
        "from_name": "sea",
        "type": "choices",
        "value": {"choices": ["rough"]},
    },
]
STUDIO = [
    {"id": 1, "data": {"image": "/data/upload/1/0f12cd34-scene.tif"}}
    | {
        "annotations": [
            {"id": 5, "result": _REGIONS, "was_cancelled": False, "updated_at": "2026"}
        ]
    }
]
STUDIO_MIN = [
    {
        "id": 1,
        "image": "scene.tif",
        "annotation_id": 5,
        "annotator": 1,
        "updated_at": "2026",
        "lead_time": 3,
    }
    | {"label": [_RECTANGLE | _SIZE], "sea": "rough"}
]
XVIEW3 = (
    "detect_scene_row,detect_scene_column,is_vessel,is_fishing,scene_id,vessel_length_m,left,top,right,bottom\n"
    "20,30,True,False,scene,25.5,,,,\n40,50,True,True,scene,,45,35,55,45\n"
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


def _target(
    name: str,
    file: str,
    content: str | Callable[[Path], object],
    mutator: Mutator,
    share: float = 1,
) -> Target:
    read = _read_land if name.startswith("land") else _read
    return Target(
        name,
        partial(_build, file, content),
        {file: mutator},
        partial(read, file),
        share=share,
    )


TARGETS = [
    *(
        _target(f"positions_{name[:-4]}_csv", name, text, mutate_text)
        for name, text in TEXTS.items()
    ),
    _target("positions_geojson", "at.geojson", _geojson("Point"), mutate_json),
    _target("positions_polygons", "at.geojson", _geojson("Polygon"), mutate_json),
    _target(
        "positions_gpkg",
        "at.gpkg",
        partial(_write_layer, "Polygon"),
        mutate_sqlite,
        0.5,
    ),
    _target("positions_fgb", "at.fgb", partial(_write_layer, "Polygon"), mutate_bytes),
    _target("positions_coco", "at.json", json.dumps(COCO), mutate_json),
    _target("positions_dota", "scene.txt", DOTA, mutate_text),
    _target("positions_yolo", "scene.txt", YOLO, mutate_text),
    _target("positions_voc", "at.xml", VOC, mutate_text),
    _target("positions_cvat", "at.xml", CVAT, mutate_text),
    _target("positions_labelme", "at.json", json.dumps(LABELME), mutate_json),
    _target("positions_labelstudio", "at.json", json.dumps(STUDIO), mutate_json),
    _target("positions_json_min", "at.json", json.dumps(STUDIO_MIN), mutate_json),
    _target("positions_xview3", "at.csv", XVIEW3, mutate_text),
    _target("positions_parquet", "at.parquet", _write_parquet, mutate_parquet, 0.5),
    _target("land_geojson", "land.geojson", _geojson("Polygon"), mutate_json, 0.5),
    _target(
        "land_gpkg", "land.gpkg", partial(_write_layer, "Polygon"), mutate_sqlite, 0.25
    ),
]
