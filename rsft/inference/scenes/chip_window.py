"""Compute the window of a chip around a location, so that a network sees objects at the scale of its training chips."""

import math
from dataclasses import dataclass

import numpy as np

from rsft.data.imagery.contract import Contract, resize_image
from rsft.errors import DataError, RequestError
from rsft.inference.options import ChipOptions
from rsft.inference.scenes.locations import Location
from rsft.inference.scenes.raster import PixelWindow, RasterScene
from rsft.types import Pixels

MAX_CHIP_SIDE = 8192
"""Largest side of a chip in pixels, and of its window in the scene. A larger image is a scene, which is never read as a
whole."""
MAX_CHIP_VALUES = 2**28
"""Largest number of values of a window: pixels times bands, 1 GiB as float32."""

_NUDGE = 1e-3  # pixels; larger than the rounding error of a conversion to degrees and back


@dataclass(frozen=True)
class ChipWindow:
    """The window of a scene that a chip is cut from.

    Attributes:
        side: size of a chip in chip pixels; None if each chip is as large as its box and the margin.
        margin: number of chip pixels around a box.
        scale: scene pixels per chip pixel, along columns and along rows; 1 without resampling.
    """

    side: int | None
    margin: int
    scale: tuple[float, float]

    def chip_size(self, location: Location) -> tuple[int, int]:
        """Return height and width of a chip in chip pixels.

        Returns:
            Height and width.
        """
        if self.side is not None:
            return self.side, self.side
        assert location.box is not None
        height, width = np.ptp(np.reshape(location.box, (4, 2)), axis=0) / self.scale
        return max(1, round(height) + 2 * self.margin), max(1, round(width) + 2 * self.margin)

    def window_at(self, location: Location) -> PixelWindow:
        """Return the window of the scene for a chip.

        Returns:
            The window, which may extend beyond the edge of the scene.
        """
        height, width = self._window_size(location)
        top = math.floor(location.row + _NUDGE) - height // 2
        left = math.floor(location.col + _NUDGE) - width // 2
        return PixelWindow(top, left, top + height, left + width)

    def find_fault(self, location: Location, bands: int) -> str:
        """Return why a chip cannot be read, or "" if it can.

        Args:
            location: the location of the chip.
            bands: number of bands of the scene.

        Returns:
            A sentence with the limit that the chip exceeds.
        """
        chip, window = self.chip_size(location), self._window_size(location)
        if max(*chip, *window) > MAX_CHIP_SIDE:
            height, width = max(chip, window)
            return f"the chip has {height:,} x {width:,} pixels; the limit is {MAX_CHIP_SIDE:,} pixels a side"
        if bands * max(chip[0] * chip[1], window[0] * window[1]) > MAX_CHIP_VALUES:
            return f"the chip has more than {MAX_CHIP_VALUES:,} values in {bands} bands"
        return ""

    def _window_size(self, location: Location) -> tuple[int, int]:
        """Return height and width of the window in the scene."""
        height, width = (
            max(1, round(x * scale)) for x, scale in zip(self.chip_size(location), self.scale, strict=True)
        )
        return height, width

    def resample(self, pixels: Pixels, location: Location) -> Pixels:
        """Resample the pixels of a window to the size of the chip.

        Args:
            pixels: (h, w, B), the pixels of `window_at`.
            location: the location of the chip.

        Returns:
            Pixels (H, W, B).
        """
        return resize_chip(pixels, self.chip_size(location))


def make_chip_window(contract: Contract, scene: RasterScene, options: ChipOptions, has_points: bool) -> ChipWindow:
    """Decide how large the chips of a scene are. The default size is the contract's crop.

    Args:
        contract: size and pixel spacing of the training chips.
        scene: the scene.
        options: the user's options.
        has_points: whether any location is a point without a box.

    Returns:
        The window.

    Raises:
        RequestError: the size is unknown or smaller than the crop, or a point has a margin.
        DataError: the pixel spacing differs from that of the training chips.
    """
    side = None if options.margin is not None else options.side or contract.crop
    if options.margin is not None and has_points:
        message = "--margin needs boxes, but some positions are points"
        raise RequestError(message, "--margin", "give --side instead")
    if side is None and options.margin is None:
        message = "the model was trained on whole chips of no fixed size, so the size of a chip is not known"
        raise RequestError(message, "--side", "give the chip size in pixels, or --margin 0 to cut chips along boxes")
    if side is not None and contract.crop is not None and side < contract.crop:
        message = f"chips of {side} pixels are too small: the model takes {contract.crop} pixels"
        raise RequestError(message, "--side", f"give --side {contract.crop}, or more")
    for flag, value in (("--side or --grid", side), ("--margin", options.margin)):
        if value is not None and not 0 <= value <= MAX_CHIP_SIDE:
            message = f"{value:,} pixels are too many: a chip has at most {MAX_CHIP_SIDE:,} x {MAX_CHIP_SIDE:,}"
            raise RequestError(message, flag, f"give {MAX_CHIP_SIDE} or less")
    try:
        scale = resampling_factors(contract, resolve_spacing(scene.spacing, options), options)
    except DataError as error:
        raise DataError(error.message, scene.path, error.hint) from error
    return ChipWindow(side, options.margin or 0, scale)


def resolve_spacing(file_spacing: tuple[float, float] | None, options: ChipOptions) -> tuple[float, float] | None:
    """Return the pixel spacing of the file; without one, the spacing of the options.

    Args:
        file_spacing: pixel spacing in meters along columns and along rows; None if the file does not have one.
        options: the user's options.

    Returns:
        The pixel spacing in meters along columns and along rows; None if it is unknown.
    """
    return file_spacing or (None if options.spacing is None else (options.spacing, options.spacing))


def resampling_factors(
    contract: Contract, spacing: tuple[float, float] | None, options: ChipOptions
) -> tuple[float, float]:
    """Compute how many image pixels make one chip pixel, and check the pixel spacing of the chip.

    Args:
        contract: pixel spacing of the training chips.
        spacing: pixel spacing of the image in meters, along columns and along rows; None if it is unknown.
        options: the user's options.

    Returns:
        Image pixels per chip pixel, along columns and along rows.

    Raises:
        DataError: the spacing differs from that of the training chips, or is needed for resampling but unknown.
    """
    if options.resample_to is None:
        if spacing is not None:
            contract.check_spacing(spacing)
        return 1.0, 1.0
    contract.check_spacing([options.resample_to])
    if spacing is None:
        message = f"pixels of unknown spacing cannot be resampled to {options.resample_to:g} m"
        raise DataError(message, hint="give their spacing in meters: --spacing 10")
    down, along = (options.resample_to / meters for meters in spacing)
    return down, along


def resize_chip(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """Resize a chip, by area averaging if no side grows, else by bilinear interpolation.

    Args:
        pixels: (h, w, B).
        size: H and W.

    Returns:
        Pixels (H, W, B); the same array if the size does not change.

    Raises:
        DataError: the data type cannot be resampled.
    """
    if pixels.shape[:2] == size:
        return pixels
    if pixels.dtype not in (np.uint8, np.uint16, np.int16, np.float32, np.float64):
        raise DataError(f"{pixels.dtype} pixels cannot be resampled", hint="give uint8, uint16 or float32")
    is_shrinking = pixels.shape[0] >= size[0] and pixels.shape[1] >= size[1]
    return resize_image(pixels, size, by_area=is_shrinking)
