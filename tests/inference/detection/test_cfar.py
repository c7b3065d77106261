"""False alarms at the rate that was asked for, ships where they are."""

from __future__ import annotations

import numpy as np
import pytest

from rsft.inference.detection.cfar import Rings, blobs, contrast, threshold
from tests.helpers.scenes import sea

RINGS = Rings(8, 16)


def test_one_look_is_the_textbook_factor():
    cells = RINGS.cells
    assert threshold(1e-6, 1, cells) == pytest.approx(cells * (1e-6 ** (-1 / cells) - 1))


@pytest.mark.parametrize("looks", [1, 4])
def test_the_rate_of_false_alarms(looks):
    water = sea(1000, 1000, looks=looks) ** 2
    alarms = contrast(water, water > 0, RINGS) > threshold(1e-3, looks, RINGS.cells)
    assert alarms.mean() == pytest.approx(1e-3, rel=0.15)


def test_a_ship_is_found_to_the_pixel_and_measured():
    water = sea(128, 128) ** 2
    water[60:64, 40:60] = 40
    wide = Rings(16, 32)
    (ship,) = blobs(contrast(water, water > 0, wide), threshold(1e-6, 4, wide.cells), 1)
    assert (ship.row, ship.col) == pytest.approx((62, 50), abs=0.2)
    sides = np.linalg.norm(np.diff(ship.corners[:3], axis=0), axis=1)
    assert sorted(sides) == pytest.approx([4, 20]) and ship.contrast == pytest.approx(16, abs=1)


def test_parts_are_joined_over_a_gap():
    ratio = np.zeros((40, 40), np.float32)
    ratio[10:14, 5:10] = ratio[10:14, 12:17] = 20
    assert len(blobs(ratio, 10, 1)) == 2 and len(blobs(ratio, 10, 2)) == 1


def test_what_has_no_value_neither_alarms_nor_counts():
    water = sea(64, 64) ** 2
    water[:, :32] = 0
    ratio = contrast(water, water > 0, RINGS)
    assert not ratio[:, :32].any() and ratio[:, 33:].mean() == pytest.approx(1, abs=0.05)
    assert not contrast(water, np.zeros((64, 64), bool), RINGS).any()
