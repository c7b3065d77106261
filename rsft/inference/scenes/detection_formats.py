"""Read detections in pixels in the formats DOTA, YOLO and COCO."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rsft.errors import DataError, RequestError
from rsft.inference.scenes.attributes import attribute_table, row_numbers, text_column, typed_column
from rsft.inference.scenes.locations import Location, SceneLocations, min_area_box
from rsft.inference.scenes.raster import RasterScene
from rsft.types import Floats
from rsft.utils.tables import is_number
from rsft.utils.untrusted.documents import parse_json

_FORMATS = (
    "DOTA rows are `x1 y1 x2 y2 x3 y3 x4 y4 class [difficulty]`, YOLO rows are `class x y width height [score]` or "
    "`class x1 y1 ... x4 y4 [score]` in fractions of the image size"
)
_DOTA_HEADERS = ("imagesource", "gsd")
_COCO_SHAPES = frozenset({"id", "image_id", "bbox", "segmentation", "keypoints", "score"})
"""Keys of annotations that are not attributes, because they are the identity, the shape or the score."""


def read_dota_or_yolo(path: Path, scene: RasterScene) -> SceneLocations:
    """Read DOTA rows in pixels, or YOLO rows in fractions of the image size. One file may contain both.

    Args:
        path: a text file.
        scene: the scene that contains the boxes.

    Returns:
        The locations with their line, class and difficulty as attributes, and the rows that cannot be used.

    Raises:
        RequestError: the file is not a text file.
    """
    locations = SceneLocations(are_boxes=True)
    lines_used: list[int] = []
    attributes: list[dict[str, str]] = []
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise RequestError("the file is not UTF-8 text", path, _FORMATS) from error
    for number, line in enumerate(lines, 1):
        fields = line.split()
        if not fields or line.lower().startswith(_DOTA_HEADERS):
            continue
        try:
            corners, score = _parse(fields, scene)
        except ValueError as error:
            locations.rejected.append((str(path), number, str(error)))
            continue
        locations.locations.append(_make_location(corners, scene, number, score))
        lines_used.append(number)
        attributes.append(_text_attributes(fields))
    names = dict.fromkeys(name for row in attributes for name in row)
    columns = [text_column(name, [row.get(name, "") for row in attributes]) for name in names]
    locations.attributes = attribute_table(lines_used, lines_used, columns)
    return locations


def read_coco_boxes(path: Path, scene: RasterScene) -> SceneLocations:
    """Read the boxes of a scene from a COCO file or a list of COCO results.

    Args:
        path: a JSON file.
        scene: the scene; COCO images are matched by file name.

    Returns:
        The locations with the id and the values of their annotations as attributes, and the rows that cannot be used.
        Annotations without ids are counted from 1.

    Raises:
        RequestError: the file is not a COCO file.
        DataError: the file does not name the scene, or a list of results belongs to several images.
    """
    try:
        content = parse_json(path.read_bytes())
        rows = content if isinstance(content, list) else content["annotations"]
        images = {} if isinstance(content, list) else {row["file_name"]: row["id"] for row in content["images"]}
        image_id = _image_id(path, scene, images, rows)
        ids = [row.get("id", number) for number, row in enumerate(rows, 1)]
        annotations = [
            (number, annotation_id, row)
            for number, annotation_id, row in zip(row_numbers(ids), ids, rows, strict=True)
            if row["image_id"] == image_id
        ]
        boxes = [(number, row["bbox"], row.get("score")) for number, _, row in annotations]
        categories = {} if isinstance(content, list) else _category_names(content)
        locations = SceneLocations(attributes=_coco_attributes(annotations, categories), are_boxes=True)
    except (KeyError, TypeError, AttributeError) as error:
        hint = "COCO has images (file_name, id) and annotations (image_id, bbox), or is a list of results"
        raise RequestError(f"not a COCO file: {error!r} is missing", path, hint) from error
    for number, box, score in boxes:
        try:
            x, y, width, height = (float(value) for value in box)
        except (TypeError, ValueError, OverflowError):
            locations.rejected.append((str(path), number, "bbox must be x, y, width, height"))
            continue
        try:
            probability = None if score is None else float(score)
        except (TypeError, ValueError, OverflowError):
            locations.rejected.append((str(path), number, f"the score {str(score)[:40]!r} is not a number"))
            continue
        corners = np.array([[y, x], [y + height, x], [y + height, x + width], [y, x + width]])
        if not np.isfinite(corners).all() or width <= 0 or height <= 0:
            locations.rejected.append((str(path), number, "the box has no area"))
            continue
        locations.locations.append(_make_location(corners, scene, number, probability))
    return locations


def _category_names(content: dict[str, Any]) -> dict[Any, Any]:
    return {category["id"]: category.get("name") for category in content.get("categories", [])}


def _coco_attributes(annotations: list[tuple[int, Any, dict[str, Any]]], categories: dict[Any, Any]) -> pd.DataFrame:
    """Return the values of annotations, without shapes; the name of the category becomes an attribute as well."""
    rows = [{key: value for key, value in row.items() if key not in _COCO_SHAPES} for _, _, row in annotations]
    if categories:
        rows = [row | {"category": categories.get(row.get("category_id"))} for row in rows]
    names = dict.fromkeys(name for row in rows for name in row)
    columns = [typed_column(name, [row.get(name) for row in rows]) for name in names]
    return attribute_table([key for _, key, _ in annotations], [number for number, _, _ in annotations], columns)


def _image_id(path: Path, scene: RasterScene, images: dict[str, Any], rows: list[dict[str, Any]]) -> Any:
    matches = [number for name, number in images.items() if Path(name).name == scene.path.name]
    if matches:
        return matches[0]
    numbers = {row["image_id"] for row in rows}
    if images or len(numbers) > 1:
        count = len(images) or len(numbers)
        message = f"none of its {count:,} images has the name {scene.path.name}"
        raise DataError(message, path, "rename the scene or the image")
    return next(iter(numbers), None)


def _is_dota(fields: list[str]) -> bool:
    return len(fields) >= 9 and not is_number(fields[8])


def _text_attributes(fields: list[str]) -> dict[str, str]:
    if _is_dota(fields):
        return dict(zip(("class", "difficulty"), fields[8:10], strict=False))
    return {"class": fields[0]}


def _parse(fields: list[str], scene: RasterScene) -> tuple[Floats, float | None]:
    """Return corners (4, 2) as row and column, and the score."""
    if _is_dota(fields):
        corners, score = np.array(fields[:8], float).reshape(4, 2)[:, ::-1], None
    elif len(fields) in (5, 6, 9, 10):
        numbers = np.array(fields[1:], float)
        count = 4 if len(fields) < 9 else 8
        score = float(numbers[count]) if len(numbers) > count else None
        if np.abs(numbers[:count] - 0.5).max() > 0.6:  # boxes may extend a little beyond the edge
            raise ValueError("YOLO rows need fractions of the image size, from 0 to 1")
        corners = _yolo_corners(numbers[:count]) * [scene.height, scene.width]
    else:
        raise ValueError(f"{len(fields)} fields; {_FORMATS}")
    if not np.isfinite(corners).all() or np.ptp(corners, axis=0).min() <= 0:
        raise ValueError("the box has no area")
    return corners, score


def _yolo_corners(numbers: Floats) -> Floats:
    if len(numbers) == 8:
        return numbers.reshape(4, 2)[:, ::-1]
    x, y, width, height = numbers
    low, high = (y - height / 2, x - width / 2), (y + height / 2, x + width / 2)
    return np.array([low, (high[0], low[1]), high, (low[0], high[1])])


def _make_location(corners: Floats, scene: RasterScene, number: int, score: float | None) -> Location:
    row, col = (corners.min(axis=0) + corners.max(axis=0)) / 2
    return Location(float(row), float(col), min_area_box(corners), f"{scene.name}_{number:06d}", number, score)
