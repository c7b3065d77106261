"""Boxes in images as detectors write them: DOTA, YOLO, YOLO-OBB and COCO."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
import shapely
import yaml

from rsft.data.annotations import CLASS_NAME_FILES, CLASS_NAME_LEVELS
from rsft.data.annotations.base import ANNOTATIONS, FRACTION
from rsft.data.annotations.objects import DocumentFormat, ObjectFormat, ObjectList
from rsft.data.annotations.shapes import (
    make_box,
    make_centered_box,
    make_polygon,
    try_shape,
)
from rsft.errors import RequestError
from rsft.utils.tables import is_number
from rsft.utils.untrusted.documents import read_regular_text

_YOLO_ROWS = (
    "`class x y width height [score]` or `class x1 y1 ... x4 y4 [score]` in fractions"
    " of the image size"
)
_DOTA_ROWS = "`x1 y1 x2 y2 x3 y3 x4 y4 class [difficulty]` in pixels"
_ROWS = f"YOLO rows are {_YOLO_ROWS}, DOTA rows are {_DOTA_ROWS}"
_DOTA_HEADERS = ("imagesource", "gsd")

_COCO_SHAPES = frozenset(
    {"id", "image_id", "bbox", "segmentation", "keypoints", "score"}
)
"""Keys of annotations that are not attributes, because they are the identity, the shape
or the score."""

MAX_NAME_BYTES = 2**20
"""Largest file of names of classes: 1 MiB."""


_Row = tuple[shapely.Polygon, dict[str, str], float | None]
"""Shape, attributes and score of a line of a text file of boxes."""


class _TextBoxes(ObjectFormat):
    """A text file with one box per line and without a header of columns.

    The identity of a box is its line.
    """

    suffixes = (".txt",)
    has_types = False

    @abstractmethod
    def parse_row(self, fields: list[str]) -> _Row:
        """Return the box of a line.

        Raises:
            ValueError: the line has another form.
        """

    def parse(self, path: Path, objects: ObjectList) -> None:
        for line, fields in _read_fields(path):
            try:
                shape, attributes, score = self.parse_row(fields)
                objects.add((shape, ""), attributes, line, score=score)
            except ValueError as error:
                objects.add((None, str(error)), {}, line)


def _read_fields(path: Path) -> list[tuple[int, list[str]]]:
    """Return the number and the fields of every line with a box."""
    try:
        lines = read_regular_text(path).splitlines()
    except UnicodeDecodeError as error:
        raise RequestError("the file is not UTF-8 text", path, _ROWS) from error
    rows = []
    for number, line in enumerate(lines, 1):
        if line.strip() and not line.lower().startswith(_DOTA_HEADERS):
            rows.append((number, line.split()))
    return rows


@ANNOTATIONS.register
class Yolo(_TextBoxes):
    """Upright and rotated boxes in fractions of the image size.

    A class is a number. It becomes the name that data.yaml, classes.txt or obj.names
    has for it, beside the file or in a folder above.
    """

    name = "yolo"
    title = "YOLO or YOLO-OBB"
    crs = FRACTION

    def __init__(self) -> None:
        self.names: dict[str, str] = {}

    def recognizes(self, path: Path) -> bool:
        return super().recognizes(path) and not Dota().recognizes(path)

    def parse(self, path: Path, objects: ObjectList) -> None:
        for folder in path.absolute().parents[:CLASS_NAME_LEVELS]:
            for file in [folder / name for name in CLASS_NAME_FILES]:
                if not self.names and file.is_file() and file != path.absolute():
                    self.names = _read_class_names(file)
                    names_path = file
        if self.names:
            objects.notes.append(f"the names of classes come from {names_path}")
            numbers = {fields[0] for _, fields in _read_fields(path)}
            unnamed = ", ".join(sorted(numbers - set(self.names))[:10])
            if unnamed:
                objects.notes.append(
                    f"{names_path.name}: no name for class {unnamed}, which keeps its"
                    " number"
                )
        super().parse(path, objects)

    def parse_row(self, fields: list[str]) -> _Row:
        if len(fields) not in (5, 6, 9, 10):
            raise ValueError(f"{len(fields)} fields; {_ROWS}")
        label, *texts = fields
        numbers = np.array(texts, float)
        count = 8 if len(fields) >= 9 else 4
        box = numbers[:count]
        if np.abs(box - 0.5).max() > 0.6:  # boxes may extend a little beyond the edge
            raise ValueError("YOLO rows need fractions of the image size, from 0 to 1")
        if count == 4:
            shape = make_centered_box(*box)
        else:
            shape = make_polygon(box.reshape(4, 2))
        score = float(numbers[count]) if len(numbers) > count else None
        return shape, {"class": self.names.get(label, label)}, score


def _read_class_names(path: Path) -> dict[str, str]:
    """Return the names of classes by their numbers; none if YAML has no key `names`.

    All scalars of YAML are read as texts, so that `no` and `007` are names, too.
    """
    try:
        text = read_regular_text(path, MAX_NAME_BYTES)
        if path.suffix == ".yaml":
            return _parse_class_names(text)
        names = enumerate(map(str.strip, text.splitlines()))
        return {str(number): name for number, name in names if name}
    except (OSError, ValueError, TypeError, RecursionError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())[:200]
        raise RequestError(
            f"the names of classes cannot be read: {reason}",
            path,
            "it has a list of names, as Ultralytics or Darknet write it",
        ) from error


def _parse_class_names(text: str) -> dict[str, str]:
    content = yaml.load(text, yaml.BaseLoader)
    names = content.get("names") if isinstance(content, dict) else None
    if isinstance(names, list):
        names = {str(number): name for number, name in enumerate(names)}
    if names is None or isinstance(names, dict):
        return {key: str(name) for key, name in (names or {}).items()}
    raise ValueError("the key names has no list")


@ANNOTATIONS.register
class Dota(_TextBoxes):
    """Quadrilaterals in pixels."""

    name = "dota"
    title = "DOTA"

    def recognizes(self, path: Path) -> bool:
        if not super().recognizes(path):
            return False
        return any(self._has_class(fields) for _, fields in _read_fields(path))

    def parse_row(self, fields: list[str]) -> _Row:
        if not self._has_class(fields):
            raise ValueError(f"{len(fields)} fields; DOTA rows are {_DOTA_ROWS}")
        shape = make_polygon(np.array(fields[:8], float).reshape(4, 2))
        attributes = dict(zip(("class", "difficulty"), fields[8:], strict=False))
        return shape, attributes, None

    def _has_class(self, fields: list[str]) -> bool:
        return len(fields) >= 9 and not is_number(fields[8])


@ANNOTATIONS.register
class Coco(DocumentFormat):
    """Upright boxes of many images in JSON, or a list of the results of a detector.

    The name of the category is the class, and the attribute `category`. Annotations
    without ids are counted from 1.
    """

    name = "coco"
    title = "COCO"
    suffixes = (".json",)
    hint = (
        "COCO has images (file_name, id) and annotations (image_id, bbox), or is a list"
        " of results"
    )

    def matches(self, content: Any) -> bool:
        if not isinstance(content, dict) or {"images", "annotations"} <= set(content):
            return True
        return "type" not in content  # of GeoJSON; converters write "instances"

    def parse_content(self, content: Any, objects: ObjectList) -> None:
        is_results = isinstance(content, list)
        if is_results:
            content = {"annotations": content, "images": ()}
        for image in content["images"]:
            name = str(image["file_name"])
            objects.add_image(name, image.get("width"), image.get("height"))
        files = _map_names(content["images"], "file_name")
        categories = _map_names(content.get("categories", []), "name")
        for row in content["annotations"]:
            if not is_results and row["image_id"] not in files:
                objects.left_out["annotation of an image that the file lacks"] += 1
                continue
            shape, score = _parse_box(row["bbox"], row.get("score"))
            attributes = {key: row[key] for key in row if key not in _COCO_SHAPES}
            if categories:
                category = categories.get(row.get("category_id"))
                attributes |= {"category": category, "class": category}
            image = files.get(row["image_id"], row["image_id"])
            objects.add(shape, attributes, row.get("id"), str(image), score)
        if content["annotations"] and not objects.objects:
            ids = ", ".join(map(repr, list(files)[:3])) or "none"
            raise ValueError(
                f"no annotation has the image_id of an image, such as {ids}"
            )
        images = {item.image for item in objects.objects}
        if is_results and len(images) > 1:  # a list does not name its only image
            for item in objects.objects:
                objects.add_image(item.image)


def _map_names(rows: Any, key: str) -> dict[Any, Any]:
    """Return the names of images or categories by their ids.

    Raises:
        ValueError: two names have the same id.
    """
    names: dict[Any, Any] = {}
    for row in rows:
        name = row.get(key)
        other = names.setdefault(row["id"], name)
        if other != name:
            raise ValueError(f"the id {row['id']!r} is that of {other} and of {name}")
    return names


def _parse_box(
    box: Any, score: Any
) -> tuple[tuple[shapely.Geometry | None, str], float | None]:
    """Return the shape of a COCO box, and its score."""
    try:
        left, top, width, height = map(float, box)
        probability = None if score is None else float(score)
    except (TypeError, ValueError, OverflowError):
        fault = "bbox must be x, y, width, height, and score a number"
        return (None, fault), None
    right = left + max(width, 0)
    bottom = top + max(height, 0)
    return try_shape(make_box, left, top, right, bottom), probability
