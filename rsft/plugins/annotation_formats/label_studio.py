"""Files of Label Studio."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
import shapely

from rsft.data.annotations.base import FRACTION, load_document
from rsft.data.annotations.objects import DocumentFormat, ObjectList
from rsft.data.annotations.shapes import make_box, make_point, make_polygon, try_shape
from rsft.data.annotations.tables import csv_header
from rsft.utils.untrusted.documents import parse_json
from rsft.utils.untrusted.text_tables import read_text_table

_SHAPE_KEYS = frozenset(
    ["x", "y", "width", "height", "rotation", "points", "radiusX", "radiusY", "rle"]
)
"""Keys that are the shape of a region."""

_CONTENT_KEYS = ("choices", "text", "rating", "number", "taxonomy", "datetime")
"""Keys whose value belongs to a region or to the image: they become attributes."""

_CSV_HEADER = frozenset({"annotation_id", "annotator", "lead_time"})

_RECORD_KEYS = frozenset(
    [
        "id",
        "annotation_id",
        "annotator",
        "created_at",
        "updated_at",
        "lead_time",
        "was_cancelled",
        "agreement",
    ]
)
"""Keys of JSON-MIN and CSV that neither the data nor the labels have."""


class LabelStudio(DocumentFormat):
    """Rectangles, polygons and keypoints of Label Studio in fractions of the image.

    The file is JSON, JSON-MIN or CSV. Of several annotations of a task, the ground
    truth is read, or else the newest one. The identity of an object is that of its
    region, or its number from 1.
    """

    name = "labelstudio"
    title = "Label Studio"
    suffixes = (".json", ".csv")
    crs = FRACTION
    hint = "export it again as JSON, JSON-MIN or CSV"

    def recognizes(self, path: Path) -> bool:
        if path.suffix.lower() == ".csv":
            return csv_header(path) >= _CSV_HEADER
        return super().recognizes(path)

    def matches(self, content: Any) -> bool:
        task = content[0] if isinstance(content, list) and content else content
        if not isinstance(task, dict):
            return False
        return "annotation_id" in task or isinstance(task.get("data"), dict)

    def parse(self, path: Path, objects: ObjectList) -> None:
        if path.suffix.lower() == ".csv":
            cells = read_text_table(path).cells.map(_parse_cell)
            self.parse_content(cells.to_dict("records"), objects)
        else:
            self.parse_content(load_document(path), objects)

    def parse_content(self, content: Any, objects: ObjectList) -> None:
        tasks = content if isinstance(content, list) else [content]
        if "annotation_id" in tasks[0]:
            tasks = _make_tasks(tasks)
        for task in tasks:
            data = {str(key): value for key, value in task["data"].items()}
            key = _find_image_key(data)
            image = _parse_image_name(data.pop(key)) if key else ""
            objects.add_image(image)
            annotation = _choose_annotation(task, objects.left_out)
            results = annotation.get("result") or ()
            regions, shared = _read_regions(results, objects.left_out)
            if shared and not regions:
                objects.left_out["labels of images without objects"] += len(shared)
            for region in regions:
                label = region.find_label()
                attributes = {"class": label, **data, **shared, **region.attributes}
                shape = try_shape(_make_shape, region.shape, region.size)
                objects.add(shape, attributes, region.identity or None, image)


@dataclass
class _Region:
    """What several results say about one region."""

    identity: Any = None
    shape: dict[str, Any] = field(default_factory=dict)
    size: tuple[Any, Any] = (None, None)
    labels: list[str] = field(default_factory=list)
    attributes: dict[str, Any] = field(default_factory=dict)

    def find_label(self) -> str | None:
        """Return the labels; without a label, the only choice is the class."""
        if self.labels:
            return "; ".join(map(str, self.labels))
        texts = [value for value in self.attributes.values() if isinstance(value, str)]
        return texts[0] if len(texts) == 1 else None


def _parse_cell(cell: str) -> Any:
    """Return the content of a cell: regions are JSON."""
    if cell[:1] not in ("[", "{"):
        return cell
    try:
        return parse_json(cell)
    except ValueError:
        return cell


def _make_tasks(records: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the records of JSON-MIN or CSV with the structure of the full JSON."""
    tasks: dict[str, dict[str, Any]] = {}
    for number, record in enumerate(records):
        data = {}
        result = []
        for name, value in record.items():
            if name in _RECORD_KEYS:
                continue
            if _has_regions(value):
                result += [{**item, "from_name": name, "value": item} for item in value]
            else:
                data[name] = value
        key = str(record.get("id", f"row {number}"))
        task = tasks.setdefault(key, {"data": data, "annotations": []})
        identity = record["annotation_id"]
        task["annotations"].append({**record, "id": identity, "result": result})
    return list(tasks.values())


