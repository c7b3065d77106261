"""The locations of chips in a scene: of objects, or of tiles that cover it."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from rsft.data.annotations.base import AT
from rsft.scenes.georeference import rectangle_corners
from rsft.scenes.raster import RasterScene
from rsft.types import Box, Rejection

NUDGE = 1e-3
"""Pixels; larger than the rounding error of a conversion to degrees and back."""


class Location(NamedTuple):
    """A location in a scene, in pixels.

    (0, 0) is the upper left corner of the first pixel.

    Attributes:
        row: row of the center.
        col: column of the center.
        box: corners r1 c1 ... r4 c4 of the rectangle around the object, which may be
            rotated; None for a point.
        name: name of the chip, unique in the scene.
        source_row: number of the position in its file, which is unique there: feature
            id, annotation id or line if these are unique whole numbers, else the row
            from 1; None if the location does not come from a file.
        score: score of the detector; None without a score.
        extent: top, left, bottom and right of the annotated corners; None takes those
            of the box.
    """

    row: float
    col: float
    box: Box | None
    name: str
    source_row: int | None = None
    score: float | None = None
    extent: tuple[float, float, float, float] | None = None

    def is_inside(self, scene: RasterScene) -> bool:
        """Return whether the center lies in a scene."""
        return 0 <= self.row < scene.height and 0 <= self.col < scene.width


@dataclass
class SceneLocations:
    """The locations in a scene.

    Attributes:
        locations: the locations.
        rejected: rows of the file that cannot be used.
        notes: remarks for the reader.
        attributes: identity (column `at`) and attributes of the locations of a file,
            indexed by `source_row`; None for locations that do not come from a file.
        outside: `source_row` of the positions outside of the scene, which are not among
            the locations.
        are_boxes: whether the locations have boxes.
        file: the file of the positions.
        crs: coordinate system of the file; "" for locations that do not come from a
            file.
        skipped: number of objects and rows that were left out on purpose, by reason.
        outside_note: the note on `outside`, which is one of `notes`.
    """

    locations: list[Location] = field(default_factory=list)
    rejected: list[Rejection] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    attributes: pd.DataFrame | None = None
    outside: list[int | None] = field(default_factory=list)
    are_boxes: bool = False
    file: Path = Path()
    crs: str = ""
    skipped: Counter[str] = field(default_factory=Counter)
    outside_note: str = ""

    def add_attributes(self, columns: pd.DataFrame) -> None:
        """Add columns with one row per location, in the order of the locations."""
        if self.attributes is None:
            missing = pd.Series([None] * len(columns), dtype="Int64")
            self.attributes = pd.DataFrame({AT: missing})
        columns = columns.set_axis(self.attributes.index)
        self.attributes = pd.concat([self.attributes, columns], axis=1)


def tile_locations(
    scene: RasterScene, size: tuple[float, float], stride: tuple[float, float]
) -> SceneLocations:
    """Cover a scene with tiles.

    The last tile of a row or column is moved back so that it ends at the edge.

    Args:
        scene: the scene.
        size: height and width of a tile in pixels of the scene.
        stride: step between tiles, along columns and along rows, in pixels of the
            scene.

    Returns:
        The centers of the tiles, with the tiles as boxes.
    """
    height, width = size
    locations = []
    for top in _starts(scene.height - height, stride[0]):
        for left in _starts(scene.width - width, stride[1]):
            corners = rectangle_corners(top, left, top + height, left + width)
            box = tuple(corners.ravel().tolist())
            name = f"{scene.name}_r{round(top):05d}_c{round(left):05d}"
            locations.append(Location(top + height / 2, left + width / 2, box, name))
    return SceneLocations(locations, are_boxes=True)


def _starts(last: float, step: float) -> list[float]:
    """Return where tiles begin along one side of a scene."""
    last = max(0.0, last)
    return [*np.arange(0, last, step).tolist(), last]
