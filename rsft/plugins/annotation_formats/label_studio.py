"""Files of Label Studio."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
import shapely
from shapely.affinity import rotate, scale

from rsft.data.annotations.base import FRACTION
from rsft.data.annotations.objects import DocumentFormat, ObjectList
from rsft.data.annotations.shapes import make_box, make_point, make_polygon, try_shape
from rsft.types import JsonObject

_SHAPE_KEYS = frozenset(
    ["x", "y", "width", "height", "rotation", "points", "radiusX", "radiusY", "rle"]
)
"""Keys that are the shape of a region."""

_CONTENT_KEYS = ("choices", "text", "rating", "number", "taxonomy", "datetime")
"""Keys whose value belongs to a region: they become attributes."""


class LabelStudio(DocumentFormat):
    """Rectangles, polygons and keypoints of Label Studio in fractions of the image.

    The file is the full JSON. Of several annotations of a task, the ground truth is
    read, or else the newest one. The identity of an object is that of its region, or
    its number from 1.
    """

    name = "labelstudio"
    title = "Label Studio"
    suffixes = (".json",)
    crs = FRACTION
    hint = "export it again as JSON"

    def matches(self, content: Any) -> bool:
        task = content[0] if isinstance(content, list) and content else content
        if not isinstance(task, dict):
            return False
        return "annotation_id" in task or isinstance(task.get("data"), dict)

    def parse_content(self, content: Any, objects: ObjectList) -> None:
        tasks = content if isinstance(content, list) else [content]
        if "annotation_id" in tasks[0]:
            raise ValueError("the file is JSON-MIN, which lacks sizes and results")
        for task in tasks:
            data = {str(key): value for key, value in task["data"].items()}
            key = _find_image_key(data)
            image = _parse_image_name(data.pop(key)) if key else ""
            objects.add_image(image)
            results = _choose_annotation(task, objects.left_out).get("result") or ()
            for region in _read_regions(results, objects.left_out):
                label = region.find_label()
                attributes = {"class": label, **data, **region.attributes}
                shape = try_shape(_make_shape, region.shape, region.size)
                objects.add(shape, attributes, region.identity or None, image)


@dataclass
class _Region:
    """What several results say about one region; the keys of `labels` are ordered."""

    identity: Any = None
    shape: JsonObject = field(default_factory=dict)
    size: tuple[Any, Any] = (None, None)
    labels: dict[str, None] = field(default_factory=dict)
    attributes: JsonObject = field(default_factory=dict)

    def find_label(self) -> str | None:
        """Return the labels; without a label, the only choice is the class."""
        if self.labels:
            return "; ".join(map(str, self.labels))
        texts = [value for value in self.attributes.values() if isinstance(value, str)]
        return texts[0] if len(texts) == 1 else None


def _choose_annotation(task: JsonObject, left_out: Counter[str]) -> JsonObject:
    """Return the ground truth, or else the newest annotation that is not canceled.

    An empty one without any.
    """
    annotations = task.get("annotations") or []
    usable = [item for item in annotations if not item.get("was_cancelled")]
    left_out["canceled annotations"] += len(annotations) - len(usable)
    left_out["older annotations of the same task"] += max(0, len(usable) - 1)
    left_out["predictions"] += len(task.get("predictions") or ())
    left_out["tasks without an annotation"] += not usable
    return max(reversed(usable), key=_rank_annotation, default={})


def _rank_annotation(annotation: JsonObject) -> tuple[bool, str]:
    time = annotation.get("updated_at") or annotation.get("created_at")
    return annotation.get("ground_truth") is True, str(time)


def _read_regions(
    results: Iterable[JsonObject], left_out: Counter[str]
) -> list[_Region]:
    """Return the regions, and count what is none."""
    regions: dict[str, _Region] = {}
    for result in results:
        value = result.get("value")
        if not isinstance(value, dict):
            left_out[str(result.get("type", "result"))] += 1
            continue
        shape = {key: value[key] for key in sorted(_SHAPE_KEYS & set(value))}
        if not shape:
            left_out["labels of whole images"] += 1
        elif "radiusX" in shape:
            left_out["ellipses"] += 1
        elif not {"x", "points"} & set(shape):
            left_out["masks"] += 1
        else:
            key = str(result.get("id") or json.dumps(shape))
            region = regions.setdefault(key, _Region(result.get("id")))
            region.shape = shape
            region.size = result.get("original_width"), result.get("original_height")
            for key in _CONTENT_KEYS:
                if key in value:
                    texts = value[key]
                    is_single = isinstance(texts, list) and len(texts) == 1
                    name = str(result.get("from_name", key))
                    region.attributes[name] = texts[0] if is_single else texts
            for kind, labels in value.items():
                if kind.endswith("labels"):
                    region.labels |= dict.fromkeys(labels)
    return list(regions.values())


def _make_shape(shape: JsonObject, size: tuple[Any, Any]) -> shapely.Geometry:
    """Return a shape in fractions of the image size.

    A rectangle is rotated clockwise around its first corner.
    """
    if "points" in shape:
        return make_polygon(np.array(shape["points"], float) / 100)
    left = float(shape["x"]) / 100
    top = float(shape["y"]) / 100
    if "height" not in shape:  # the width of a keypoint is that of its symbol
        return make_point(left, top)
    right = left + float(shape["width"]) / 100
    bottom = top + float(shape["height"]) / 100
    box = make_box(left, top, right, bottom)
    degrees = float(shape.get("rotation") or 0)
    if not degrees:
        return box
    if not all(size):
        raise KeyError("original_width or original_height")
    width, height = size
    pixels = scale(box, width, height, origin=(0, 0))
    rotated = rotate(pixels, degrees, origin=(left * width, top * height))
    fractions = scale(rotated, 1 / width, 1 / height, origin=(0, 0))
    return make_polygon(shapely.get_coordinates(fractions)[:-1])


def _find_image_key(data: JsonObject) -> str | None:
    """Return the key of the task data that names the image.

    It is `image`, or else the first with a name of a file.
    """
    texts = {key: value for key, value in data.items() if isinstance(value, str)}
    if "image" in texts:
        return "image"
    names = (key for key, text in texts.items() if "." in _parse_image_name(text))
    return next(names, None)


def _parse_image_name(address: str) -> str:
    """Return the name of the file in an address.

    Example:
        >>> _parse_image_name("/data/local-files/?d=scenes/a.tif")
        'scenes/a.tif'
    """
    parts = urlsplit(address)
    local = parse_qs(parts.query).get("d")
    if local:
        return local[0]
    return unquote(parts.path) or address
