"""Cell-averaging constant false alarm rate (CA-CFAR): pixels brighter than water.

With L looks, the intensity of homogeneous water is gamma distributed, and its ratio to
the mean of N other pixels follows F(2L, 2LN) (Oliver and Quegan 2004, section 10.3).
For L = 1 the threshold is N (p^(-1/N) - 1).

The number of looks of a cell of 16 x 16 pixels is mean^2 / variance of its intensity.
Wind, waves and ice make water rougher than speckle alone, and lower this number. So it
is measured in every block of 256 x 256 pixels, as the median over the cells of the
block and of its eight neighbors. Ships are in few cells, so they do not change the
median.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import stats

from rsft.scenes.lengths import pixel_corners
from rsft.scenes.raster import PixelWindow
from rsft.types import Floats, Indices, Mask, Pixels, Size

CELL = 16
"""Side in pixels of the cells in which mean and variance are measured."""

BLOCK = 256
"""Side in pixels of the blocks that have one number of looks each."""

# a block with fewer usable cells takes the number of looks of the scene
_MIN_CELLS = 32
_LOOKS_RANGE = (1.0, 100.0)
_MIN_VALID_FRACTION = 0.25  # smallest share of the surroundings that must be valid
_MIN_OBJECT_PIXELS = 3

Plane32 = NDArray[np.float32]


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
    corners: Floats
    contrast: float

    @property
    def sides(self) -> Floats:
        """Lengths of the two sides of the rectangle in pixels."""
        return np.asarray(np.linalg.norm(np.diff(self.corners[:3], axis=0), axis=1))


def cfar_threshold(pfa: float, looks: Floats, cells: int) -> Floats:
    """Return the ratio to the mean of `cells` pixels that water seldom exceeds.

    Args:
        pfa: probability with which it does.
        looks: number of looks.
        cells: number of other pixels.

    Returns:
        The ratios, in the shape of `looks`.
    """
    return np.asarray(stats.f.isf(pfa, 2 * looks, 2 * looks * cells), np.float64)


class BrightPixels(NamedTuple):
    """Pixels that are brighter than their surroundings, row by row.

    Attributes:
        rows: (N,) rows of the pixels.
        cols: (N,) columns of the pixels.
        ratio: (N,) largest ratio over the bands to the mean of the surroundings.
    """

    rows: Indices
    cols: Indices
    ratio: Plane32


def find_bright_pixels(
    planes: Plane32,
    searched: Mask,
    thresholds: Floats,
    area: PixelWindow,
    window: CfarWindow,
) -> BrightPixels:
    """Find the pixels that exceed the threshold of their block in any band.

    Args:
        planes: intensity (B, H, W); 0 without data.
        searched: (H, W), True for pixels of water and of objects on water. Others
            belong to no surroundings.
        thresholds: ratio of each block of the scene in each band (B, r, c).
        area: the part of the scene that the planes show.
        window: the surroundings. Pixels have none if less than a quarter of their
            surroundings is searched and has data.
    """
    bands = [_Surroundings(plane, searched, window) for plane in planes]
    lowest = float(thresholds.min()) * _MARGIN
    is_candidate = np.any([band.may_exceed(lowest) for band in bands], axis=0)
    rows, cols = np.nonzero(is_candidate)
    ratios = np.stack([band.ratio(rows, cols) for band in bands])
    block_rows = ((rows + area.top) // BLOCK).clip(0, thresholds.shape[1] - 1)
    block_cols = ((cols + area.left) // BLOCK).clip(0, thresholds.shape[2] - 1)
    limits = thresholds[:, block_rows, block_cols].astype(np.float32)
    is_bright = (ratios > limits).any(axis=0)
    return BrightPixels(rows[is_bright], cols[is_bright], ratios.max(axis=0)[is_bright])


_MARGIN = 1 - 1e-6
"""Factor of a bound that is rounded to float32."""


class _Surroundings:
    """The surroundings of all pixels of a band.

    Args:
        plane: intensity (H, W).
        searched: (H, W), True for pixels that count.
        window: the surroundings of a pixel.
    """

    def __init__(self, plane: Plane32, searched: Mask, window: CfarWindow) -> None:
        self.values = np.where(searched & (plane > 0), plane, np.float32(0))
        self.cells = window.cells
        self._total = _sum_surroundings(self.values, window, cv2.CV_64F)
        has_data = (self.values > 0).astype(np.uint8)
        self._count = _sum_surroundings(has_data, window, cv2.CV_32S)

    def may_exceed(self, ratio: float) -> Mask:
        """Return the pixels (H, W) that have a ratio if all surroundings have data.

        Missing data make the ratio of a pixel smaller, never larger.
        """
        return np.asarray(self.values * self.cells > ratio * self._total)

    def ratio(self, rows: Indices, cols: Indices) -> Plane32:
        """Return the ratio of pixels (N,) to the mean of their surroundings.

        It is 0 for pixels that do not count, or have no surroundings.
        """
        total = self._total[rows, cols]
        count = self._count[rows, cols]
        usable = (count >= _MIN_VALID_FRACTION * self.cells) & (total > 0)
        ratio = np.zeros(len(rows))
        np.divide(self.values[rows, cols] * count, total, out=ratio, where=usable)
        return ratio.astype(np.float32)


def _sum_surroundings(
    plane: NDArray[Any], window: CfarWindow, depth: int
) -> NDArray[Any]:
    """Return the sum over the surroundings of each pixel (H, W).

    `depth` is the type of the sums in OpenCV.
    """
    outer, inner = [
        cv2.boxFilter(
            plane,
            depth,
            (2 * half_side + 1, 2 * half_side + 1),
            normalize=False,
            borderType=cv2.BORDER_CONSTANT,
        )
        for half_side in (window.outer, window.guard)
    ]
    return cv2.subtract(outer, inner, dst=outer)


def find_bright_objects(
    pixels: BrightPixels, size: Size, gap: int
) -> list[BrightObject]:
    """Group bright pixels into objects.

    Args:
        pixels: the pixels.
        size: height and width of the searched area.
        gap: number of dark pixels that may lie between the pixels of an object.

    Returns:
        The objects with at least 3 pixels.
    """
    rows, cols, ratio = pixels
    mask = np.zeros(size, np.uint8)
    mask[rows, cols] = 1
    dilated = cv2.dilate(mask, np.ones((gap + 1, gap + 1), np.uint8))
    _, label_image = cv2.connectedComponents(dilated, connectivity=8)
    labels = label_image[rows, cols]
    order = np.argsort(labels, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(labels[order])) + 1)
    return [
        _make_object(rows[group], cols[group], ratio[group])
        for group in groups
        if len(group) >= _MIN_OBJECT_PIXELS
    ]


def _make_object(rows: Indices, cols: Indices, ratio: Plane32) -> BrightObject:
    weights = ratio.astype(np.float64)
    corners = pixel_corners(rows, cols).astype(np.float32)
    box = cv2.boxPoints(cv2.minAreaRect(corners))
    return BrightObject(
        float(np.average(rows, weights=weights) + 0.5),
        float(np.average(cols, weights=weights) + 0.5),
        box[:, ::-1].astype(np.float64),
        10 * float(np.log10(weights.max())),
    )


def measure_cells(
    size: Size,
    bands: int,
    windows: Iterable[PixelWindow],
    read: Callable[[PixelWindow], Pixels],
) -> tuple[Floats, Floats]:
    """Measure all cells of a scene.

    Args:
        size: height and width of the scene.
        bands: number of bands.
        windows: cover the scene once.
        read: returns the intensity (H, W, B) of a window, 0 without data.

    Returns:
        Mean intensity (B, R, C), NaN without data; and equivalent number of looks (B,
        R, C), NaN where less than half of the cell has data, or it is constant.
    """
    shape = (bands, -(-size[0] // CELL), -(-size[1] // CELL))
    total = np.zeros(shape)
    squares = np.zeros(shape)
    count = np.zeros(shape)
    for window in windows:
        rows = np.arange(window.top, window.bottom) // CELL
        cols = np.arange(window.left, window.right) // CELL
        first_col = np.flatnonzero(np.diff(cols, prepend=-1))
        inside = slice(cols[0], cols[-1] + 1)
        edges = [*np.flatnonzero(np.diff(rows, prepend=-1)), len(rows)]
        for band, plane in enumerate(np.moveaxis(read(window), 2, 0)):
            for top, bottom in pairwise(edges):
                strip = np.ascontiguousarray(plane[top:bottom])
                row = rows[top]
                for sums, added, kind in (
                    (total, strip, cv2.REDUCE_SUM),
                    (squares, strip, cv2.REDUCE_SUM2),
                    (count, (strip > 0).astype(np.uint8), cv2.REDUCE_SUM),
                ):
                    by_col = cv2.reduce(added, 0, kind, dtype=cv2.CV_64F)
                    sums[band, row, inside] += np.add.reduceat(by_col[0], first_col)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = total / count
        variance = squares / count - mean**2
        looks = mean**2 / variance
    # a constant cell has no speckle
    usable = (count >= CELL**2 / 2) & (variance > 1e-9 * mean**2)
    return mean, np.where(usable, looks, np.nan)


def looks_by_block(looks: Floats) -> Floats:
    """Return the number of looks of every block of one band.

    Args:
        looks: numbers of looks of the cells (R, C); NaN for cells that do not count.

    Returns:
        Median over the cells of each block and its neighbors (r, c), limited to 1-100.
        Blocks with few cells have the median of the scene; without any cell it is 1,
        which gives the highest threshold.
    """
    side = BLOCK // CELL
    shape = [-(-length // side) for length in looks.shape]
    scene = float(np.nanmedian(looks)) if np.isfinite(looks).any() else 1.0
    blocks = np.full(shape, scene)
    for row, col in np.ndindex(*shape):
        rows = slice(max(0, row - 1) * side, (row + 2) * side)
        cols = slice(max(0, col - 1) * side, (col + 2) * side)
        cells = looks[rows, cols]
        cells = cells[np.isfinite(cells)]
        if len(cells) >= _MIN_CELLS:
            blocks[row, col] = np.median(cells)
    return np.asarray(np.clip(blocks, *_LOOKS_RANGE))
