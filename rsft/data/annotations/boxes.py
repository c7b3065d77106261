"""Boxes in images: DOTA, YOLO, YOLO-OBB and COCO."""

from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import shapely

from rsft.data.annotations.base import ANNOTATIONS, FRACTION, PIXEL, AnnotationFormat, Annotations, annotation_table
from rsft.data.annotations.columns import text_column, typed_column
from rsft.errors import RequestError
from rsft.types import Floats
from rsft.utils.tables import is_number
from rsft.utils.untrusted.documents import parse_json

_DOTA_HEADERS = ("imagesource", "gsd")
_COCO_SHAPES = frozenset({"id", "image_id", "bbox", "segmentation", "keypoints", "score"})
"""Keys of annotations that are not attributes, because they are the identity, the shape or the score."""
_COCO_HINT = "COCO has images (file_name, id) and annotations (image_id, bbox), or is a list of results"


class _TextBoxes(AnnotationFormat):
    """A text file with one box per line and without a header of columns. The identity of a box is its line.

    Attributes:
        crs: coordinate system of the boxes.
        rows: the fields of a line.
    """

    crs: ClassVar[str]
    rows: ClassVar[str]

    @abstractmethod
    def parse(self, fields: list[str]) -> tuple[Floats, float | None, dict[str, str]]:
        """Return the corners as x and y (4, 2), the score, and the attributes of a line.

        Raises:
            ValueError: the line has another form.
        """

    def read(self, path: Path, layer: str | None = None) -> Annotations:
        rows: list[tuple[int, shapely.Polygon | None, float | None, dict[str, str], str]] = []
        for line, fields in _read_fields(path):
            try:
                corners, score, attributes = self.parse(fields)
                rows.append((line, _make_box(corners), score, attributes, ""))
            except ValueError as error:
                rows.append((line, None, None, {}, str(error)))
        lines, shapes, scores, records, faults = zip(*rows, strict=True) if rows else [()] * 5
        names = dict.fromkeys(name for record in records for name in record)
        columns = [text_column(name, [record.get(name, "") for record in records]) for name in names]
        table = annotation_table(shapes, lines, columns, scores=scores, faults=faults)
        return Annotations(table, self.crs, are_boxes=True)


@ANNOTATIONS.register
class Yolo(_TextBoxes):
    """Upright and rotated boxes in fractions of the image size."""

    name = "yolo"
    title = "YOLO or YOLO-OBB"
    crs = FRACTION
    rows = "`class x y width height [score]` or `class x1 y1 ... x4 y4 [score]` in fractions of the image size"

    def recognizes(self, path: Path) -> bool:
        return path.suffix.lower() == ".txt" and not Dota().recognizes(path)

    def parse(self, fields: list[str]) -> tuple[Floats, float | None, dict[str, str]]:
        if len(fields) not in (5, 6, 9, 10):
            raise ValueError(f"{len(fields)} fields; YOLO rows are {self.rows}, DOTA rows are {Dota.rows}")
        numbers, count = np.array(fields[1:], float), 4 if len(fields) < 9 else 8
        if np.abs(numbers[:count] - 0.5).max() > 0.6:  # boxes may extend a little beyond the edge
            raise ValueError("YOLO rows need fractions of the image size, from 0 to 1")
        if count == 8:
            corners = numbers[:8].reshape(4, 2)
        else:
            x, y, width, height = numbers[:4]
            corners = _upright(x - width / 2, y - height / 2, x + width / 2, y + height / 2)
        return corners, float(numbers[count]) if len(numbers) > count else None, {"class": fields[0]}


@ANNOTATIONS.register
class Dota(_TextBoxes):
    """Quadrilaterals in pixels."""

    name = "dota"
    title = "DOTA"
    crs = PIXEL
    rows = "`x1 y1 x2 y2 x3 y3 x4 y4 class [difficulty]` in pixels"

    def recognizes(self, path: Path) -> bool:
        return path.suffix.lower() == ".txt" and any(self._has_class(fields) for _, fields in _read_fields(path))

    def parse(self, fields: list[str]) -> tuple[Floats, float | None, dict[str, str]]:
        if not self._has_class(fields):
            raise ValueError(f"{len(fields)} fields; DOTA rows are {self.rows}")
        corners = np.array(fields[:8], float).reshape(4, 2)
        return corners, None, dict(zip(("class", "difficulty"), fields[8:10], strict=False))

    def _has_class(self, fields: list[str]) -> bool:
        return len(fields) >= 9 and not is_number(fields[8])


