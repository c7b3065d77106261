"""Draw places of a scene that show no object, for chips of the background."""

import zlib
from collections.abc import Sequence
from contextlib import closing

import numpy as np

from rsft.scenes.georeference import rectangle_corners
from rsft.scenes.locations import Location
from rsft.scenes.raster import PixelWindow, RasterScene
from rsft.scenes.reader import SceneReader
from rsft.scenes.windows import ChipWindow
from rsft.types import Pixels, Size

_ATTEMPTS = 50  # for each place


def draw_background(
    scene: RasterScene,
    window: ChipWindow,
    objects: Sequence[Location],
    count: int,
    seed: int,
) -> list[Location]:
    """Draw places whose chips have data everywhere, show no object, and do not overlap.

    Args:
        scene: the scene.
        window: size of the chips; with a margin, places are as large as objects.
        objects: the objects of the scene; at least one.
        count: number of places.
        seed: seed of the draw.

    Returns:
        At most `count` places with a box; fewer if there is no room.
    """
    rng = np.random.default_rng((seed, zlib.crc32(scene.name.encode())))
    taken = [window.window_at(location) for location in objects]
    places: list[Location] = []
    with closing(SceneReader(scene)) as reader:
        for _ in range(count * _ATTEMPTS):
            if len(places) == count:
                break
            area = _random_area(rng, taken[rng.integers(len(objects))].size, scene)
            if not area or any(area.overlaps(other) for other in taken):
                continue
            if _has_content(reader(area)):
                taken.append(area)
                name = f"{scene.name}_background_{len(places):04d}"
                places.append(_place_in(area, window, name))
    return places


def _random_area(
    rng: np.random.Generator, size: Size, scene: RasterScene
) -> PixelWindow | None:
    """Return a window of a size at a random place; None if the scene is smaller."""
    height, width = size
    if height > scene.height or width > scene.width:
        return None
    top = int(rng.integers(scene.height - height + 1))
    left = int(rng.integers(scene.width - width + 1))
    return PixelWindow(top, left, top + height, left + width)


def _has_content(pixels: Pixels) -> bool:
    is_complete = pixels.dtype.kind != "f" or not np.isnan(pixels).any()
    return is_complete and bool(pixels.min() < pixels.max())


def _place_in(area: PixelWindow, window: ChipWindow, name: str) -> Location:
    """Return the location of which a window gives this area."""
    height, width = area.size
    top = area.top + window.margin
    left = area.left + window.margin
    bottom = max(area.bottom - window.margin, top + 1)
    right = max(area.right - window.margin, left + 1)
    return Location(
        area.top + height // 2,
        area.left + width // 2,
        tuple(rectangle_corners(top, left, bottom, right).ravel().tolist()),
        name,
        extent=(top, left, bottom, right),
    )
