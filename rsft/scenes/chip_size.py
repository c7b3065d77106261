"""Size of a chip: its limit, its pixel spacing, and resampling.

A job of chips imports no GDAL with it.
"""

import numpy as np

from rsft.data.imagery.chip_spec import ChipSpec
from rsft.data.imagery.resize import resize_image
from rsft.errors import DataError
from rsft.scenes.options import ChipOptions
from rsft.types import Pixels, Size, Spacing

MAX_CHIP_SIDE = 8192
"""Largest side of a chip in pixels, and of its window in the scene. A larger image is a
scene, which is never read as a whole."""


def resolve_spacing(
    file_spacing: Spacing | None, options: ChipOptions
) -> Spacing | None:
    """Return the pixel spacing of a file in meters, else that of the options or None.

    The first number is along columns, the second one along rows.
    """
    if options.spacing and not file_spacing:
        return options.spacing, options.spacing
    return file_spacing


def resampling_factors(
    contract: ChipSpec, spacing: Spacing | None, options: ChipOptions
) -> tuple[float, float]:
    """Return how many image pixels make one chip pixel, and check its spacing.

    Args:
        contract: pixel spacing of the training chips.
        spacing: pixel spacing of the image in meters, along columns and along rows;
            None if it is unknown.
        options: the user's options.

    Returns:
        Image pixels per chip pixel, along columns and along rows.

    Raises:
        DataError: the spacing differs from that of the training chips, or is needed for
            resampling but unknown.
    """
    if not options.resample_to:
        if spacing:
            contract.check_spacing(spacing)
        return 1.0, 1.0
    contract.check_spacing([options.resample_to])
    if not spacing:
        raise DataError(
            "pixels of unknown spacing cannot be resampled to"
            f" {options.resample_to:g} m",
            hint="give their spacing in meters: --spacing 10",
        )
    return options.resample_to / spacing[0], options.resample_to / spacing[1]


def resize_chip(pixels: Pixels, size: Size) -> Pixels:
    """Resize a chip (h, w, B) to (H, W, B).

    Areas are averaged if no side grows; else the interpolation is bilinear.

    Returns:
        Pixels (H, W, B); the same array if the size does not change.

    Raises:
        DataError: the data type cannot be resampled.
    """
    if pixels.shape[:2] == size:
        return pixels
    if pixels.dtype not in (np.uint8, np.uint16, np.int16, np.float32, np.float64):
        raise DataError(
            f"{pixels.dtype} pixels cannot be resampled",
            hint="give uint8, uint16 or float32",
        )
    is_shrinking = pixels.shape[0] >= size[0] and pixels.shape[1] >= size[1]
    return resize_image(pixels, size, by_area=is_shrinking)
