"""Files of Pascal VOC (labelImg, roLabelImg) and CVAT."""

import math
from typing import Any
from xml.etree.ElementTree import Element

import numpy as np
import shapely

from rsft.data.annotations.objects import DocumentFormat, ObjectList, Shape
from rsft.data.annotations.shapes import (
    make_box,
    make_centered_box,
    make_polygon,
    try_shape,
)
from rsft.utils.tables import is_number

_MAX_ANGLE = 2 * math.pi + 0.01
_CVAT_SHAPES = ("box", "polygon", "points")
_UNNAMED = "?"  # an image without a name, which is no scene


class _XmlFormat(DocumentFormat):
    """An XML file, recognized by the name of its root element."""

    suffixes = (".xml",)
    has_types = False
    root: str

    def matches(self, content: Any) -> bool:
        return bool(content.tag == self.root)


class PascalVoc(_XmlFormat):
    """Boxes in one image as labelImg writes them, and rotated boxes of roLabelImg.

    Their angle is clockwise in radians. The identity of an object is its number from 1.
    """

    name = "voc"
    title = "Pascal VOC"
    root = "annotation"
    hint = "export it again; angles of robndbox are radians"

    def parse_content(self, content: Element, objects: ObjectList) -> None:
        image = (content.findtext("filename") or "").strip()
        objects.add_image(
            image, content.findtext("size/width"), content.findtext("size/height")
        )
        _check_angles(content)
        for element in content.findall("object"):
            attributes = {"class": element.findtext("name")}
            for child in element:
                if not len(child) and child.tag not in ("name", "type"):
                    attributes[child.tag] = child.text
            objects.add(try_shape(_make_voc_shape, element), attributes, image=image)


def _check_angles(content: Element) -> None:
    """Check that no angle is larger than a turn in radians.

    Raises:
        ValueError: one is, so that all of the file are degrees.
    """
    texts = [x.text or "" for x in content.iterfind("object/robndbox/angle")]
    degrees = [x for x in texts if is_number(x) and abs(float(x)) > _MAX_ANGLE]
    if degrees:
        raise ValueError(
            f"{len(degrees):,} of {len(texts):,} angles are larger than a turn in"
            f" radians: {', '.join(degrees[:3])}"
        )


def _make_voc_shape(element: Element) -> shapely.Geometry:
    for name in ("bndbox", "robndbox"):
        if len(element.findall(name)) > 1:
            raise ValueError(f"the object has several boxes {name}")
    rotated = element.find("robndbox")
    if rotated is None:
        return make_box(*_read_numbers(element, "bndbox", "xmin ymin xmax ymax"))
    *box, radians = _read_numbers(element, "robndbox", "cx cy w h angle")
    return make_centered_box(*box, degrees=math.degrees(radians))


def _read_numbers(element: Element, box: str, names: str) -> list[float]:
    """Return numbers of a box of an element.

    Raises:
        KeyError: one of them is missing.
    """
    parent = element.find(box)
    if parent is None:
        raise KeyError(box)
    numbers = []
    for name in names.split():
        text = parent.findtext(name)
        if text is None:
            raise KeyError(f"{box}/{name}")
        numbers.append(float(text))
    return numbers


class Cvat(_XmlFormat):
    """CVAT for images: boxes, polygons and points.

    A box is rotated clockwise around its center. The identity is the number of the
    shape from 1; a shape of several points gives one object per point.
    """

    name = "cvat"
    title = "CVAT for images"
    root = "annotations"
    hint = "export it as CVAT for images 1.1"

    def parse_content(self, content: Element, objects: ObjectList) -> None:
        if content.find("track") is not None:
            raise ValueError("the file is CVAT for video")
        for image in content.findall("image"):
            name = image.get("name", _UNNAMED)
            objects.add_image(name, image.get("width"), image.get("height"))
            for element in image:
                if element.tag in _CVAT_SHAPES:
                    for shape in _make_cvat_shapes(element):
                        objects.add(shape, _read_cvat_attributes(element), image=name)
                else:
                    objects.left_out[element.tag] += 1


def _read_cvat_attributes(element: Element) -> dict[str, str | None]:
    attributes = {"class": element.get("label")}
    for key in ("occluded", "source", "group_id"):
        if key in element.attrib:
            attributes[key] = element.get(key)
    for child in element.findall("attribute"):
        attributes[child.get("name", "attribute")] = child.text
    return attributes


def _make_cvat_shapes(element: Element) -> list[Shape]:
    shape, fault = try_shape(_make_cvat_shape, element)
    if isinstance(shape, shapely.MultiPoint):
        return [(point, "") for point in shape.geoms]
    return [(shape, fault)]


def _make_cvat_shape(element: Element) -> shapely.Geometry:
    values = element.attrib
    if element.tag == "box":
        sides = [float(values[key]) for key in ("xtl", "ytl", "xbr", "ybr")]
        return make_box(*sides, degrees=float(values.get("rotation", 0)))
    pairs = values.get("points", "").split(";")
    points = np.array([pair.split(",") for pair in pairs], float)
    if element.tag == "points":
        return shapely.MultiPoint(points)
    return make_polygon(points)
