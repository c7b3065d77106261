"""The threshold of a false alarm rate, looks by block, and objects to the pixel."""

import numpy as np
import pytest

from rsft.scenes import cfar
from rsft.scenes.raster import PixelWindow
from tests.helpers.scenes import simulate_sea

WINDOW = cfar.CfarWindow(8, 16)


def test_threshold_of_one_look():
    cells = WINDOW.cells
    assert cfar.cfar_threshold(1e-6, 1, cells) == pytest.approx(
        cells * (1e-6 ** (-1 / cells) - 1)
    )
    both = cfar.cfar_threshold(1e-6, np.array([[1.0], [4.0]]), cells)
    assert (
        both.shape == (2, 1)
        and both[0, 0] == cfar.cfar_threshold(1e-6, 1, cells) > both[1, 0] > 1
    )


@pytest.mark.parametrize("looks", [1, 4])
def test_false_alarm_rate(looks):
    water = simulate_sea(1000, 1000, looks=looks) ** 2
    alarms = cfar.cfar_contrast(water, water > 0, WINDOW) > cfar.cfar_threshold(
        1e-3, looks, WINDOW.cells
    )
    assert alarms.mean() == pytest.approx(1e-3, rel=0.15)


def test_position_and_size_of_a_ship():
    water = simulate_sea(128, 128) ** 2
    water[60:64, 40:60] = 40
    wide = cfar.CfarWindow(16, 32)
    ratio = cfar.cfar_contrast(water, water > 0, wide)
    (ship,) = cfar.find_bright_objects(
        ratio, ratio > cfar.cfar_threshold(1e-6, 4, wide.cells), 1
    )
    assert (ship.row, ship.col) == pytest.approx((62, 50), abs=0.2)
    assert sorted(ship.sides) == pytest.approx(
        [4, 20]
    ) and ship.contrast == pytest.approx(16, abs=1)


def test_gaps_are_bridged():
    ratio = np.zeros((40, 40), np.float32)
    ratio[10:14, 5:10] = ratio[10:14, 12:17] = 20
    assert [
        len(cfar.find_bright_objects(ratio, ratio > 10, gap)) for gap in (1, 2)
    ] == [2, 1]


def test_pixels_without_data_are_ignored():
    water = simulate_sea(64, 64) ** 2
    water[:, :32] = 0
    ratio = cfar.cfar_contrast(water, water > 0, WINDOW)
    assert not ratio[:, :32].any() and ratio[:, 33:].mean() == pytest.approx(
        1, abs=0.05
    )
    assert not cfar.cfar_contrast(water, np.zeros((64, 64), bool), WINDOW).any()


def measure(intensity, side=10_000):
    height, width = intensity.shape[:2]
    windows = [
        PixelWindow(top, left, min(top + side, height), min(left + side, width))
        for top in range(0, height, side)
        for left in range(0, width, side)
    ]
    return cfar.measure_cells(
        (height, width),
        intensity.shape[2],
        windows,
        lambda w: intensity[w.top : w.bottom, w.left : w.right],
    )


def test_looks_of_two_kinds_of_water_and_two_bands():
    left, right = (
        simulate_sea(768, 1536, seed, looks) ** 2 for seed, looks in ((0, 4), (1, 16))
    )
    _, looks = measure(
        np.stack(
            [np.concatenate([left, right], 1), np.concatenate([right, left], 1)], axis=2
        )
    )
    first, second = (cfar.looks_by_block(plane) for plane in looks)
    assert first.shape == (3, 12)
    assert first[:, :5] == pytest.approx(4, rel=0.05) and first[:, 7:] == pytest.approx(
        16, rel=0.05
    )
    assert second[:, :5] == pytest.approx(16, rel=0.05) and second[
        :, 7:
    ] == pytest.approx(4, rel=0.05)


def test_statistics_do_not_depend_on_the_windows():
    intensity = simulate_sea(100, 90)[:, :, None] ** 2
    whole = measure(intensity)
    parts = measure(intensity, side=37)
    assert all(
        np.allclose(*pair, equal_nan=True) for pair in zip(whole, parts, strict=True)
    )
    assert whole[0].shape == (1, 7, 6) and whole[0].mean() == pytest.approx(1, abs=0.05)


def test_ships_do_not_change_the_looks():
    water = simulate_sea(256, 256) ** 2
    water[:48, :48] *= (
        np.random.default_rng(0).exponential(30, (48, 48)).astype(np.float32)
    )
    assert cfar.looks_by_block(measure(water[:, :, None])[1][0]) == pytest.approx(
        4, rel=0.1
    )


@pytest.mark.parametrize("value", [0.0, 1.0, 1e-12, 1e12])
def test_a_constant_scene_has_no_looks(value):
    _, looks = measure(np.full((64, 64, 1), value, np.float32))
    assert np.isnan(looks).all() and cfar.looks_by_block(looks[0]).tolist() == [[1.0]]


def test_one_pixel():
    mean, looks = measure(np.ones((1, 1, 1), np.float32))
    assert mean.tolist() == [[[1.0]]] and cfar.looks_by_block(looks[0]).tolist() == [
        [1.0]
    ]


def test_a_block_with_few_cells_takes_the_looks_of_the_scene():
    side = cfar.BLOCK // cfar.CELL
    looks = np.full((side, 5 * side), np.nan)
    looks[:, : 2 * side] = 9.0
    looks[0, -31:] = 3.0  # one too few
    assert cfar.looks_by_block(looks).tolist() == [[9.0] * 5]
    looks[0, -32:] = 3.0
    assert cfar.looks_by_block(looks).tolist() == [[9.0, 9.0, 9.0, 3.0, 3.0]]
    assert cfar.looks_by_block(np.full((1, 1), 1e6)).tolist() == [[100.0]]


def test_values_of_blocks_at_pixels():
    blocks = np.array([[1.0, 2.0]])
    window = PixelWindow(-2, cfar.BLOCK - 2, 1, 2 * cfar.BLOCK + 5)
    values = cfar.expand_blocks(blocks, window, cfar.BLOCK)
    assert (
        values.shape == (3, cfar.BLOCK + 7)
        and values[0, :3].tolist() == [1, 1, 2]
        and values[2, -1] == 2
    )
