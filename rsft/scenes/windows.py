"""The window of a scene that a chip is cut from, and the chip."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from rsft.data.imagery.chip_spec import ChipSpec
from rsft.errors import DataError, RequestError
from rsft.scenes.chip_size import (
    MAX_CHIP_SIDE,
    resampling_factors,
    resize_chip,
    resolve_spacing,
)
from rsft.scenes.locations import NUDGE, Location
from rsft.scenes.options import ChipOptions, ChipSize
from rsft.scenes.raster import PixelWindow, RasterScene
from rsft.scenes.reader import SceneReader
from rsft.types import Pixels, Size

MAX_CHIP_VALUES = 2**28
"""Largest number of values of a window: pixels times bands, 1 GiB as float32."""

_POINT_SIDE = 64  # pixels
_SIDES = (32, 512)  # smallest and largest side that is chosen for boxes, in pixels


@dataclass(frozen=True)
class ChipWindow:
    """The window of a scene that a chip is cut from.

    A network sees objects at the scale of its training chips.

    Attributes:
        side: size of a chip in chip pixels; None if each chip is as large as its box
            and the margin.
        margin: number of chip pixels around a box.
        scale: scene pixels per chip pixel, along columns and along rows; 1 without
            resampling.
        limits: height and width of the scene, to which a chip along a box is clipped;
            None does not clip it.
    """

    side: int | None
    margin: int = 0
    scale: tuple[float, float] = (1.0, 1.0)
    limits: Size | None = None

    def chip_size(self, location: Location) -> Size:
        """Return height and width of a chip in chip pixels."""
        if self.side is not None:
            return self.side, self.side
        height, width = self.window_at(location).size
        down, along = self.scale
        return max(1, round(height / down)), max(1, round(width / along))

    def window_at(self, location: Location) -> PixelWindow:
        """Return the window of the scene for a chip, in whole pixels.

        It lies around the box, or has the location in the middle. Then it may extend
        beyond the edge of the scene.
        """
        if self.side is None:
            return self._window_around(location)
        height = max(1, round(self.side * self.scale[0]))
        width = max(1, round(self.side * self.scale[1]))
        top = math.floor(location.row + NUDGE) - height // 2
        left = math.floor(location.col + NUDGE) - width // 2
        return PixelWindow(top, left, top + height, left + width)

    def _window_around(self, location: Location) -> PixelWindow:
        """Return the window around a box; fractions of pixels are rounded outwards."""
        assert location.box is not None
        corners = np.array(location.extent or location.box).reshape(-1, 2)
        margin = self.margin * np.array(self.scale)
        first = np.floor(corners.min(axis=0) - margin + NUDGE)
        last = np.maximum(np.ceil(corners.max(axis=0) + margin - NUDGE), first + 1)
        if self.limits:
            first = np.clip(first, 0, np.subtract(self.limits, 1))
            last = np.clip(last, 1, self.limits)
        return PixelWindow(*(int(value) for value in (*first, *last)))

    def find_fault(self, location: Location, bands: int) -> str:
        """Return the limit that a chip with this number of bands exceeds, or ""."""
        sizes = self.chip_size(location), self.window_at(location).size
        height, width = max(sizes, key=math.prod)
        is_long = max(max(size) for size in sizes) > MAX_CHIP_SIDE
        if not is_long and bands * height * width <= MAX_CHIP_VALUES:
            return ""
        return (
            f"the chip has {height:,} x {width:,} pixels in {bands} bands; the limit is"
            f" {MAX_CHIP_SIDE:,} pixels a side and {MAX_CHIP_VALUES:,} values"
        )


def make_window(
    scene: RasterScene, options: ChipOptions, spec: ChipSpec | None = None
) -> ChipWindow:
    """Decide how large the chips of a scene are.

    Args:
        scene: the scene.
        options: the user's options.
        spec: what a chip must be, which gives the default size; None takes any chip.

    Returns:
        The window, with the scale of the pixels.

    Raises:
        RequestError: the size is unknown, too large, or smaller than the crop.
        DataError: the pixel spacing is not that of the specification.
    """
    size = options.size or default_size(spec)
    spacing = resolve_spacing(scene.spacing, options)
    scale = (1.0, 1.0)
    if spec:
        try:
            scale = resampling_factors(spec, spacing, options)
        except DataError as error:
            raise DataError(error.message, scene.path, error.hint) from error
    side = size.pixels
    if size.meters:
        if not spacing:
            raise RequestError(
                "the pixel spacing of the scene is not known",
                scene.path,
                "give --size in pixels, or --spacing",
            )
        area = math.prod(spacing) * math.prod(scale)
        side = max(1, round(size.meters / math.sqrt(area)))
    crop = None if spec is None else spec.crop
    if side and crop and side < crop:
        raise RequestError(
            f"chips of {side} pixels are too small: the model takes {crop} pixels",
            "--size",
            f"give --size {crop}, or more",
        )
    largest = max(side or 0, size.margin or 0)
    if largest > MAX_CHIP_SIDE:
        raise RequestError(
            f"{largest:,} pixels are too many: a chip has at most {MAX_CHIP_SIDE:,} x"
            f" {MAX_CHIP_SIDE:,}",
            "--size or --grid",
            f"give {MAX_CHIP_SIDE} or less",
        )
    return ChipWindow(side, size.margin or 0, scale, scene.size)


def default_size(spec: ChipSpec | None) -> ChipSize:
    """Return the size of chips that a specification needs.

    Raises:
        RequestError: it takes chips of any size.
    """
    side = None if spec is None else spec.crop or spec.side
    if side is None:
        raise RequestError(
            "the model was trained on whole chips of no fixed size, so the size of a"
            " chip is not known",
            "--size",
            "give the chip size in pixels: --size 64, or --size box to cut along boxes",
        )
    return ChipSize(side)


def fit_size(locations: Iterable[Location]) -> ChipSize:
    """Return a size that shows 95 % of the boxes with a third of the chip around."""
    boxes = [location.box for location in locations if location.box]
    if not boxes:
        return ChipSize(_POINT_SIDE)
    sides = np.ptp(np.reshape(boxes, (-1, 4, 2)), axis=1).max(axis=1)
    side = 16 * math.ceil(1.5 * np.quantile(sides, 0.95, method="lower") / 16)
    return ChipSize(min(max(side, _SIDES[0]), _SIDES[1]))


def check_boxes(window: ChipWindow, locations: Iterable[Location]) -> None:
    """Raise an error if chips are cut along boxes, but some objects are points."""
    if window.side is None and not all(location.box for location in locations):
        raise RequestError(
            "--size box needs boxes, but some positions are points",
            "--size",
            "give --size in pixels",
        )


class CutChip(NamedTuple):
    """A chip that was cut from a scene.

    Attributes:
        pixels: the chip (H, W, B).
        clipped: number of values that the calibration raised to its smallest value.
    """

    pixels: Pixels
    clipped: int


def cut_chip(reader: SceneReader, window: ChipWindow, location: Location) -> CutChip:
    """Cut a chip from a scene: the one way, for training and for prediction.

    Args:
        reader: reads the scene.
        window: size of the chip.
        location: its center or box.

    Returns:
        The chip, resized to the size that the window gives it.

    Raises:
        DataError: the chip is too large, or the scene cannot be read.
    """
    fault = window.find_fault(location, reader.scene.count)
    if fault:
        raise DataError(
            fault,
            reader.scene.path,
            "leave out this position, or give a smaller --size",
        )
    pixels, clipped = reader.read(window.window_at(location))
    chip = resize_chip(pixels, window.chip_size(location))
    return CutChip(chip, clipped)
