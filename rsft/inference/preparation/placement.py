"""Where chips are cut: their size, and places without objects."""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np

from rsft.data.imagery.chip_spec import SPACING_TOLERANCE
from rsft.errors import RequestError
from rsft.scenes.chip_size import MAX_CHIP_SIDE
from rsft.scenes.georeference import rectangle_corners
from rsft.scenes.locations import ChipWindow, Location
from rsft.scenes.raster import PixelWindow, RasterScene
from rsft.scenes.reader import SceneReader
from rsft.types import Pixels

_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)(m?)")
_POINT_SIDE = 64  # pixels
_SIDES = (32, 512)  # smallest and largest side that is chosen for boxes, in pixels
_ATTEMPTS = 50  # for each background chip


@dataclass(frozen=True)
class ChipSize:
    """The size of chips: a side in pixels or meters, or a margin around boxes; without both, the boxes decide."""

    pixels: int | None = None
    meters: float | None = None
    margin: int | None = None

    @classmethod
    def parse(cls, text: str | None, margin: int | None) -> ChipSize:
        """Return the size of the options --chip-size and --margin.

        Raises:
            RequestError: both are given, or the text is no size.

        Example:
            >>> ChipSize.parse("640m", None)
            ChipSize(pixels=None, meters=640.0, margin=None)
        """
        if text is None:
            return cls(margin=margin)
        if margin is not None:
            raise RequestError(
                "--chip-size and --margin exclude each other",
                "--margin",
                "give one of them",
            )
        match = _SIZE.fullmatch(text.strip())
        if (
            match is None
            or not float(match[1])
            or (not match[2] and not match[1].isdigit())
        ):
            raise RequestError(
                f"{text!r} is no size",
                "--chip-size",
                "give pixels, such as 64, or meters, such as 640m",
            )
        if match[2]:
            return cls(meters=float(match[1]))
        return cls(pixels=int(match[1]))

    def fit(self, locations: Sequence[Location]) -> ChipSize:
        """Return this size; without one, a side that shows 95 % of the boxes with a third of the chip around them."""
        if (self.pixels, self.meters, self.margin) != (None, None, None):
            return self
        boxes = [
            np.reshape(location.box, (4, 2))
            for location in locations
            if location.box is not None
        ]
        if not boxes:
            return ChipSize(pixels=_POINT_SIDE)
        sides = sorted(float(np.ptp(box, axis=0).max()) for box in boxes)
        side = 16 * math.ceil(1.5 * sides[int(0.95 * (len(sides) - 1))] / 16)
        return ChipSize(pixels=min(max(side, _SIDES[0]), _SIDES[1]))

    def window(
        self, scene: RasterScene, spacing: float | None, has_points: bool
    ) -> ChipWindow:
        """Return the window of the chips of a scene.

        Args:
            scene: the scene.
            spacing: pixel spacing in meters, if the scene has no georeference.
            has_points: whether some of its labels are points.

        Returns:
            The window, without resampling.

        Raises:
            RequestError: a size in meters without a pixel spacing, a margin around
                points, or a chip that is too large.
        """
        if self.margin is not None and has_points:
            raise RequestError(
                "--margin needs boxes, but some labels are points",
                "--margin",
                "give --chip-size",
            )
        side = self.pixels
        if self.meters is not None:
            meters = spacing_of(scene, spacing)
            if meters is None:
                raise RequestError(
                    "the pixel spacing of the scene is not known",
                    scene.path,
                    "give --chip-size in pixels, or --spacing",
                )
            side = max(1, round(self.meters / math.sqrt(meters[0] * meters[1])))
        if side is not None and side > MAX_CHIP_SIDE:
            raise RequestError(
                f"chips of {side:,} pixels",
                "--chip-size",
                f"give {MAX_CHIP_SIDE} pixels or less",
            )
        return ChipWindow(
            side, self.margin or 0, (1.0, 1.0), (scene.height, scene.width)
        )


def spacing_of(scene: RasterScene, spacing: float | None) -> tuple[float, float] | None:
    """Return the pixel spacing of a scene in meters along columns and rows; without one, the declared one or None."""
    return scene.spacing or (None if spacing is None else (spacing, spacing))


def common_spacing_of(scene: RasterScene, spacing: float | None) -> float | None:
    """Return the mean pixel spacing; None if it is unknown, or so uneven that a model of it would refuse the scene."""
    meters = spacing_of(scene, spacing)
    mean = None if meters is None else sum(meters) / 2
    is_square = mean is not None and all(
        abs(side / mean - 1) <= SPACING_TOLERANCE for side in meters or ()
    )
    if is_square:
        return mean
    return None


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
    places = list[Location]()
    with closing(SceneReader(scene)) as reader:
        for _ in range(count * _ATTEMPTS):
            if len(places) == count:
                break
            area = _random_area(rng, taken[rng.integers(len(objects))], scene)
            if (
                area is not None
                and not any(_overlap(area, other) for other in taken)
                and _has_content(reader(area))
            ):
                taken.append(area)
                places.append(
                    _place_in(
                        area, window, f"{scene.name}_background_{len(places):04d}"
                    )
                )
    return places


def _random_area(
    rng: np.random.Generator, size: PixelWindow, scene: RasterScene
) -> PixelWindow | None:
    """Return a window of the size of another one at a random place in a scene; None if the scene is smaller."""
    height = size.bottom - size.top
    width = size.right - size.left
    if height > scene.height or width > scene.width:
        return None
    top = int(rng.integers(scene.height - height + 1))
    left = int(rng.integers(scene.width - width + 1))
    return PixelWindow(top, left, top + height, left + width)


def _overlap(first: PixelWindow, second: PixelWindow) -> bool:
    rows = first.top < second.bottom and second.top < first.bottom
    return rows and first.left < second.right and second.left < first.right


def _has_content(pixels: Pixels) -> bool:
    is_complete = pixels.dtype.kind != "f" or not np.isnan(pixels).any()
    return is_complete and bool(pixels.min() < pixels.max())


def _place_in(area: PixelWindow, window: ChipWindow, name: str) -> Location:
    """Return the location of which a window gives this area."""
    top, left, bottom, right = area
    margin = window.margin if window.side is None else 0
    extent = (
        top + margin,
        left + margin,
        max(bottom - margin, top + margin + 1),
        max(right - margin, left + margin + 1),
    )
    box = tuple(rectangle_corners(*extent).ravel().tolist())
    return Location(
        top + (bottom - top) // 2, left + (right - left) // 2, box, name, extent=extent
    )