def _has_regions(value: Any) -> bool:
    if not isinstance(value, list) or not all(isinstance(x, dict) for x in value):
        return False
    return any(not _SHAPE_KEYS.isdisjoint(item) for item in value)


def _choose_annotation(
    task: Mapping[str, Any], left_out: Counter[str]
) -> Mapping[str, Any]:
    """Return the ground truth, or else the newest annotation that is not canceled.

    An empty one without any.
    """
    annotations = task.get("annotations", task.get("completions")) or []
    usable = [item for item in annotations if not _is_canceled(item)]
    left_out["canceled annotations"] += len(annotations) - len(usable)
    left_out["older annotations of the same task"] += max(0, len(usable) - 1)
    left_out["predictions"] += len(task.get("predictions") or ())
    left_out["tasks without an annotation"] += not usable
    return max(reversed(usable), key=_rank_annotation, default={})


def _is_canceled(annotation: Mapping[str, Any]) -> bool:
    state = annotation.get("was_cancelled") or annotation.get("skipped")
    return str(state).lower() == "true"


def _rank_annotation(annotation: Mapping[str, Any]) -> tuple[bool, str]:
    time = annotation.get("updated_at") or annotation.get("created_at")
    return annotation.get("ground_truth") is True, str(time)


def _read_regions(
    results: Iterable[Mapping[str, Any]], left_out: Counter[str]
) -> tuple[list[_Region], dict[str, Any]]:
    """Return the regions, and the attributes of the whole image."""
    regions: dict[str, _Region] = {}
    shared: dict[str, Any] = {}
    for result in results:
        value = result.get("value")
        if not isinstance(value, dict):
            left_out[str(result.get("type", "result"))] += 1
            continue
        content = {}
        for key in _CONTENT_KEYS:
            if key in value:
                content[str(result.get("from_name", key))] = _take_single(value[key])
        shape = {key: value[key] for key in sorted(_SHAPE_KEYS & set(value))}
        if not shape:
            shared |= content
        elif "radiusX" in shape:
            left_out["ellipses"] += 1
        elif not {"x", "points"} & set(shape):
            left_out["masks"] += 1
        else:
            key = str(result.get("id") or json.dumps(shape))
            region = regions.setdefault(key, _Region(result.get("id")))
            region.shape = shape
            region.size = result.get("original_width"), result.get("original_height")
            region.attributes |= content
            _add_labels(region, value)
    return list(regions.values()), shared


def _add_labels(region: _Region, value: Mapping[str, Any]) -> None:
    for key, labels in value.items():
        if key.endswith("labels"):
            region.labels += [x for x in labels if x not in region.labels]


def _take_single(values: Any) -> Any:
    if isinstance(values, list) and len(values) == 1:
        return values[0]
    return values


def _make_shape(shape: Mapping[str, Any], size: tuple[Any, Any]) -> shapely.Geometry:
    """Return a shape in fractions of the image size.

    A rectangle is rotated clockwise around its first corner.
    """
    if "points" in shape:
        return make_polygon(np.array(shape["points"], float) / 100)
    x = float(shape["x"])
    y = float(shape["y"])
    if "height" not in shape:  # the width of a keypoint is that of its symbol
        return make_point(x / 100, y / 100)
    degrees = float(shape.get("rotation") or 0)
    if degrees and not all(size):
        raise KeyError("original_width or original_height")
    scale = np.array(size if degrees else (1, 1), float)
    first = np.array([x, y]) / 100
    sides = np.array([float(shape["width"]), float(shape["height"])]) / 100
    low = first * scale
    box = make_box(*low, *(low + sides * scale), degrees=degrees, pivot=low)
    return make_polygon(shapely.get_coordinates(box)[:-1] / scale)


def _find_image_key(data: Mapping[str, Any]) -> str | None:
    """Return the key of the task data that names the image.

    It is `image`, or else the first with a name of a file.
    """
    texts = {key: value for key, value in data.items() if isinstance(value, str)}
    if "image" in texts:
        return "image"
    names = [key for key, text in texts.items() if "." in _parse_image_name(text)]
    return names[0] if names else None


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
