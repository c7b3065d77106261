"""Compare detected objects with the truth."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import shapely

from rsft.errors import DataError
from rsft.utils.operating_system import path_to_text

if TYPE_CHECKING:
    from rsft.scenes.raster import RasterScene

_TOLERANCE = (
    1 / 8
)  # largest distance of a detection from the outline of the object, as a share of the chip's side


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

    from rsft.scenes.locations import read_positions

    truth = read_positions(truth_path, scene)
    if truth.attributes is None or "class" not in truth.attributes:
        raise DataError(
            "the truth has no column class",
            truth_path,
            "give a vector layer or a CSV with the column class",
        )
    name = path_to_text(scene.path.name)
    if len(table):
        rows = table[table["class"].notna() & (table["scene"] == name)]
    else:
        rows = table
    shapes = [
        (
            shapely.Point(x.row, x.col)
            if x.box is None
            else shapely.MultiPoint(np.reshape(x.box, (4, 2))).convex_hull
        )
        for x in truth.locations
    ]
    points = shapely.points(
        rows[["row", "col"]].to_numpy(float) if len(rows) else np.empty((0, 2))
    )
    distances = np.asarray(
        shapely.distance(np.array(shapes, object)[:, None], points[None]), float
    )
    is_near = distances <= side * _TOLERANCE
    objects, detections = linear_sum_assignment(
        np.where(is_near, distances / max(side, 1), 1e6)
    )
    pairs = [(i, j) for i, j in zip(objects, detections, strict=True) if is_near[i, j]]
    class_of = truth.attributes["class"].astype(str).to_dict()
    classes = [class_of[location.source_row] for location in truth.locations]
    right = sum(classes[i] == rows["class"].iloc[j] for i, j in pairs)
    return TruthCheck(
        name, len(truth.locations), len(pairs), right, len(rows) - len(pairs)
    )
