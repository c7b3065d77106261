"""Files of LabelMe."""

from typing import Any

import numpy as np
import shapely

from rsft.data.annotations.objects import DocumentFormat, ObjectList
from rsft.data.annotations.shapes import make_box, make_point, make_polygon, try_shape

_KINDS = ("rectangle", "oriented_rectangle", "polygon", "point", "circle")


class LabelMe(DocumentFormat):
    """Rectangles, polygons, points and circles in one image.

    A circle becomes the square around it. The identity of a shape is its number from 1.
    """

    name = "labelme"
    title = "LabelMe"
    suffixes = (".json",)
    hint = "export it again with LabelMe"

    def matches(self, content: Any) -> bool:
        return isinstance(content, dict) and {"shapes", "imagePath"} <= set(content)

    def parse_content(self, content: Any, objects: ObjectList) -> None:
        image = str(content["imagePath"] or "")
        objects.add_image(image, content.get("imageWidth"), content.get("imageHeight"))
        if not isinstance(content["shapes"], list):
            raise ValueError("shapes is not a list")
        for number, item in enumerate(content["shapes"], 1):
            values = item if isinstance(item, dict) else {}
            kind = str(values.get("shape_type") or "polygon")  # before version 4
            if kind not in _KINDS:
                objects.left_out[kind] += 1
                continue
            shape = try_shape(_make_shape, kind, values.get("points"))
            objects.add(shape, {"class": values.get("label")}, number, image)


def _make_shape(kind: str, points: Any) -> shapely.Geometry:
    corners = np.array(points, float)
    if corners.ndim != 2 or corners.shape[1] != 2 or not len(corners):
        raise ValueError("points must be x and y of each corner")
    if kind == "point":
        return make_point(*corners[0])
    if kind not in ("rectangle", "circle"):
        return make_polygon(corners)
    if len(corners) < 2:
        raise ValueError(f"a {kind} has two points")
    if kind == "circle":  # the center and a point on the circle
        radius = float(np.linalg.norm(corners[1] - corners[0]))
        corners = np.array([corners[0] - radius, corners[0] + radius])
    return make_box(*corners.min(0), *corners.max(0))
