"""Writers of label files for one scene, whose objects have known places and classes."""

from __future__ import annotations

import json
from pathlib import Path

import geopandas
import numpy as np
import shapely
from pyproj import Transformer

from tests.helpers.files import written
from tests.helpers.scenes import UTM

HEIGHT, WIDTH = 300, 400
ROWS = np.array([30, 80, 120, 170, 220, 260])
COLS = np.array([40, 110, 180, 350, 320, 380])
CLASSES = ["cargo", "tanker"] * 3
PLACES = list(zip(ROWS.tolist(), COLS.tolist(), strict=True))
EAST, NORTH = UTM @ (COLS, ROWS)
LON, LAT = Transformer.from_crs(32633, 4326, always_xy=True).transform(EAST, NORTH)


def table(header: str, *columns, separator: str = ",") -> str:
    lines = [separator.join(map(str, row)) for row in zip(*columns, strict=True)]
    return "\n".join([header, *lines, ""])


def layer(path: Path, crs, x=EAST, y=NORTH, **columns) -> Path:
    shapes = shapely.points(x, y)
    frame = geopandas.GeoDataFrame({"class": CLASSES} | columns, geometry=shapes)
    frame = frame.set_crs(crs) if crs else frame
    if path.suffix == ".parquet":
        frame.to_parquet(path)
    else:
        frame.to_file(path)
    return path


def geojson(path: Path, geometries) -> Path:
    features = [
        {"type": "Feature", "properties": {"class": name}, "geometry": geometry}
        for name, geometry in zip(CLASSES, geometries, strict=False)
    ]
    content = {"type": "FeatureCollection", "features": features}
    return written(path, json.dumps(content))


def coco(path: Path, boxes, **content) -> Path:
    rows = [
        {"id": number, "image_id": 1, "category_id": 1 + number % 2, "bbox": box}
        for number, box in enumerate(boxes)
    ]
    names = [{"id": 1, "name": "cargo"}, {"id": 2, "name": "tanker"}]
    image = {"id": 1, "file_name": "s.tif", "width": WIDTH, "height": HEIGHT}
    coco = {"images": [image], "categories": names, "annotations": rows} | content
    return written(path, json.dumps(coco))


def labelme(path: Path, kind: str, points, **content) -> Path:
    shapes = [
        {"label": name, "shape_type": kind, "points": corners}
        for name, corners in zip(CLASSES, points, strict=True)
    ]
    document = {"imagePath": "s.tif", "imageWidth": WIDTH, "imageHeight": HEIGHT}
    return written(path, json.dumps(document | {"shapes": shapes} | content))


def cvat(path: Path, shapes, width=WIDTH, height=HEIGHT) -> Path:
    image = f"<image id='0' name='s.tif' width='{width}' height='{height}'>"
    return written(path, f"<annotations>{image}{''.join(shapes)}</image></annotations>")


def voc(path: Path, boxes, name: str = "s.tif") -> Path:
    objects = []
    for label, box in zip(CLASSES, boxes, strict=True):
        sides = zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
        corners = "".join(f"<{side}>{value}</{side}>" for side, value in sides)
        objects.append(
            f"<object><name>{label}</name><bndbox>{corners}</bndbox></object>"
        )
    text = f"<annotation><filename>{name}</filename>{''.join(objects)}</annotation>"
    return written(path, text)


def boxes(width=20, height=10):
    """Left, top, right and bottom of boxes around the places."""
    return [
        (col - width // 2, row - height // 2, col + width // 2, row + height // 2)
        for row, col in PLACES
    ]