@ANNOTATIONS.register
class Coco(AnnotationFormat):
    """Upright boxes of many images in JSON, or a list of the results of a detector.

    The name of the category is the attribute `category`. Annotations without ids are counted from 1.
    """

    name = "coco"
    title = "COCO"

    def recognizes(self, path: Path) -> bool:
        if path.suffix.lower() != ".json":
            return False
        try:
            content = parse_json(path.read_bytes())
        except ValueError as error:
            raise RequestError(f"not a JSON file: {error}", path, "give GeoJSON or COCO") from error
        return not isinstance(content, dict) or "type" not in content

    def read(self, path: Path, layer: str | None = None) -> Annotations:
        try:
            content = parse_json(path.read_bytes())
            results = content if isinstance(content, list) else None
            rows = content["annotations"] if results is None else results
            files = {} if results is not None else {image["id"]: str(image["file_name"]) for image in content["images"]}
            images = [files.get(row["image_id"], str(row["image_id"])) for row in rows]
            boxes = [_parse_box(row["bbox"], row.get("score")) for row in rows]
            records = [{key: value for key, value in row.items() if key not in _COCO_SHAPES} for row in rows]
            categories = {} if results is not None else {x["id"]: x.get("name") for x in content.get("categories", [])}
            if categories:
                records = [row | {"category": categories.get(row.get("category_id"))} for row in records]
            ids = [row.get("id", number) for number, row in enumerate(rows, 1)]
        except (KeyError, TypeError, AttributeError) as error:
            raise RequestError(f"not a COCO file: {error!r} is missing", path, _COCO_HINT) from error
        shapes, scores, faults = zip(*boxes, strict=True) if boxes else ((), (), ())
        names = dict.fromkeys(name for record in records for name in record)
        columns = [typed_column(name, [record.get(name) for record in records]) for name in names]
        table = annotation_table(shapes, ids, columns, scores=scores, images=images, faults=faults)
        is_one_image = results is not None and len(set(images)) < 2  # a list of results does not name its image
        image_names = () if is_one_image else tuple(dict.fromkeys([*files.values(), *(images if results else ())]))
        return Annotations(table, PIXEL, image_names, are_boxes=True)


def _read_fields(path: Path) -> list[tuple[int, list[str]]]:
    """Return the number and the fields of every line that is neither blank nor a header of DOTA."""
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        hint = f"YOLO rows are {Yolo.rows}, DOTA rows are {Dota.rows}"
        raise RequestError("the file is not UTF-8 text", path, hint) from error
    rows = ((number, line) for number, line in enumerate(lines, 1) if not line.lower().startswith(_DOTA_HEADERS))
    return [(number, line.split()) for number, line in rows if line.strip()]


def _parse_box(box: Any, score: Any) -> tuple[shapely.Polygon | None, float | None, str]:
    """Return the shape of a COCO box, its score, and why it cannot be used."""
    fault = "bbox must be x, y, width, height"
    try:
        left, top, width, height = map(float, box)
        fault = f"the score {str(score)[:40]!r} is not a number"
        probability = None if score is None else float(score)
        fault = "the box has no area"
        corners = _upright(left, top, left + max(width, 0), top + max(height, 0))
        return _make_box(corners), probability, ""
    except (TypeError, ValueError, OverflowError):
        return None, None, fault


def _upright(left: float, top: float, right: float, bottom: float) -> Floats:
    return np.array([(left, top), (left, bottom), (right, bottom), (right, top)])


def _make_box(corners: Floats) -> shapely.Polygon:
    """Return the polygon of corners (4, 2).

    Raises:
        ValueError: it has no area.
    """
    if not np.isfinite(corners).all() or np.ptp(corners, axis=0).min() <= 0:
        raise ValueError("the box has no area")
    return shapely.Polygon(corners)
