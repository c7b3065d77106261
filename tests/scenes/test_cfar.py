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


def bright_pixels(planes, threshold, searched=None, window=WINDOW, area=None):
    """Return the bright pixels of one plane or more, with one threshold for all."""
    planes = np.reshape(planes, (-1, *planes.shape[-2:]))
    size = planes.shape[1:]
    thresholds = np.full((len(planes), 8, 8), float(threshold))
    return cfar.find_bright_pixels(
        planes,
        np.ones(size, bool) if searched is None else searched,
        thresholds,
        area or PixelWindow(0, 0, *size),
        window,
    )


@pytest.mark.parametrize("looks", [1, 4])
def test_false_alarm_rate(looks):
    water = simulate_sea(1000, 1000, looks=looks) ** 2
    alarms = bright_pixels(water, cfar.cfar_threshold(1e-3, looks, WINDOW.cells))
    assert len(alarms.rows) / water.size == pytest.approx(1e-3, rel=0.15)


def ratio_of(plane, valid, window, row, col):
    """Return the ratio of a pixel to the mean of its surroundings, by definition."""

    def square(half_side):
        rows = slice(max(0, row - half_side), row + half_side + 1)
        cols = slice(max(0, col - half_side), col + half_side + 1)
        inside = valid[rows, cols]
        return plane[rows, cols][inside].sum(dtype=np.float64), inside.sum()

    total, count = np.subtract(square(window.outer), square(window.guard))
    if not valid[row, col] or count < window.cells / 4 or total <= 0:
        return 0.0
    return plane[row, col] * count / total


@pytest.mark.parametrize("guard", [2, 8, 13])
@pytest.mark.parametrize("kind", ["water", "holes", "steep", "empty"])
def test_the_pixels_are_those_of_the_definition(guard, kind):
    """Few pixels are computed in full; none of the others is bright."""
    random = np.random.default_rng(guard)
    planes = random.gamma(2, 1.0, (2, 70, 83)).astype(np.float32)
    if kind == "holes":
        planes[:, 20:50, 30:70] = 0
        planes[:, random.random((70, 83)) < 0.4] = 0
    elif kind == "steep":
        planes *= 10.0 ** random.integers(-6, 7, (70, 83))
    elif kind == "empty":
        planes[:] = 0
    searched = random.random((70, 83)) < 0.9
    window = cfar.CfarWindow(guard, 2 * guard)
    area = PixelWindow(cfar.BLOCK - 31, cfar.BLOCK - 44, cfar.BLOCK, cfar.BLOCK)
    thresholds = np.array([[[1.1, 3.0], [2.0, 5.0]], [[4.0, 1.5], [2.5, 1.2]]])
    found = cfar.find_bright_pixels(planes, searched, thresholds, area, window)
    expected = []
    for row, col in np.ndindex(70, 83):
        block = np.s_[:, int(row >= 31), int(col >= 44)]
        ratios = [
            ratio_of(plane, searched & (plane > 0), window, row, col)
            for plane in planes
        ]
        if (np.float32(ratios) > np.float32(thresholds[block])).any():
            expected.append((row, col, max(ratios)))
    rows, cols, ratios = zip(*expected, strict=True) if expected else ((), (), ())
    assert found.rows.tolist() == list(rows) and found.cols.tolist() == list(cols)
    assert found.ratio == pytest.approx(ratios, rel=1e-5)
    assert bool(expected) == (kind != "empty")


def test_position_and_size_of_a_ship():
    water = simulate_sea(128, 128) ** 2
    water[60:64, 40:60] = 40
    wide = cfar.CfarWindow(16, 32)
    threshold = cfar.cfar_threshold(1e-6, 4, wide.cells)
    pixels = bright_pixels(water, threshold, window=wide)
    (ship,) = cfar.find_bright_objects(pixels, water.shape, 1)
    assert (ship.row, ship.col) == pytest.approx((62, 50), abs=0.2)
    assert sorted(ship.sides) == pytest.approx(
        [4, 20]
    ) and ship.contrast == pytest.approx(16, abs=1)


def test_gaps_are_bridged():
    mask = np.zeros((40, 40), bool)
    mask[10:14, 5:10] = mask[10:14, 12:17] = True
    rows, cols = np.nonzero(mask)
    pixels = cfar.BrightPixels(rows, cols, np.full(len(rows), 20, np.float32))
    assert [
        len(cfar.find_bright_objects(pixels, mask.shape, gap)) for gap in (1, 2)
    ] == [2, 1]


def test_pixels_without_data_are_ignored():
    water = simulate_sea(64, 64) ** 2
    water[:, :32] = 0
    pixels = bright_pixels(water, 0)
    assert pixels.cols.min() == 32 and len(pixels.cols) == 64 * 32
    assert pixels.ratio[pixels.cols > 32].mean() == pytest.approx(1, abs=0.05)
    assert not len(bright_pixels(water, 0, np.zeros((64, 64), bool)).rows)


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
