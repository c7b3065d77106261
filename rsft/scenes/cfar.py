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
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import stats

from rsft.scenes.raster import PixelWindow
from rsft.types import Floats, Indices, Pixels, Size

CELL = 16
"""Side in pixels of the cells in which mean and variance are measured."""

BLOCK = 256
"""Side in pixels of the blocks that have one number of looks each."""

# a block with fewer usable cells takes the number of looks of the scene
_MIN_CELLS = 32
_LOOKS_RANGE = (1.0, 100.0)
_MIN_VALID_FRACTION = 0.25  # smallest share of the surroundings that must be valid
_MIN_OBJECT_PIXELS = 3
_PIXEL_CORNERS = ((0, 0), (1, 0), (0, 1), (1, 1))

Mask = NDArray[np.bool_]
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


def cfar_contrast(intensity: Plane32, valid: Mask, window: CfarWindow) -> Plane32:
    """Compute the ratio of each pixel to the mean of its surroundings.

    Args:
        intensity: (H, W).
        valid: (H, W), True for pixels of water and of objects on water.
        window: the surroundings.

    Returns:
        The ratio (H, W); 0 where the pixel is not valid or too few pixels of its
        surroundings are.
    """
    values = np.where(valid, intensity, 0).astype(np.float32)
    weights = valid.astype(np.float32)
    total = _box_sum(values, window.outer) - _box_sum(values, window.guard)
    count = _box_sum(weights, window.outer) - _box_sum(weights, window.guard)
    usable = valid & (count >= _MIN_VALID_FRACTION * window.cells) & (total > 0)
    ratio = np.zeros(values.shape, np.float32)
    np.divide(values * count, total, out=ratio, where=usable, casting="same_kind")
    return ratio


def _box_sum(values: Plane32, half_side: int) -> Floats:
    side = 2 * half_side + 1
    sums = cv2.boxFilter(
        values,
        cv2.CV_64F,
        (side, side),
        normalize=False,
        borderType=cv2.BORDER_CONSTANT,
    )
    return np.asarray(sums, np.float64)


def find_bright_objects(ratio: Plane32, mask: Mask, gap: int) -> list[BrightObject]:
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
    all_rows, all_cols = np.nonzero(mask)
    labels = label_image[all_rows, all_cols]
    order = np.argsort(labels, kind="stable")
    objects = []
    for group in np.split(order, np.flatnonzero(np.diff(labels[order])) + 1):
        if len(group) >= _MIN_OBJECT_PIXELS:
            objects.append(_make_object(all_rows[group], all_cols[group], ratio))
    return objects


def _make_object(rows: Indices, cols: Indices, ratio: Plane32) -> BrightObject:
    weights = ratio[rows, cols].astype(np.float64)
    pixels = np.stack([cols, rows], axis=1)
    corners = np.concatenate([pixels + shift for shift in _PIXEL_CORNERS])
    box = cv2.boxPoints(cv2.minAreaRect(corners.astype(np.float32)))
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
        cells = np.s_[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1]
        first_row = np.flatnonzero(np.diff(rows, prepend=-1))
        first_col = np.flatnonzero(np.diff(cols, prepend=-1))
        for band, plane in enumerate(np.moveaxis(read(window), 2, 0)):
            values = plane.astype(np.float64)
            for sums, added in (
                (total, values),
                (squares, values**2),
                (count, (values > 0).astype(np.float64)),
            ):
                added = np.add.reduceat(added, first_row, axis=0)
                sums[band][cells] += np.add.reduceat(added, first_col, axis=1)
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


def expand_blocks(blocks: NDArray[Any], window: PixelWindow, side: int) -> NDArray[Any]:
    """Return the value of the block of every pixel (H, W).

    Args:
        blocks: values of the blocks (r, c).
        window: a window of the scene; beyond its edge, the nearest block counts.
        side: side of a block in pixels.

    Returns:
        Values (H, W).
    """
    rows = (np.arange(window.top, window.bottom) // side).clip(0, blocks.shape[0] - 1)
    cols = (np.arange(window.left, window.right) // side).clip(0, blocks.shape[1] - 1)
    return np.asarray(blocks[rows][:, cols])
