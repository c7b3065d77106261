"""Resize and crop images with any number of bands."""

import cv2
import numpy as np

from rsft.types import Pixels, Size

_BANDS = 4
"""Number of bands that OpenCV averages over areas, unless each side shrinks by a whole
factor."""


def resize_image(image: Pixels, size: Size, *, by_area: bool) -> Pixels:
    """Resize an image by area averaging, or by bilinear interpolation.

    Args:
        image: (h, w, B).
        size: H and W of the result.
        by_area: whether to average areas, for images that shrink.

    Returns:
        Image (H, W, B) of the same data type.
    """
    height, width, count = image.shape
    if by_area and (height % size[0] or width % size[1]):
        count = _BANDS
    method = cv2.INTER_AREA if by_area else cv2.INTER_LINEAR
    resized = []
    for start in range(0, image.shape[2], count):
        group = np.ascontiguousarray(image[:, :, start : start + count])
        group = cv2.resize(group, size[::-1], interpolation=method)
        resized.append(group.reshape(*size, -1))
    if len(resized) == 1:
        return resized[0]
    return np.concatenate(resized, axis=2)


def center_crop(pixels: Pixels, side: int | None) -> Pixels:
    """Return a view of the center of a chip (H, W, B).

    Args:
        pixels: the chip.
        side: largest height and width of the view; None returns the whole chip.
    """
    if side is None:
        return pixels
    height, width = pixels.shape[:2]
    top = max(0, (height - side) // 2)
    left = max(0, (width - side) // 2)
    return pixels[top : top + side, left : left + side]
