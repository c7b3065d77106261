"""The detector has the requested false alarm rate, and finds ships to the pixel."""

from __future__ import annotations

import numpy as np
import pytest

from rsft.inference.detection.detector import CfarWindow, cfar_contrast, cfar_threshold, find_bright_objects
from tests.helpers.scenes import simulate_sea

WINDOW = CfarWindow(8, 16)


def test_threshold_of_one_look():
    cells = WINDOW.cells
    assert cfar_threshold(1e-6, 1, cells) == pytest.approx(cells * (1e-6 ** (-1 / cells) - 1))
    both = cfar_threshold(1e-6, np.array([[1.0], [4.0]]), cells)
    assert both.shape == (2, 1) and both[0, 0] == cfar_threshold(1e-6, 1, cells) > both[1, 0] > 1


@pytest.mark.parametrize("looks", [1, 4])
def test_false_alarm_rate(looks):
    water = simulate_sea(1000, 1000, looks=looks) ** 2
    alarms = cfar_contrast(water, water > 0, WINDOW) > cfar_threshold(1e-3, looks, WINDOW.cells)
    assert alarms.mean() == pytest.approx(1e-3, rel=0.15)


def test_position_and_size_of_a_ship():
    water = simulate_sea(128, 128) ** 2
    water[60:64, 40:60] = 40
    wide = CfarWindow(16, 32)
    ratio = cfar_contrast(water, water > 0, wide)
    (ship,) = find_bright_objects(ratio, ratio > cfar_threshold(1e-6, 4, wide.cells), 1)
    assert (ship.row, ship.col) == pytest.approx((62, 50), abs=0.2)
    assert sorted(ship.sides) == pytest.approx([4, 20]) and ship.contrast == pytest.approx(16, abs=1)


def test_gaps_are_bridged():
    ratio = np.zeros((40, 40), np.float32)
    ratio[10:14, 5:10] = ratio[10:14, 12:17] = 20
    assert len(find_bright_objects(ratio, ratio > 10, 1)) == 2 and len(find_bright_objects(ratio, ratio > 10, 2)) == 1


def test_pixels_without_data_are_ignored():
    water = simulate_sea(64, 64) ** 2
    water[:, :32] = 0
    ratio = cfar_contrast(water, water > 0, WINDOW)
    assert not ratio[:, :32].any() and ratio[:, 33:].mean() == pytest.approx(1, abs=0.05)
    assert not cfar_contrast(water, np.zeros((64, 64), bool), WINDOW).any()
