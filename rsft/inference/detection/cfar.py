"""Cell-averaging constant false alarm rate: pixels brighter than their surroundings allow.

With L looks, intensity over homogeneous water is gamma distributed, and its ratio to the mean of N others follows
F(2L, 2LN) (Oliver and Quegan 2004, section 10.3); for L = 1 the factor is the well-known N (p^(-1/N) - 1).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import stats

Plane = NDArray[np.float32]
Mask = NDArray[np.bool_]

_LEAST = 0.25  # of the ring that must have a value
_SMALLEST = 3  # pixels of an object


class Rings(NamedTuple):
    """Half sides of the squares around a pixel: what lies between the two is its surroundings."""

    guard: int
    outer: int

    @property
    def cells(self) -> int:
        """Pixels between the squares."""
        return (2 * self.outer + 1) ** 2 - (2 * self.guard + 1) ** 2


class Blob(NamedTuple):
    """Bright pixels that hang together: middle by intensity, corners (4, 2) around them, contrast in dB."""

    row: float
    col: float
    corners: NDArray[np.float64]
    contrast: float


def threshold(pfa: float, looks: float, cells: int) -> float:
    """The ratio to the mean of `cells` surrounding pixels that water exceeds with probability `pfa`."""
    return float(stats.f.isf(pfa, 2 * looks, 2 * looks * cells))


def contrast(intensity: Plane, valid: Mask, rings: Rings) -> Plane:
    """The ratio of each pixel (H, W) to the mean of its ring; 0 where it or too much of its ring has no value."""
    values = np.where(valid, intensity, 0).astype(np.float32)
    weights = valid.astype(np.float32)
    total, count = (_sum(each, rings.outer) - _sum(each, rings.guard) for each in (values, weights))
    known = valid & (count >= _LEAST * rings.cells) & (total > 0)
    ratio = np.zeros(values.shape, np.float32)
    np.divide(values * count, total, out=ratio, where=known, casting="same_kind")
    return ratio


def blobs(ratio: Plane, factor: float, gap: int) -> list[Blob]:
    """Pixels above `factor`, joined where no more than `gap` pixels lie between them."""
    mask = ratio > factor
    joined = cv2.dilate(mask.astype(np.uint8), np.ones((gap + 1, gap + 1), np.uint8))
    _, labels = cv2.connectedComponents(joined, connectivity=8)
    rows, cols = np.nonzero(mask)
    found = labels[rows, cols]
    order = np.argsort(found, kind="stable")
    edges = np.flatnonzero(np.diff(found[order])) + 1
    groups = [group for group in np.split(order, edges) if len(group) >= _SMALLEST]
    return [_blob(rows[group], cols[group], ratio) for group in groups]


def _blob(rows: NDArray[Any], cols: NDArray[Any], ratio: Plane) -> Blob:
    weights = ratio[rows, cols].astype(np.float64)
    row, col = np.average(rows, weights=weights) + 0.5, np.average(cols, weights=weights) + 0.5
    corners = np.stack(
        [np.concatenate([cols, cols + 1, cols, cols + 1]), np.concatenate([rows, rows, rows + 1, rows + 1])], 1
    )
    around = cv2.boxPoints(cv2.minAreaRect(corners.astype(np.float32)))[:, ::-1].astype(np.float64)
    return Blob(float(row), float(col), around, 10 * float(np.log10(weights.max())))


def _sum(values: Plane, half: int) -> NDArray[np.float64]:
    side = 2 * half + 1
    summed = cv2.boxFilter(values, cv2.CV_64F, (side, side), normalize=False, borderType=cv2.BORDER_CONSTANT)
    return np.asarray(summed, np.float64)
