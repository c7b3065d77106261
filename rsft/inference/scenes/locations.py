"""Where in a scene to look: places in pixels, given, tiled or detected."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import shapely

from rsft.inference.scenes.raster import Scene
from rsft.types import Floats


@dataclass(frozen=True)
class Place:
    """A place in a scene, in GDAL's pixel coordinates: (0, 0) is the corner of the first pixel, not its middle.

    Attributes:
        row, col: its middle.
        box: the corners r1 c1 ... r4 c4 of the rectangle, turned or not, that holds the object; None for a point.
        name: what the chip is to be called, unique in its scene.
        at: the row of the file of positions that it comes from, from 1; None where it comes from no file.
        score: what the detector says of it; None where it says nothing.
    """

    row: float
    col: float
    box: tuple[float, ...] | None
    name: str
    at: int | None = None
    score: float | None = None


@dataclass
class Places:
    """What was found: the places, the rows that are none (file, line, reason), and notes for the reader."""

    places: list[Place] = field(default_factory=list)
    rejected: list[tuple[str, int, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def box_of(corners: Floats) -> tuple[float, ...]:
    """The smallest rectangle, turned as it may be, around points (K, 2): r1 c1 ... r4 c4."""
    around = shapely.minimum_rotated_rectangle(shapely.MultiPoint(corners))
    if around.geom_type != "Polygon":  # on a line
        low, high = corners.min(0), corners.max(0)
        around = shapely.box(*low, *high)
    return tuple(np.asarray(around.exterior.coords)[:4].ravel().tolist())


def in_scene(places: Places, scene: Scene) -> Places:
    """Those whose middle lies in the scene; the others are counted: a layer of positions covers more than one scene."""
    inside = [place for place in places.places if 0 <= place.row < scene.height and 0 <= place.col < scene.width]
    outside = len(places.places) - len(inside)
    notes = [f"positions outside of {scene.path.name}: {outside:,} of {len(places.places):,}"] if outside else []
    return Places(inside, places.rejected, places.notes + notes)


def tiles(scene: Scene, side: tuple[float, float], stride: tuple[float, float]) -> Places:
    """Tiles from edge to edge: the last of a row or column is moved back, so that all are whole where the scene is.

    Args:
        side, stride: down and along, in pixels of the scene.
    """
    tops, lefts = (
        _starts(length, *sizes)
        for length, sizes in zip((scene.height, scene.width), zip(side, stride, strict=True), strict=True)
    )
    places = [
        Place(
            row=top + side[0] / 2,
            col=left + side[1] / 2,
            box=(top, left, top + side[0], left, top + side[0], left + side[1], top, left + side[1]),
            name=f"{scene.name}_r{round(top):05d}_c{round(left):05d}",
        )
        for top in tops
        for left in lefts
    ]
    return Places(places)


def _starts(length: int, side: float, stride: float) -> list[float]:
    last = max(0.0, length - side)
    starts = np.arange(0, last, stride).tolist()
    return [*starts, last]
