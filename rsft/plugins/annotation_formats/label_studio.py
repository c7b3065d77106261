"""Files of Label Studio."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
import shapely

from rsft.data.annotations import base
from rsft.data.annotations.base import (
    FRACTION,
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
from rsft.data.annotations.tables import csv_header
from rsft.errors import RequestError
from rsft.utils.text_tables import read_text_table
from rsft.utils.untrusted.documents import parse_json

_REGION_KEYS = frozenset(
    {"x", "y", "width", "height", "rotation", "points", "radiusX", "radiusY", "rle"}
)
"""Keys of Label Studio that are the shape of a region."""
_CONTENT_KEYS = ("choices", "text", "rating", "number", "taxonomy", "datetime")
"""Keys of Label Studio whose value belongs to a region or to the image: they become
attributes."""
_CSV_HEADER = frozenset({"annotation_id", "annotator", "lead_time"})
_RECORD_KEYS = frozenset(
    {
        "id",
        "annotation_id",
        "annotator",
        "created_at",
        "updated_at",
        "lead_time",
        "was_cancelled",
        "agreement",
    }
)
"""Keys of JSON-MIN and CSV that neither the data nor the labels have."""


class LabelStudio(DocumentFormat):
    """Rectangles, polygons and keypoints of Label Studio: JSON, JSON-MIN or CSV, in fractions of the image size.

    Of several annotations of a task, the ground truth is read, or else the newest one.
    The identity of an object is that of its region, or its number from 1.
    """

    name = "labelstudio"
    title = "Label Studio"
    suffixes = (".json", ".csv")

    def recognizes(self, path: Path) -> bool:
        is_csv = path.suffix.lower() == ".csv"
        if is_csv:
            return csv_header(path) >= _CSV_HEADER
        return super().recognizes(path)

    def matches(self, content: Any) -> bool:
        if isinstance(content, list) and content:
            first = content[0]
        else:
            first = content
        return isinstance(first, dict) and (
            "annotation_id" in first or isinstance(first.get("data"), dict)
        )

    def read(self, path: Path, layer: str | None = None) -> Annotations:
        left_out: Counter[str] = Counter()
        objects: list[AnnotatedObject] = []
        images = []
        try:
            for task in _read_tasks(path):
                data = {str(key): value for key, value in task["data"].items()}
                key = _image_key(data)
                image = _image_name(data.pop(key)) if key else ""
                images.append((image, None, None))
                annotation = _choose_annotation(task, left_out)
                regions, shared = _read_regions(
                    annotation.get("result") or (), left_out
                )
                left_out["labels of images without objects"] += (
                    len(shared) if not regions else 0
                )
                for region in regions.values():
                    objects.append(
                        _make_object(region, data | shared, len(objects) + 1, image)
                    )
        except (KeyError, TypeError, AttributeError, IndexError) as error:
            raise RequestError(
                f"not a file of Label Studio: {error!r}",
                path,
                "export it again as JSON, JSON-MIN or CSV",
            ) from error
        return base.image_annotations(path, objects, images, left_out, crs=FRACTION)


def _read_tasks(path: Path) -> Iterable[dict[str, Any]]:
    """Return the tasks of a file, with the structure of the full JSON."""
    if path.suffix.lower() == ".csv":
        cells = read_text_table(path).cells.map(_parse_cell)
        records = cells.to_dict("records")
    else:
        content = base.load_document(path)
        records = content if isinstance(content, list) else [content]
        if "annotation_id" not in records[0]:
            return records
    tasks: dict[str, dict[str, Any]] = {}
    for number, record in enumerate(records):
        labels = {
            key: value
            for key, value in record.items()
            if key not in _RECORD_KEYS and _has_regions(value)
        }
        data = {
            key: value
            for key, value in record.items()
            if key not in _RECORD_KEYS and key not in labels
        }
        task = tasks.setdefault(
            str(record.get("id", f"row {number}")), {"data": data, "annotations": []}
        )
        result = [
            {**item, "from_name": key, "value": item}
            for key, items in labels.items()
            for item in items
        ]
        task["annotations"].append(
            {**record, "id": record["annotation_id"], "result": result, "data": data}
        )
    return tasks.values()


def _parse_cell(cell: str) -> Any:
    """Return the content of a cell: regions are JSON."""
    try:
        if cell[:1] in ("[", "{"):
            return parse_json(cell)
        return cell
    except ValueError:
        return cell


def _has_regions(value: Any) -> bool:
    is_list = isinstance(value, list) and all(isinstance(item, dict) for item in value)
    return is_list and any(not _REGION_KEYS.isdisjoint(item) for item in value)


def _choose_annotation(
    task: Mapping[str, Any], left_out: Counter[str]
) -> Mapping[str, Any]:
    """Return the ground truth, or else the newest annotation that is not canceled; an empty one without any."""
    annotations = task.get("annotations", task.get("completions")) or []
    usable = [
        item
        for item in annotations
        if str(item.get("was_cancelled") or item.get("skipped")).lower() != "true"
    ]
    left_out["canceled annotations"] += len(annotations) - len(usable)
    left_out["older annotations of the same task"] += max(0, len(usable) - 1)
    left_out["predictions"] += len(task.get("predictions") or ())
    left_out["tasks without an annotation"] += not usable
    usable.sort(
        key=lambda item: (
            item.get("ground_truth") is True,
            str(item.get("updated_at") or item.get("created_at")),
        )
    )
    return usable[-1] if usable else {}


def _read_regions(
    results: Iterable[Mapping[str, Any]], left_out: Counter[str]
) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """Return the values of each region, to which several results belong, and the attributes of the whole image."""
    regions: dict[str, dict[str, Any]] = {}
    shared: dict[str, Any] = {}
    for result in results:
        value = result.get("value")
        if not isinstance(value, dict):
            left_out[str(result.get("type", "result"))] += 1
            continue
        content = {
            str(result.get("from_name", key)): _single(value[key])
            for key in _CONTENT_KEYS
            if key in value
        }
        shape = {key: value[key] for key in sorted(_REGION_KEYS & set(value))}
        if not shape:
            shared |= content
        elif not {"x", "points"} & set(shape) or "radiusX" in shape:
            left_out["ellipses" if "radiusX" in shape else "masks"] += 1
        else:
            region = regions.setdefault(
                str(result.get("id") or json.dumps(shape)),
                {"labels": [], "attributes": {}},
            )
            labels = [
                label
                for key, names in value.items()
                if key.endswith("labels")
                for label in names
            ]
            region["labels"] += [
                label for label in labels if label not in region["labels"]
            ]
            region["attributes"] |= content
            region |= {
                "shape": shape,
                "id": result.get("id"),
                "score": result.get("score"),
            }
            region["size"] = result.get("original_width"), result.get("original_height")
    return regions, shared


def _single(values: Any) -> Any:
    if isinstance(values, list) and len(values) == 1:
        return values[0]
    return values


def _make_object(
    region: Mapping[str, Any], attributes: Mapping[str, Any], number: int, image: str
) -> AnnotatedObject:
    """Return the object of a region. Without a label, its only choice is the class."""
    choices = [
        value for value in region["attributes"].values() if isinstance(value, str)
    ]
    label = "; ".join(map(str, region["labels"])) or (
        choices[0] if len(choices) == 1 else None
    )
    attributes = {"class": label, **attributes, **region["attributes"]}
    shape = try_shape(_region_shape, region["shape"], region["size"])
    return AnnotatedObject(*shape, attributes, region["id"] or number, image)


def _region_shape(shape: Mapping[str, Any], size: tuple[Any, Any]) -> shapely.Geometry:
    """Return a shape in fractions of the image size.

    A rectangle is rotated clockwise around its first corner.
    """
    if "points" in shape:
        return make_polygon(np.array(shape["points"], float) / 100)
    x, y = float(shape["x"]), float(shape["y"])
    if "height" not in shape:  # the width of a keypoint is that of its symbol
        return make_point(x / 100, y / 100)
    degrees = float(shape.get("rotation") or 0)
    if degrees and not all(size):
        raise KeyError("original_width or original_height")
    scale = np.array(size if degrees else (1, 1), float)
    low, high = (
        np.array([(x, y), (x + float(shape["width"]), y + float(shape["height"]))])
        / 100
        * scale
    )
    return make_polygon(
        np.array(make_box(*low, *high, degrees=degrees, pivot=low).exterior.coords[:-1])
        / scale
    )


def _image_key(data: Mapping[str, Any]) -> str | None:
    """Return the key of the task data that names the image: `image`, or else the first with a name of a file."""
    texts = [
        key
        for key, value in data.items()
        if isinstance(value, str) and "." in _image_name(value)
    ]
    if isinstance(data.get("image"), str):
        return "image"
    return next(iter(texts), None)


def _image_name(address: str) -> str:
    """Return the name of the file in an address of Label Studio, such as /data/local-files/?d=scenes/a.tif."""
    parts = urlsplit(address)
    local = parse_qs(parts.query).get("d")
    if local:
        return local[0]
    return unquote(parts.path) or address
