"""Resize images with any number of bands by OpenCV."""

from __future__ import annotations

import cv2
import numpy as np

from rsft.types import Pixels

_BANDS = 4  # of images that OpenCV shrinks by area averaging, unless each side shrinks by a whole factor


def resize_image(image: Pixels, size: tuple[int, int], *, by_area: bool) -> Pixels:
    """Resize an image by area averaging, or by bilinear interpolation.

    Args:
        image: (h, w, B).
        size: H and W.
        by_area: whether to average areas, for images that shrink.

    Returns:
        Image (H, W, B) of the same data type.
    """
    method = cv2.INTER_AREA if by_area else cv2.INTER_LINEAR
    is_divided = any(side % new_side for side, new_side in zip(image.shape[:2], size, strict=True))
    count = _BANDS if by_area and is_divided else image.shape[2]
    groups = [np.ascontiguousarray(image[:, :, start : start + count]) for start in range(0, image.shape[2], count)]
    resized = [cv2.resize(group, size[::-1], interpolation=method).reshape(*size, -1) for group in groups]
    return resized[0] if len(resized) == 1 else np.concatenate(resized, axis=2)
