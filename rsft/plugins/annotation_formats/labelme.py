"""Files of LabelMe."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from rsft.data.annotations import base
from rsft.data.annotations.base import (
    AnnotatedObject,
    Annotations,
    DocumentFormat,
)
from rsft.data.annotations.shapes import (
    make_box,
    make_point,
    make_polygon,
    try_shape,
)
from rsft.errors import RequestError


class LabelMe(DocumentFormat):
    """Rectangles, polygons, points and circles in one image; a circle becomes the square around it.

    The identity of a shape is its number from 1.
    """

    name = "labelme"
    title = "LabelMe"
    suffixes = (".json",)

    def matches(self, content: Any) -> bool:
        return isinstance(content, dict) and {"shapes", "imagePath"} <= set(content)

    def read(self, path: Path, layer: str | None = None) -> Annotations:
        content = base.load_document(path)
        image = str(content["imagePath"] or "")
        objects = []
        left_out = Counter[str]()
        if not isinstance(content["shapes"], list):
            raise RequestError(
                "shapes is not a list", path, "export it again with LabelMe"
            )
        for number, item in enumerate(content["shapes"], 1):
            item = item if isinstance(item, dict) else {}
            kind = str(
                item.get("shape_type") or "polygon"
            )  # LabelMe before version 4 only has polygons
            if kind not in (
                "rectangle",
                "oriented_rectangle",
                "polygon",
                "point",
                "circle",
            ):
                left_out[kind] += 1
                continue
            if isinstance(item.get("flags"), dict):
                flags = item["flags"]
            else:
                flags = {}
            attributes = {
                key: item[key]
                for key in ("group_id", "description")
                if item.get(key) not in (None, "")
            }
            attributes = (
                {"class": item.get("label")}
                | attributes
                | {str(key): value for key, value in flags.items()}
            )
            shape = try_shape(_labelme_shape, kind, item.get("points"))
            objects.append(AnnotatedObject(*shape, attributes, number, image))
        images = [(image, content.get("imageWidth"), content.get("imageHeight"))]
        return base.image_annotations(path, objects, images, left_out)


def _labelme_shape(kind: str, points: Any) -> shapely.Geometry:
    corners = np.array(points, float)
    if corners.ndim != 2 or corners.shape[1] != 2 or not len(corners):
        raise ValueError("points must be x and y of each corner")
    if kind == "point":
        return make_point(*corners[0])
    if kind in ("rectangle", "circle") and len(corners) < 2:
        raise ValueError(f"a {kind} has two points")
    if kind == "circle":  # the center and a point on the circle
        radius = float(np.linalg.norm(corners[1] - corners[0]))
        corners = np.array([corners[0] - radius, corners[0] + radius])
    if kind in ("rectangle", "circle"):
        return make_box(*corners.min(0), *corners.max(0))
    return make_polygon(corners)
