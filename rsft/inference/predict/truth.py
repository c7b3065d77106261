"""Compare detected and classified objects of a scene with the truth: how many were found, and how many are right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import shapely

from rsft.errors import DataError
from rsft.inference.inputs.chip_source import path_to_text
from rsft.inference.scenes.locations import Location, SceneLocations
from rsft.inference.scenes.position_files import read_positions
from rsft.inference.scenes.raster import RasterScene
from rsft.types import Floats

_COLUMN = "class"
_TOLERANCE = 1 / 8  # largest distance of a detection from the outline of the object, as a share of the chip's side


@dataclass(frozen=True)
class TruthCheck:
    """Objects of a scene beside the truth.

    Attributes:
        scene: name of the scene.
        objects: number of objects in the truth.
        found: number of them that were detected.
        right: number of found objects with the right class.
        other: number of classified objects that are not in the truth.
    """

    scene: str
    objects: int
    found: int
    right: int
    other: int

    def __str__(self) -> str:
        return f"{self.scene}: {', '.join(self.caption())}"

    def caption(self) -> list[str]:
        """Return the numbers as short lines."""
        return [
            f"{self.found:,} of {self.objects:,} true objects found",
            f"{self.right:,} of them have the right class",
            f"{self.other:,} other objects",
        ]

    def as_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)


def read_truth(path: Path, scene: RasterScene) -> SceneLocations:
    """Read the objects of a scene with their classes.

    Args:
        path: a file of positions, see `read_positions`, with the column `class`.
        scene: the scene.

    Returns:
        The objects in the scene.

    Raises:
        RequestError: see `read_positions`.
        DataError: the file has no column `class`.
    """
    locations = read_positions(path, scene)
    if locations.attributes is None or _COLUMN not in locations.attributes:
        hint = f"give a vector layer or a CSV with the column {_COLUMN}"
        raise DataError(f"the truth has no column {_COLUMN}", path, hint)
    return locations


def check_truth(table: pd.DataFrame, scene: RasterScene, truth: SceneLocations, side: float) -> TruthCheck:
    """Compare the classified objects of a scene with the truth.

    Each object of the truth is assigned to at most one detection, so that as many as possible are assigned. Its center
    lies in the outline of the object, or at most an eighth of a chip's side beside it.

    Args:
        table: predictions with `scene`, `row`, `col` and `class`.
        scene: the scene.
        truth: from `read_truth`.
        side: side of a chip in pixels of the scene.

    Returns:
        The numbers of objects.
    """
    from scipy.optimize import linear_sum_assignment

    assert truth.attributes is not None
    name = path_to_text(scene.path.name)
    rows = table[table["class"].notna() & (table["scene"] == name)] if len(table) else table
    points = rows[["row", "col"]].to_numpy(float) if len(rows) else np.empty((0, 2))
    distances = _distances(truth.locations, points)
    is_near = distances <= side * _TOLERANCE
    objects, detections = linear_sum_assignment(np.where(is_near, distances / max(side, 1), 1e6))
    pairs = [(i, j) for i, j in zip(objects, detections, strict=True) if is_near[i, j]]
    class_of = truth.attributes[_COLUMN].astype(str).to_dict()
    classes = [class_of[location.source_row] for location in truth.locations]
    right = sum(classes[i] == rows["class"].iloc[j] for i, j in pairs)
    return TruthCheck(name, len(truth.locations), len(pairs), right, len(rows) - len(pairs))


def _distances(locations: Sequence[Location], points: Floats) -> Floats:
    """Return the distances (N, M) of M points from the boxes or points of N locations in pixels; 0 in a box."""
    shapes = [
        shapely.Point(x.row, x.col) if x.box is None else shapely.MultiPoint(np.reshape(x.box, (4, 2))).convex_hull
        for x in locations
    ]
    return np.asarray(shapely.distance(np.array(shapes, object)[:, None], shapely.points(points)[None]), float)
