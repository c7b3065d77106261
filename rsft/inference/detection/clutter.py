"""Measure the water of a scene: mean intensity and equivalent number of looks, block by block.

The number of looks of a cell of 16 x 16 pixels is mean^2 / variance of its intensity. Wind, waves and ice make water
rougher than speckle alone, and lower this number. So it is measured in every block of 256 x 256 pixels, as the median
over the cells of the block and of its eight neighbors. Ships are in few cells, so they do not change the median.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rsft.inference.scenes.raster import PixelWindow
from rsft.types import Floats, Pixels

CELL = 16
"""Side in pixels of the cells in which mean and variance are measured."""

BLOCK = 256
"""Side in pixels of the blocks that have one number of looks each."""

_MIN_CELLS = 32  # a block with fewer usable cells takes the number of looks of the scene
_LOOKS_RANGE = (1.0, 100.0)


@dataclass(frozen=True)
class CellStatistics:
    """Statistics of the cells of a scene, by band.

    Attributes:
        mean: mean intensity (B, R, C); NaN without data.
        looks: equivalent number of looks (B, R, C); NaN where less than half of the cell has data, or it is constant.
    """

    mean: Floats
    looks: Floats


def measure_cells(
    size: tuple[int, int], bands: int, windows: Iterable[PixelWindow], read: Callable[[PixelWindow], Pixels]
) -> CellStatistics:
    """Measure all cells of a scene.

    Args:
        size: height and width of the scene.
        bands: number of bands.
        windows: cover the scene once.
        read: returns the intensity (H, W, B) of a window, 0 without data.

    Returns:
        The statistics.
    """
    shape = (bands, -(-size[0] // CELL), -(-size[1] // CELL))
    total, squares, count = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    for window in windows:
        rows, cols = np.arange(window.top, window.bottom) // CELL, np.arange(window.left, window.right) // CELL
        cells = np.s_[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1]
        for band, plane in enumerate(np.moveaxis(read(window), 2, 0).astype(np.float64)):
            for sums, values in ((total, plane), (squares, plane**2), (count, (plane > 0).astype(np.float64))):
                sums[band][cells] += _sum_cells(values, rows, cols)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = total / count
        variance = squares / count - mean**2
        looks = mean**2 / variance
    usable = (count >= CELL**2 / 2) & (variance > 1e-9 * mean**2)  # a constant cell has no speckle
    return CellStatistics(mean, np.where(usable, looks, np.nan))


def looks_by_block(looks: Floats) -> Floats:
    """Return the number of looks of every block of one band.

    Args:
        looks: numbers of looks of the cells (R, C); NaN for cells that do not count.

    Returns:
        Median over the cells of each block and its neighbors (r, c), limited to 1-100. Blocks with few cells have the
        median of the scene; without any cell it is 1, which gives the highest threshold.
    """
    side = BLOCK // CELL
    rows, cols = (-(-length // side) for length in looks.shape)
    scene = float(np.nanmedian(looks)) if np.isfinite(looks).any() else 1.0
    blocks = np.full((rows, cols), scene)
    for row in range(rows):
        for col in range(cols):
            cells = looks[max(0, row - 1) * side : (row + 2) * side, max(0, col - 1) * side : (col + 2) * side]
            cells = cells[np.isfinite(cells)]
            if len(cells) >= _MIN_CELLS:
                blocks[row, col] = np.median(cells)
    return np.clip(blocks, *_LOOKS_RANGE)


def expand_blocks(blocks: Floats, window: PixelWindow) -> NDArray[np.float32]:
    """Return the value of the block of every pixel.

    Args:
        blocks: values of the blocks (r, c).
        window: a window of the scene; beyond its edge, the nearest block counts.

    Returns:
        Values (H, W).
    """
    rows = (np.arange(window.top, window.bottom) // BLOCK).clip(0, blocks.shape[0] - 1)
    cols = (np.arange(window.left, window.right) // BLOCK).clip(0, blocks.shape[1] - 1)
    return np.asarray(blocks[rows][:, cols], np.float32)


def _sum_cells(values: Floats, rows: NDArray[np.int64], cols: NDArray[np.int64]) -> Floats:
    """Sum values (H, W) over each run of equal row and column numbers; return (r, c)."""
    starts = [np.flatnonzero(np.diff(numbers, prepend=-1)) for numbers in (rows, cols)]
    return np.asarray(np.add.reduceat(np.add.reduceat(values, starts[0], axis=0), starts[1], axis=1))
