"""Cell-averaging constant false alarm rate (CA-CFAR): find pixels that are brighter than their surroundings.

With L looks, the intensity of homogeneous water is gamma distributed, and its ratio to the mean of N other pixels
follows F(2L, 2LN) (Oliver and Quegan 2004, section 10.3). For L = 1 the threshold is N (p^(-1/N) - 1).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import stats

from rsft.types import Floats

Mask = NDArray[np.bool_]

_MIN_VALID_FRACTION = 0.25  # smallest share of the surroundings that must be valid
_MIN_OBJECT_PIXELS = 3


class CfarWindow(NamedTuple):
    """The surroundings of a pixel: all pixels between two squares around it.

    Attributes:
        guard: the inner square has 2 guard + 1 pixels per side.
        outer: the outer square has 2 outer + 1 pixels per side.
    """

    guard: int
    outer: int

    @property
    def cells(self) -> int:
        """Number of pixels between the squares."""
        return (2 * self.outer + 1) ** 2 - (2 * self.guard + 1) ** 2


class BrightObject(NamedTuple):
    """Connected bright pixels.

    Attributes:
        row: row of the center, weighted by contrast.
        col: column of the center, weighted by contrast.
        corners: (4, 2), row and column of the smallest rectangle around the pixels.
        contrast: largest ratio of a pixel to the mean of its surroundings, in dB.
    """

    row: float
    col: float
    corners: NDArray[np.float64]
    contrast: float

    @property
    def sides(self) -> Floats:
        """Lengths of the two sides of the rectangle in pixels."""
        return np.asarray(np.linalg.norm(np.diff(self.corners[:3], axis=0), axis=1))


def cfar_threshold(pfa: float, looks: Floats | float, cells: int) -> Floats:
    """Return the ratio to the mean of the surroundings that water exceeds with probability `pfa`.

    Args:
        pfa: probability of a false alarm.
        looks: equivalent numbers of looks, of any shape.
        cells: number of pixels in the surroundings.

    Returns:
        One ratio per number of looks.
    """
    looks = np.asarray(looks, np.float64)
    return np.asarray(stats.f.isf(pfa, 2 * looks, 2 * looks * cells), np.float64)


def cfar_contrast(intensity: NDArray[np.float32], valid: Mask, window: CfarWindow) -> NDArray[np.float32]:
    """Compute the ratio of each pixel to the mean of its surroundings.

    Args:
        intensity: (H, W).
        valid: (H, W), True for pixels of water and of objects on water.
        window: the surroundings.

    Returns:
        The ratio (H, W); 0 where the pixel is not valid or too few pixels of its surroundings are.
    """
    values = np.where(valid, intensity, 0).astype(np.float32)
    weights = valid.astype(np.float32)
    total, count = (_box_sum(x, window.outer) - _box_sum(x, window.guard) for x in (values, weights))
    usable = valid & (count >= _MIN_VALID_FRACTION * window.cells) & (total > 0)
    ratio = np.zeros(values.shape, np.float32)
    np.divide(values * count, total, out=ratio, where=usable, casting="same_kind")
    return ratio


def find_bright_objects(ratio: NDArray[np.float32], mask: Mask, gap: int) -> list[BrightObject]:
    """Group bright pixels into objects.

    Args:
        ratio: (H, W), see `cfar_contrast`.
        mask: (H, W), True for bright pixels.
        gap: number of dark pixels that may lie between the pixels of an object.

    Returns:
        The objects with at least 3 pixels.
    """
    dilated = cv2.dilate(mask.astype(np.uint8), np.ones((gap + 1, gap + 1), np.uint8))
    _, label_image = cv2.connectedComponents(dilated, connectivity=8)
    rows, cols = np.nonzero(mask)
    labels = label_image[rows, cols]
    order = np.argsort(labels, kind="stable")
    boundaries = np.flatnonzero(np.diff(labels[order])) + 1
    groups = [group for group in np.split(order, boundaries) if len(group) >= _MIN_OBJECT_PIXELS]
    return [_bright_object(rows[group], cols[group], ratio) for group in groups]


def _bright_object(rows: NDArray[Any], cols: NDArray[Any], ratio: NDArray[np.float32]) -> BrightObject:
    weights = ratio[rows, cols].astype(np.float64)
    row, col = np.average(rows, weights=weights) + 0.5, np.average(cols, weights=weights) + 0.5
    pixel_corners = np.stack(
        [np.concatenate([cols, cols + 1, cols, cols + 1]), np.concatenate([rows, rows, rows + 1, rows + 1])], 1
    )
    box = cv2.boxPoints(cv2.minAreaRect(pixel_corners.astype(np.float32)))[:, ::-1].astype(np.float64)
    return BrightObject(float(row), float(col), box, 10 * float(np.log10(weights.max())))


def _box_sum(values: NDArray[np.float32], half_side: int) -> NDArray[np.float64]:
    side = 2 * half_side + 1
    sums = cv2.boxFilter(values, cv2.CV_64F, (side, side), normalize=False, borderType=cv2.BORDER_CONSTANT)
    return np.asarray(sums, np.float64)
