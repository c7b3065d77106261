"""The length of an object: of its outline, and of bright pixels."""

import numpy as np
import pandas as pd
import pytest

from rsft.data.imagery.reader import read_chip
from rsft.scenes.lengths import (
    annotated_length,
    box_length,
    bright_length,
    bright_pixels,
    measure_length,
    measured_length,
)
from tests.helpers.scenes import simulate_sea, toy_contract


def test_boxes():
    assert box_length((0, 0, 10, 0, 10, 4, 0, 4), (10, 10)) == 100
    assert box_length((0, 0, 3, 4, 6, 0, 3, -4), (2, 1)) == pytest.approx(52**0.5)
    assert box_length((0, 0, 10, 0, 10, 4, 0, 4), (1, 5)) == 20


def test_interval_of_a_box():
    tilted = annotated_length((0, 0, 3, 4, 6, 0, 3, -4), (10, 10))
    assert tilted == {
        "length_m": 50,
        "length_m_low": 40,
        "length_m_high": 60,
        "length_from": "box",
    }
    # the ship may lie along the diagonal
    upright = annotated_length((0, 0, 0, 40, 30, 40, 30, 0), (10, 10))
    assert upright == {
        "length_m": 400,
        "length_m_low": 390,
        "length_m_high": 510,
        "length_from": "box",
    }
    pixel = annotated_length((5, 5, 5, 6, 6, 6, 6, 5), (10, 20))
    assert (pixel["length_m_low"], pixel["length_m_high"]) == (
        0,
        pytest.approx(20 + 500**0.5, abs=0.1),
    )
    point = annotated_length((5, 5) * 4, (10, 10))
    assert point == {
        "length_m": 0,
        "length_m_low": 0,
        "length_m_high": 10,
        "length_from": "box",
    }


def test_interval_of_bright_pixels():
    columns = measured_length(220, (10, 10), "pixels")
    assert columns == {
        "length_m": 200,
        "length_m_low": 140,
        "length_m_high": 320,
        "length_from": "pixels",
    }
    speck = measured_length(10, (10, 10), "detection")  # shorter than the blur
    assert speck == {
        "length_m": 10,
        "length_m_low": 0,
        "length_m_high": 92,
        "length_from": "detection",
    }


def ship(rows, cols):
    water = simulate_sea(64, 64, looks=10) ** 2
    water[rows, cols] = 50
    return bright_pixels(water[:, :, None], "intensity")


@pytest.mark.parametrize(
    ("rows", "cols", "meters"),
    [
        (slice(30, 34), slice(20, 44), 240),
        (slice(20, 40), slice(31, 34), 400),
        (slice(0, 40), slice(31, 34), None),
        (slice(2, 4), slice(2, 4), None),
        (slice(0, 0), slice(0, 0), None),
    ],
)
def test_bright_pixels(rows, cols, meters):
    assert bright_length(ship(rows, cols), (20, 10)) == meters


def test_no_pixels():
    for dtype in (float, np.uint8):
        mask = bright_pixels(np.zeros((8, 8, 1), dtype), "amplitude")
        assert bright_length(mask, (1, 1)) is None


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("count", [63, 64])  # the median is one value, or two
def test_digital_numbers_have_the_median_of_their_intensities(dtype, count):
    chip = np.zeros((8, 8, 1), dtype)
    values = np.arange(count) * (250 // count) + 3
    chip.flat[:count] = np.random.default_rng(0).permutation(values)
    for limit in (12, 13, 300):
        chip[0, 0] = min(limit, 255)
        expected = bright_pixels(chip.astype(np.float64), "amplitude")
        np.testing.assert_array_equal(bright_pixels(chip, "amplitude"), expected)


@pytest.mark.realdata
def test_against_lengths_from_ais(shared):
    root = shared("opensarship")
    rows = pd.read_csv(root / "chips.csv")
    pairs = []
    for row in rows[rows["scene"].str.contains("GRDH")].itertuples():
        path = root / row.scene / "Patch_Cal" / row.file
        if path.exists():
            mask = bright_pixels(read_chip(path), "intensity")
            length = bright_length(mask, (10, 10))
            pairs.append((row.length_overall_m, np.nan if length is None else length))
    reported, measured = np.array(pairs)[~np.isnan(pairs).any(axis=1)].T
    assert (len(pairs), len(reported)) == (122, 102)
    assert np.median(np.abs(measured / reported - 1)) == pytest.approx(0.23, abs=0.005)
    assert (
        np.median(measured - reported) == pytest.approx(22, abs=1)
        and np.corrcoef(reported, measured)[0, 1] > 0.86
    )
    table = pd.DataFrame(
        [measured_length(meters, (10, 10), "pixels") for meters in measured]
    )
    assert np.median(np.abs(table["length_m"] / reported - 1)) == pytest.approx(
        0.13, abs=0.005
    )
    assert (table["length_m_low"].to_numpy() <= reported).mean() == pytest.approx(
        0.99, abs=0.005
    )
    assert table["length_m_high"].ge(reported).mean() == pytest.approx(0.96, abs=0.005)


def test_only_radar_chips_of_known_spacing_have_a_length():
    pixels = np.ones((8, 8, 1), np.uint8)
    gray = toy_contract(bands=("gray",), planes=("gray",) * 3)
    assert measure_length(pixels, None, None, toy_contract()) == {}
    assert measure_length(pixels, None, (10, 10), gray) == {}
