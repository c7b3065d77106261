"""Compare detected objects with the truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import shapely

from rsft.data.annotations.columns import normalize_label
from rsft.errors import DataError
from rsft.types import Floats
from rsft.utils.operating_system import path_to_text

if TYPE_CHECKING:
    from rsft.scenes.locations import Location
    from rsft.scenes.raster import RasterScene

_TOLERANCE = 1 / 8
"""Largest distance of a detection from the outline of an object, as a share of the
side of a chip."""


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


def check_truth(
    table: pd.DataFrame, scene: RasterScene, truth_path: Path, side: float
) -> TruthCheck:
    """Compare the classified objects of a scene with the truth.

    Each object of the truth is assigned to at most one detection, so that as many as
    possible are assigned. Its center lies in the outline of the object, or at most an
    eighth of a chip's side beside it.

    Args:
        table: predictions with `scene`, `row`, `col` and `class`.
        scene: the scene.
        truth_path: a file of positions, see `read_positions`, with the column `class`.
        side: side of a chip in pixels of the scene.

    Returns:
        The numbers of objects.

    Raises:
        RequestError: see `read_positions`.
        DataError: the file has no column `class`.
    """
    from scipy.optimize import linear_sum_assignment

    from rsft.scenes.positions import read_positions

    truth = read_positions(truth_path, scene)
    if truth.attributes is None or "class" not in truth.attributes:
        raise DataError(
            "the truth has no column class",
            truth_path,
            "give a vector layer or a CSV with the column class",
        )
    name = path_to_text(scene.path.name)
    rows = table
    if len(table):
        rows = table[table["class"].notna() & (table["scene"] == name)]
    distances = _distances(truth.locations, rows)
    is_near = distances <= side * _TOLERANCE
    costs = np.where(is_near, distances / max(side, 1), 1e6)
    pairs = [
        (number, row)
        for number, row in zip(*linear_sum_assignment(costs), strict=True)
        if is_near[number, row]
    ]
    class_of = truth.attributes["class"].astype(str).to_dict()
    right = 0
    for number, row in pairs:
        true_class = normalize_label(class_of[truth.locations[number].source_row])
        right += int(true_class == normalize_label(rows["class"].iloc[row]))
    return TruthCheck(
        name, len(truth.locations), len(pairs), right, len(rows) - len(pairs)
    )


def _distances(locations: Sequence[Location], rows: pd.DataFrame) -> Floats:
    """Return the distance in pixels of each of N true objects to M detections (N, M).

    It is 0 for a detection within the outline of the object.
    """
    shapes = []
    for location in locations:
        shape = shapely.Point(location.row, location.col)
        if location.box is not None:
            corners = np.reshape(location.box, (4, 2))
            shape = shapely.MultiPoint(corners).convex_hull
        shapes.append(shape)
    centers = np.empty((0, 2))
    if len(rows):
        centers = rows[["row", "col"]].to_numpy(float)
    outlines = np.array(shapes, object)[:, None]
    return np.asarray(shapely.distance(outlines, shapely.points(centers)), float)
