"""Locations in a scene in pixels. They come from a file, a grid of tiles or a detector."""

from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
import shapely

from rsft.inference.scenes.raster import RasterScene
from rsft.types import Floats, Rejection


@dataclass(frozen=True)
class Location:
    """A location in a scene in pixel coordinates; (0, 0) is the upper left corner of the first pixel.

    Attributes:
        row: row of the center.
        col: column of the center.
        box: corners r1 c1 ... r4 c4 of the rectangle around the object, which may be rotated; None for a point.
        name: name of the chip, unique in the scene.
        source_row: number of the position in its file, which is unique there: feature id, annotation id or line if
            these are unique whole numbers, else the row from 1; None if the location does not come from a file.
        score: score of the detector; None without a score.
    """

    row: float
    col: float
    box: tuple[float, ...] | None
    name: str
    source_row: int | None = None
    score: float | None = None


@dataclass
class SceneLocations:
    """The locations in a scene.

    Attributes:
        locations: the locations.
        rejected: rows of the file that cannot be used.
        notes: remarks for the reader.
        attributes: identity (column `at`) and attributes of the locations of a file, indexed by `source_row`; None for
            locations that do not come from a file.
        outside: number of positions outside of the scene, which are not among the locations.
        are_boxes: whether the locations have boxes.
    """

    locations: list[Location] = field(default_factory=list)
    rejected: list[Rejection] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    attributes: pd.DataFrame | None = None
    outside: int = 0
    are_boxes: bool = False


def min_area_box(corners: Floats) -> tuple[float, ...]:
    """Return the smallest rectangle around points, which may be rotated.

    Args:
        corners: (K, 2), row and column.

    Returns:
        The corners r1 c1 ... r4 c4.
    """
    box = shapely.minimum_rotated_rectangle(shapely.MultiPoint(corners))
    if box.geom_type != "Polygon":  # all points lie on a line
        low, high = corners.min(0), corners.max(0)
        box = shapely.box(*low, *high)
    return tuple(np.asarray(box.exterior.coords)[:4].ravel().tolist())


def filter_inside_scene(locations: SceneLocations, scene: RasterScene) -> SceneLocations:
    """Remove locations with their center outside of the scene, and count them in a note.

    They are not an error, because one file of positions may cover several scenes.

    Returns:
        The locations in the scene.
    """
    inside = [location for location in locations.locations if is_inside(location, scene)]
    total = len(locations.locations)
    outside = total - len(inside)
    notes = [f"positions outside of {scene.path.name}: {outside:,} of {total:,}"] if outside else []
    if outside and not inside:
        notes[0] += "; check the coordinate system of their file"
    attributes = locations.attributes
    if attributes is not None:
        attributes = attributes.loc[[x.source_row for x in inside]]
    return replace(locations, locations=inside, notes=locations.notes + notes, attributes=attributes, outside=outside)


def is_inside(location: Location, scene: RasterScene) -> bool:
    """Return whether the center of a location lies in a scene."""
    return 0 <= location.row < scene.height and 0 <= location.col < scene.width


def tile_locations(scene: RasterScene, size: tuple[float, float], stride: tuple[float, float]) -> SceneLocations:
    """Cover a scene with tiles. The last tile of a row or column is moved back so that it ends at the edge.

    Args:
        scene: the scene.
        size: height and width of a tile in pixels of the scene.
        stride: step between tiles, along columns and along rows, in pixels of the scene.

    Returns:
        The centers of the tiles, with the tiles as boxes.
    """
    tops, lefts = (
        [*np.arange(0, last, step).tolist(), last]
        for last, step in zip((max(0.0, scene.height - size[0]), max(0.0, scene.width - size[1])), stride, strict=True)
    )
    height, width = size
    locations = [
        Location(
            row=top + height / 2,
            col=left + width / 2,
            box=(top, left, top + height, left, top + height, left + width, top, left + width),
            name=f"{scene.name}_r{round(top):05d}_c{round(left):05d}",
        )
        for top in tops
        for left in lefts
    ]
    return SceneLocations(locations, are_boxes=True)
