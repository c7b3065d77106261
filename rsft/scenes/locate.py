"""Locate the objects or tiles of a query in a scene: the one way of all commands."""

from collections.abc import Callable
from functools import partial

from rsft.data.annotations.base import parse_columns
from rsft.scenes.locations import SceneLocations, tile_locations
from rsft.scenes.locators import LOCATORS, MIN_CONFIDENCE
from rsft.scenes.positions import read_positions
from rsft.scenes.query import Query
from rsft.scenes.raster import RasterScene
from rsft.types import Progress

Find = Callable[[], SceneLocations]
"""Returns the objects of a scene."""


def locate(
    scene: RasterScene,
    query: Query,
    detect: Find,
    scale: tuple[float, float] = (1.0, 1.0),
    min_confidence: float = MIN_CONFIDENCE,
    progress: Progress | None = None,
) -> SceneLocations:
    """Return the locations of a query in a scene.

    Args:
        scene: the scene.
        query: positions at a layer, a grid, or detected objects, and the locators that
            say of which class the objects are.
        detect: detects objects; called for a query with `detect`.
        scale: scene pixels per chip pixel, along columns and along rows.
        min_confidence: objects of a locator with a smaller confidence are not matched.
        progress: called while a locator reads its source.

    Raises:
        NothingInSceneError: a locator has nothing in the scene.
        RequestError: a file of the query cannot be used.
        DataError: the scene cannot be read, or the file has other images.
    """
    if query.grid:
        down, along = scale
        stride = query.stride or query.grid
        size = query.grid * down, query.grid * along
        return tile_locations(scene, size, (stride * down, stride * along))
    find: Find = detect
    if query.at:
        columns = parse_columns(query.columns)
        find = partial(read_positions, query.at, scene, query.crs, query.layer, columns)
    for name, source in query.sources.items():
        find = partial(
            LOCATORS[name]().locate, scene, source, find, min_confidence, progress
        )
    return find()
