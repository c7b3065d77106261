"""Predictions as COCO or pre-annotations of Label Studio, for labeling tools."""

import json
import math
from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rsft.inference.writers.layer import PredictionLayer
from rsft.inference.writers.table_format import TableFormat
from rsft.types import Floats, JsonObject
from rsft.utils.atomic_files import write_text


class _Json(TableFormat):
    """A JSON file with the boxes of the chips in pixels of their scenes."""

    has_boxes = True

    def write(self, layer: PredictionLayer, path: Path) -> None:
        write_text(
            path, json.dumps(self.make_content(layer), ensure_ascii=False, default=str)
        )

    @abstractmethod
    def make_content(self, layer: PredictionLayer) -> Any:
        """Return the content of the file."""


class CocoObjects(_Json):
    """A COCO data set."""

    name = "coco.json"

    def make_content(self, layer: PredictionLayer) -> JsonObject:
        """Return the data set; the probability is the score.

        A rotated box becomes the upright box around it, and is the segmentation.
        """
        images = []
        image_ids = {}
        for number, (name, scene) in enumerate(layer.boxes.items(), 1):
            image_ids[name] = number
            size = {"width": scene.width, "height": scene.height}
            images.append({"id": number, "file_name": name, **size})
        annotations = []
        for number, box in enumerate(_boxes(layer), 1):
            corners = box.corners
            left, top = corners.min(0)
            right, bottom = corners.max(0)
            is_upright = all(len(np.unique(axis.round(6))) == 2 for axis in corners.T)
            sides = np.linalg.norm(np.diff(corners[:3], axis=0), axis=1)
            annotations.append(
                {
                    "id": number,
                    "image_id": image_ids[box.scene],
                    "category_id": layer.classes.index(box.label) + 1,
                    "bbox": _rounded([left, top, right - left, bottom - top]),
                    "area": round(float(sides.prod()), 3),
                    "segmentation": [] if is_upright else [_rounded(corners.ravel())],
                    "iscrowd": 0,
                    "score": box.probability,
                    "chip": box.chip,
                }
            )
        categories = [
            {"id": number, "name": name} for number, name in enumerate(layer.classes, 1)
        ]
        return {
            "info": {"description": "predictions of rsft", **layer.metadata},
            "images": images,
            "categories": categories,
            "annotations": annotations,
        }


class LabelStudioTasks(_Json):
    """Pre-annotations of Label Studio."""

    name = "labelstudio.json"

    def make_content(self, layer: PredictionLayer) -> list[JsonObject]:
        """Return one task per scene with one prediction, for the tags label and image.

        The bundle is the version of the model.
        """
        version = str(layer.metadata.get("bundle_sha256", "rsft"))[:12]
        results: dict[str, list[JsonObject]] = {name: [] for name in layer.boxes}
        for box in _boxes(layer):
            scene = layer.boxes[box.scene]
            start, width, height, rotation = _rectangle(box.corners)
            value = {
                "x": 100 * start[0] / scene.width,
                "y": 100 * start[1] / scene.height,
                "width": 100 * width / scene.width,
                "height": 100 * height / scene.height,
                "rotation": rotation,
            }
            rounded = {key: round(float(number), 9) for key, number in value.items()}
            results[box.scene].append(
                {
                    "id": box.chip,
                    "from_name": "label",
                    "to_name": "image",
                    "type": "rectanglelabels",
                    "image_rotation": 0,
                    "original_width": scene.width,
                    "original_height": scene.height,
                    "score": box.probability,
                    "value": {**rounded, "rectanglelabels": [box.label]},
                }
            )
        tasks = []
        for name, result in results.items():
            prediction = {"model_version": version, "result": result}
            tasks.append({"data": {"image": name}, "predictions": [prediction]})
        return tasks


class _Box(NamedTuple):
    """A classified box; its corners are x and y (4, 2)."""

    scene: str
    chip: str
    label: str
    probability: float
    corners: Floats


def _boxes(layer: PredictionLayer) -> Iterator[_Box]:
    """Yield the box of every prediction."""
    columns = [layer.table[name] for name in ("scene", "chip", "class", "probability")]
    for scene, chip, label, probability in zip(*columns, strict=True):
        corners = np.reshape(layer.boxes[scene].corners[chip], (4, 2))[:, ::-1]
        yield _Box(scene, chip, label, round(float(probability), 6), corners)


def _rectangle(corners: Floats) -> tuple[Floats, float, float, float]:
    """Return first corner, sides and rotation of a rectangle (4, 2).

    The rotation is clockwise, from 0 to 90 degrees.
    """
    (x1, y1), (x2, y2) = np.diff(corners[:3], axis=0)
    if x1 * y2 - y1 * x2 < 0:  # y points down, so this is counterclockwise
        corners = corners[::-1]
    edges = np.roll(corners, -1, axis=0) - corners
    angles = [round(math.degrees(math.atan2(y, x)), 9) for x, y in edges]
    first = next((number for number, angle in enumerate(angles) if 0 <= angle < 90), 0)
    width = float(np.linalg.norm(edges[first]))
    height = float(np.linalg.norm(edges[(first + 1) % 4]))
    return corners[first], width, height, angles[first] % 360


def _rounded(values: Any) -> list[float]:
    return [round(float(value), 3) for value in values]
