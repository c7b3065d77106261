"""Detections in pixels, as detectors and their data sets write them: DOTA, YOLO, COCO."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from rsft.errors import DataError, RequestError
from rsft.inference.scenes.locations import Place, Places, box_of
from rsft.inference.scenes.raster import Scene

_ROWS = (
    "DOTA rows are `x1 y1 x2 y2 x3 y3 x4 y4 class [difficulty]`, YOLO rows `class x y width height [score]` or "
    "`class x1 y1 ... x4 y4 [score]` in shares of the image"
)
_HEADERS = ("imagesource", "gsd")  # of DOTA


def read_text(path: Path, scene: Scene) -> Places:
    """DOTA's label rows in pixels, or YOLO's in shares of the image; each row tells by its form which it is.

    Raises:
        RequestError: the file is no text.
    """
    found = Places()
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise RequestError("the file is not UTF-8 text", path, _ROWS) from error
    for number, line in enumerate(lines, 1):
        fields = line.split()
        if not fields or line.lower().startswith(_HEADERS):
            continue
        try:
            corners, score = _parse(fields, scene)
        except ValueError as error:
            found.rejected.append((str(path), number, str(error)))
            continue
        found.places.append(_place(corners, scene, number, score))
    return found


def read_coco(path: Path, scene: Scene) -> Places:
    """The boxes of a COCO file, or of a list of results, whose image is the scene; rows count from 1.

    Raises:
        RequestError: the file is no COCO.
        DataError: it does not name the scene, or a list of results is of several images.
    """
    content = json.loads(path.read_text("utf-8-sig"))
    try:
        rows = content if isinstance(content, list) else content["annotations"]
        images = {} if isinstance(content, list) else {row["file_name"]: row["id"] for row in content["images"]}
        wanted = _image(path, scene, images, rows)
        boxes = [
            (number, row["bbox"], row.get("score")) for number, row in enumerate(rows, 1) if row["image_id"] == wanted
        ]
    except (KeyError, TypeError, AttributeError) as error:
        fix = "COCO has images (file_name, id) and annotations (image_id, bbox), or is a list of results"
        raise RequestError(f"this is no COCO file: {error!r} is missing", path, fix) from error
    found = Places()
    for number, box, score in boxes:
        try:
            x, y, width, height = (float(value) for value in box)
        except (TypeError, ValueError):
            found.rejected.append((str(path), number, "bbox is x, y, width, height"))
            continue
        corners = np.array([[y, x], [y + height, x], [y + height, x + width], [y, x + width]])
        if not np.isfinite(corners).all() or width <= 0 or height <= 0:
            found.rejected.append((str(path), number, "a box without area"))
            continue
        found.places.append(_place(corners, scene, number, None if score is None else float(score)))
    return found


def _image(path: Path, scene: Scene, images: dict[str, Any], rows: list[dict[str, Any]]) -> Any:
    """The id of the scene."""
    named = [number for name, number in images.items() if Path(name).name == scene.path.name]
    if named:
        return named[0]
    numbers = {row["image_id"] for row in rows}
    if images or len(numbers) > 1:
        count = len(images) or len(numbers)
        raise DataError(
            f"none of its {count:,} images is called {scene.path.name}", path, "rename the scene or the image"
        )
    return next(iter(numbers), None)


def _parse(fields: list[str], scene: Scene) -> tuple[np.ndarray[Any, np.dtype[np.float64]], float | None]:
    """Corners (4, 2) as row and column, and the score."""
    if len(fields) >= 9 and not _is_number(fields[8]):
        corners, score = np.array(fields[:8], float).reshape(4, 2)[:, ::-1], None
    elif len(fields) in (5, 6, 9, 10):
        numbers = np.array(fields[1:], float)
        count = 4 if len(fields) < 9 else 8
        score = float(numbers[count]) if len(numbers) > count else None
        if np.abs(numbers[:count] - 0.5).max() > 0.6:  # boxes may reach a little over the edge
            raise ValueError("a YOLO row has shares of the image, from 0 to 1")
        corners = _yolo(numbers[:count]) * [scene.height, scene.width]
    else:
        raise ValueError(f"{len(fields)} fields; {_ROWS}")
    if not np.isfinite(corners).all() or np.ptp(corners, axis=0).min() <= 0:
        raise ValueError("a box without area")
    return corners, score


def _yolo(numbers: np.ndarray[Any, np.dtype[np.float64]]) -> np.ndarray[Any, np.dtype[np.float64]]:
    if len(numbers) == 8:
        return numbers.reshape(4, 2)[:, ::-1]
    x, y, width, height = numbers
    low, high = (y - height / 2, x - width / 2), (y + height / 2, x + width / 2)
    return np.array([low, (high[0], low[1]), high, (low[0], high[1])])


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _place(corners: np.ndarray[Any, np.dtype[np.float64]], scene: Scene, number: int, score: float | None) -> Place:
    row, col = (corners.min(axis=0) + corners.max(axis=0)) / 2
    return Place(float(row), float(col), box_of(corners), f"{scene.name}_{number:06d}", number, score)
