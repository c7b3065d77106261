"""Refuse labels of ships that are not where the images are bright.

Such labels are of other images, or of images of another size; boxes outside of the
image are among them.

Ships are the brightest objects of their radar images. Measured on 25 real images with
62 ships (HRSID, SSDD): right boxes have 43 % or more of the contrast of the brightest
window of their size. Boxes with exchanged x and y, scaled by 0.9 or less, mirrored,
moved by 60 pixels, or of the next image have less than 20 % in 84 to 100 % of the
images.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np

from rsft.data.datasets.formats.gray_images import (
    UNREADABLE,
    read_gray_band,
    read_mode_and_size,
)
from rsft.data.datasets.formats.srsdd_files import SRSDDShip
from rsft.data.datasets.formats.text_files import find_split
from rsft.types import Floats, Plane

_MAX_IMAGES = 40  # of a split and a size
_MIN_MISSED = 5  # images
_MIN_RELATIVE_CONTRAST = 0.2
_MIN_BRIGHTNESS = 0.25
# standard deviations of an image: of a window; of a window of one pixel of noise
_NOISE = 6.0


def check_contrast(ships: Sequence[SRSDDShip], root: Path) -> None:
    """Raise ValueError if boxes miss the bright objects of most images.

    The images of each split and size are checked together.

    Images without bright objects, such as noise, show nothing, and up to 40 images of a
    split and size are read.

    Args:
        ships: the ships, one image after the other.
        root: the folder whose subfolders name the splits.

    Raises:
        ValueError: they do.
    """
    boxes_of = defaultdict(list)
    for ship in ships:
        boxes_of[ship.image].append(ship.box)
    groups = defaultdict(list)
    for image in boxes_of:
        # the fault is reported when the pixels are read
        with suppress(*UNREADABLE):
            _, size = read_mode_and_size(image)
            groups[find_split(image, root), size].append(image)
    for images in groups.values():
        missed = []
        checked = 0
        for image in images[:: -(-len(images) // _MAX_IMAGES)]:
            contrast = None
            with suppress(*UNREADABLE):
                pixels = read_gray_band(image)[:, :, 0]
                contrast = measure_contrast(pixels, boxes_of[image])
            if contrast is not None:
                checked += 1
                if contrast < _MIN_RELATIVE_CONTRAST:
                    missed.append(image)
        if len(missed) >= _MIN_MISSED and 2 * len(missed) > checked:
            raise ValueError(
                f"in {len(missed):,} of {checked:,} images, such as {missed[0]}, the"
                " boxes are not where the image is bright: the labels seem to be those"
                " of other images, or of images of another size or direction"
            )


def measure_contrast(image: Plane, boxes: Iterable[Sequence[float]]) -> float | None:
    """Return the contrast of boxes relative to that of the brightest window.

    The contrast is that with the surroundings, and the window has the size of the
    boxes.

    Args:
        image: the image (H, W).
        boxes: corners x1 y1 ... x4 y4 of each box in pixels.

    Returns:
        1 if all boxes are as bright as the brightest window, about 0 for boxes at
        random, 0 if the center of a box is outside the image; None if no window is
        bright.
    """
    corners: Floats = np.reshape(np.array(list(boxes), np.float64), (-1, 4, 2))
    limits = np.array(image.shape[::-1])
    centers = corners.mean(axis=1)
    if (centers < 0).any() or (centers > limits).any():
        return 0.0
    sides = np.median(np.ptp(corners, axis=1), axis=0)
    width, height = np.clip(sides, 4, limits / 2).astype(int).tolist()
    values = image.astype(np.float32)
    surroundings = cv2.blur(values, (2 * width, 2 * height))
    difference = cv2.blur(values, (width, height)) - surroundings
    difference /= max(float(values.std()), 1e-6)
    brightest = float(difference.max())
    if brightest < _MIN_BRIGHTNESS + _NOISE / np.sqrt(width * height):
        return None
    columns, rows = np.clip(np.rint(centers), 0, limits - 1).astype(int).T
    return float(difference[rows, columns].mean()) / brightest
