"""Gray images: some copies repeat the band, or add a constant band of opacity."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rsft.data.datasets.formats.text_files import PathOrText
from rsft.utils.cell.client import in_cell

UNREADABLE = (OSError, ValueError, SyntaxError)
"""Exceptions of Pillow for a file that is no complete image."""


@in_cell
def read_mode_and_size(path: PathOrText) -> tuple[str, tuple[int, int]]:
    """Return the mode of an image in the words of Pillow, and its width and height.

    Raises:
        ValueError: it has too many pixels.
        OSError: the file is not an image.
    """
    with _open(path) as image:
        return image.mode, image.size


@in_cell
def read_gray_band(path: PathOrText) -> NDArray[Any]:
    """Read an image of one band.

    Returns:
        The pixels (H, W, 1) with the data type of the file.

    Raises:
        ValueError: the bands differ.
        OSError: the file is not a complete image.
    """
    with _open(path) as image:
        if image.mode == "P":
            pixels = np.asarray(image.convert("RGB"))
        else:
            pixels = np.asarray(image)
    return take_gray_band(np.atleast_3d(pixels))


def _open(path: PathOrText) -> Image.Image:
    try:
        return Image.open(path)
    except Image.DecompressionBombError as error:
        raise ValueError(str(error)) from error


def take_gray_band(pixels: NDArray[Any]) -> NDArray[Any]:
    """Return the band (H, W, 1) of a gray image (H, W, B).

    Raises:
        ValueError: the bands differ.
    """
    count = pixels.shape[2]
    if count in (2, 4) and np.ptp(pixels[:, :, -1]) == 0:
        pixels = pixels[:, :, :-1]
    band = pixels[:, :, :1]
    if (pixels != band).any():
        raise ValueError(f"the {count} bands differ, but a single band is expected")
    return band


def have_same_pixels(first: PathOrText, second: PathOrText) -> bool:
    """Return whether two files are images of one band with the same values."""
    try:
        return np.array_equal(read_gray_band(first), read_gray_band(second))
    except UNREADABLE:
        return False
