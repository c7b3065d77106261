"""Number of looks by block: value, outliers, and blocks without usable cells."""

from __future__ import annotations

import numpy as np
import pytest

from rsft.inference.detection.detector import BLOCK, CELL, expand_blocks, looks_by_block, measure_cells
from rsft.inference.scenes.raster import PixelWindow
from tests.helpers.scenes import simulate_sea


def measure(intensity, side=10_000):
    height, width = intensity.shape[:2]
    windows = [
        PixelWindow(top, left, min(top + side, height), min(left + side, width))
        for top in range(0, height, side)
        for left in range(0, width, side)
    ]
    return measure_cells(
        (height, width), intensity.shape[2], windows, lambda w: intensity[w.top : w.bottom, w.left : w.right]
    )


def test_looks_of_two_kinds_of_water_and_two_bands():
    left, right = (simulate_sea(768, 1536, seed, looks) ** 2 for seed, looks in ((0, 4), (1, 16)))
    cells = measure(np.stack([np.concatenate([left, right], 1), np.concatenate([right, left], 1)], axis=2))
    first, second = (looks_by_block(plane) for plane in cells.looks)
    assert first.shape == (3, 12)
    assert first[:, :5] == pytest.approx(4, rel=0.05) and first[:, 7:] == pytest.approx(16, rel=0.05)
    assert second[:, :5] == pytest.approx(16, rel=0.05) and second[:, 7:] == pytest.approx(4, rel=0.05)


def test_statistics_do_not_depend_on_the_windows():
    intensity = simulate_sea(100, 90)[:, :, None] ** 2
    whole, parts = measure(intensity), measure(intensity, side=37)
    assert np.allclose(whole.mean, parts.mean) and np.allclose(whole.looks, parts.looks, equal_nan=True)
    assert whole.mean.shape == (1, 7, 6) and whole.mean.mean() == pytest.approx(1, abs=0.05)


def test_ships_do_not_change_the_looks():
    water = simulate_sea(256, 256) ** 2
    water[:48, :48] *= np.random.default_rng(0).exponential(30, (48, 48)).astype(np.float32)
    assert looks_by_block(measure(water[:, :, None]).looks[0]) == pytest.approx(4, rel=0.1)


@pytest.mark.parametrize("value", [0.0, 1.0, 1e-12, 1e12])
def test_a_constant_scene_has_no_looks(value):
    cells = measure(np.full((64, 64, 1), value, np.float32))
    assert np.isnan(cells.looks).all() and looks_by_block(cells.looks[0]).tolist() == [[1.0]]


def test_one_pixel():
    cells = measure(np.ones((1, 1, 1), np.float32))
    assert cells.mean.tolist() == [[[1.0]]] and looks_by_block(cells.looks[0]).tolist() == [[1.0]]


def test_a_block_with_few_cells_takes_the_looks_of_the_scene():
    side = BLOCK // CELL
    looks = np.full((side, 5 * side), np.nan)
    looks[:, : 2 * side] = 9.0
    looks[0, -31:] = 3.0  # one too few
    assert looks_by_block(looks).tolist() == [[9.0] * 5]
    looks[0, -32:] = 3.0
    assert looks_by_block(looks).tolist() == [[9.0, 9.0, 9.0, 3.0, 3.0]]
    assert looks_by_block(np.full((1, 1), 1e6)).tolist() == [[100.0]]


def test_values_of_blocks_at_pixels():
    blocks = np.array([[1.0, 2.0]])
    values = expand_blocks(blocks, PixelWindow(-2, BLOCK - 2, 1, 2 * BLOCK + 5))
    assert values.shape == (3, BLOCK + 7) and values[0, :3].tolist() == [1, 1, 2] and values[2, -1] == 2
