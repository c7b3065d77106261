"""Files of Pascal VOC (labelImg, roLabelImg) and CVAT."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

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
    make_centered_box,
    make_polygon,
    try_shape,
)
from rsft.errors import RequestError


class _XmlFormat(DocumentFormat):
    """An XML file, recognized by the name of its root element."""

    suffixes = (".xml",)
    root: str

    def matches(self, content: Any) -> bool:
        return bool(content.tag == self.root)


class PascalVoc(_XmlFormat):
    """Boxes in one image as labelImg writes them, and rotated boxes of roLabelImg, whose angle is clockwise in radians.

    The identity of an object is its number from 1.
    """

    name = "voc"
    title = "Pascal VOC"
    root = "annotation"

    def read(self, path: Path, layer: str | None = None) -> Annotations:
        root: Element = base.load_document(path)
        image = (root.findtext("filename") or "").strip()
        objects = []
        for number, element in enumerate(root.findall("object"), 1):
            attributes = {
                child.tag: child.text
                for child in element
                if not len(child) and child.tag != "type"
            }
            attributes = {"class": attributes.pop("name", None)} | attributes
            objects.append(
                AnnotatedObject(
                    *try_shape(_voc_shape, element), attributes, number, image
                )
            )
        images = [(image, root.findtext("size/width"), root.findtext("size/height"))]
        return base.image_annotations(path, objects, images, column=base.text_column)


def _voc_shape(element: Element) -> shapely.Geometry:
    for name, keys in (
        ("robndbox", ("cx", "cy", "w", "h", "angle")),
        ("bndbox", ("xmin", "ymin", "xmax", "ymax")),
    ):
        box = element.find(name)
        if box is not None:
            texts = {key: box.findtext(key) for key in keys}
            missing = [key for key, text in texts.items() if text is None]
            if missing:
                raise KeyError(f"{name}/{missing[0]}")
            numbers = [float(text or "") for text in texts.values()]
            if name == "bndbox":
                return make_box(*numbers)
            return make_centered_box(*numbers[:4], degrees=math.degrees(numbers[4]))
    raise KeyError("bndbox")


class Cvat(_XmlFormat):
    """CVAT for images: boxes, whose rotation is clockwise around their center, polygons and points.

    The tags of an image become the attribute `tags` of its objects. The identity is the
    number of the shape from 1; a shape of several points gives one object per point.
    """

    name = "cvat"
    title = "CVAT for images"
    root = "annotations"

    def read(self, path: Path, layer: str | None = None) -> Annotations:
        root: Element = base.load_document(path)
        if root.find("track") is not None:
            raise RequestError(
                "the file is CVAT for video", path, "export it as CVAT for images 1.1"
            )
        objects: list[AnnotatedObject] = []
        left_out: Counter[str] = Counter()
        images = root.findall("image")
        for element in images:
            name = element.get("name", _UNNAMED)
            count = len(objects)
            tags = "; ".join(tag.get("label", "") for tag in element.findall("tag"))
            shared = {"tags": tags} if tags else {}
            for child in element:
                shapes = _cvat_shapes(child)
                left_out[child.tag] += shapes is None and child.tag != "tag"
                attributes = (
                    {"class": child.get("label")} | _cvat_attributes(child) | shared
                )
                for shape in shapes or ():
                    objects.append(
                        AnnotatedObject(*shape, attributes, len(objects) + 1, name)
                    )
            left_out["image with tags but without objects"] += (
                bool(tags) and len(objects) == count
            )
        sizes = (
            (x.get("name", _UNNAMED), x.get("width"), x.get("height")) for x in images
        )
        return base.image_annotations(
            path, objects, sizes, left_out, column=base.text_column
        )


_UNNAMED = "?"  # an image without a name, which is no scene


def _cvat_attributes(element: Element) -> dict[str, str | None]:
    keys = {
        key: element.get(key)
        for key in ("occluded", "source", "group_id")
        if element.get(key) is not None
    }
    return keys | {
        child.get("name", "attribute"): child.text
        for child in element.findall("attribute")
    }


def _cvat_shapes(element: Element) -> list[tuple[shapely.Geometry | None, str]] | None:
    """Return the shapes of an element and their faults; None if it is no box, polygon or points."""
    if element.tag == "box":
        return [try_shape(_cvat_box, element.attrib)]
    if element.tag not in ("polygon", "points"):
        return None
    shape, fault = try_shape(_cvat_points, element)
    if isinstance(shape, shapely.MultiPoint):
        return [(part, "") for part in shape.geoms]
    return [(shape, fault)]


def _cvat_points(element: Element) -> shapely.Geometry:
    points = np.array(
        [pair.split(",") for pair in element.get("points", "").split(";")], float
    )
    if element.tag == "polygon":
        return make_polygon(points)
    return shapely.MultiPoint(points)


def _cvat_box(values: Mapping[str, str]) -> shapely.Polygon:
    sides = (float(values[key]) for key in ("xtl", "ytl", "xbr", "ybr"))
    return make_box(*sides, degrees=float(values.get("rotation", 0)))
