import numpy as np
import pytest

from rsft.data.imagery.stretch import (
    CHIP_MAX,
    IDENTITY_STRETCH,
    Statistics,
    Stretch,
    measure_planes,
    needs_measuring,
    stretch_from_statistics,
    stretches_from_option,
)
from rsft.errors import DataError, RequestError


def stretched(stretch, *values):
    return stretch.to_bytes(np.float32([values])).tolist()[0]


@pytest.mark.parametrize(
    ("stretch", "values", "result"),
    [
        (Stretch(low=-25, high=0), (-30, -25, -12.5, 0, 9), [0, 0, 128, 255, 255]),
        (Stretch(low=0, high=1000), (0, 500, 65535), [0, 128, 255]),
        (Stretch(curve="log1p", low=0, high=np.e**2 - 1), (0, np.e - 1, 100), [0, 128, 255]),
        (CHIP_MAX, (0, 2, 4), [0, 128, 255]),
        (CHIP_MAX, (0, 20, 40), [0, 128, 255]),  # the factor cancels
        (Stretch(low=-25, high=0), (-np.inf, np.nan, np.inf, -12.5), [0, 0, 0, 128]),  # no value, no light
        (CHIP_MAX, (np.nan, np.inf, 4), [0, 0, 255]),
    ],
)
def test_to_bytes(stretch, values, result):
    assert stretched(stretch, *values) == result


def test_one_pixel_in_ten_thousand_is_brighter_than_white():
    plane = np.full((100, 100), 2, np.float32)
    plane[0, :3] = 1000, 4, 1
    assert CHIP_MAX.to_bytes(plane)[0, :4].tolist() == [255, 255, 64, 128]


def test_bytes_stay():
    plane = np.uint8([[0, 7, 255]])
    assert IDENTITY_STRETCH.to_bytes(plane) is plane


def test_a_chip_without_light():
    with pytest.raises(DataError, match="no value lies above 0"):
        stretched(CHIP_MAX, 0, -1)


def test_measured_in_one_pass():
    rng = np.random.default_rng(0)
    chips = [rng.gamma(4, 0.01, (50, 50)).astype(np.float32) for _ in range(40)]
    values = np.stack(chips)
    (found,) = measure_planes([chip] for chip in chips)
    assert found.low == pytest.approx(np.percentile(values, 0.5), rel=2e-3)
    assert found.high == pytest.approx(np.percentile(values, 99.5), rel=2e-3)
    assert found.mean == pytest.approx(values.mean(), rel=1e-3)
    assert found.std == pytest.approx(values.std(), rel=2e-3)
    assert found.masked == 0


def test_zeros_and_what_is_not_finite_are_no_data():
    plane = np.float32([[0, np.nan, -np.inf, -20, -10, -30, -20, 0]])
    (found,) = measure_planes([[plane]])
    assert found.masked == 0.5
    assert found.mean == pytest.approx(-20, rel=1e-3)
    assert (found.low, found.high) == pytest.approx((-30, -10), rel=1e-3)


def test_planes_are_measured_apart():
    found = measure_planes([[np.full((2, 2), 3, np.uint16), np.full((2, 2), -5, np.float32)]])
    assert [each.mean for each in found] == pytest.approx([3, -5], rel=1e-3)


def test_nothing_to_measure():
    with pytest.raises(DataError, match="no pixel"):
        measure_planes([[np.zeros((4, 4), np.float32)]])


@pytest.mark.parametrize(
    ("low", "high", "limits"),
    [(0.1, 7, (0, 7)), (-30, 3, (-30, 3)), (-30, -10, (-30, -10)), (5, 5, (0, 5)), (-5, -5, (-5, -4))],
)
def test_black_is_zero_where_nothing_is_negative(low, high, limits):
    found = stretch_from_statistics("auto", Statistics(low=low, high=high, mean=0, std=1, masked=0))
    assert (found.low, found.high, found.curve) == (*limits, "linear")


def test_declared():
    assert stretches_from_option("chip-max", 2) == (CHIP_MAX, CHIP_MAX)
    assert stretches_from_option("auto", 1) == (IDENTITY_STRETCH,)
    one, two = Stretch(low=-25, high=0), Stretch(low=0, high=9)
    assert stretches_from_option(((-25, 0),), 2) == (one, one)
    assert stretches_from_option(((-25, 0), (0, 9)), 2) == (one, two)
    with pytest.raises(RequestError, match="2 pairs of limits for 3 planes"):
        stretches_from_option(((-25, 0), (0, 9)), 3)


@pytest.mark.parametrize(
    ("wish", "unit", "needed"),
    [("auto", "uint8", False), ("auto", "db", True), ("percentile", "uint8", True), ("log1p", "sigma0", True),
     ("chip-max", "sigma0", False), (((0, 1),), "db", False)],
)  # fmt: skip
def test_what_needs_measuring(wish, unit, needed):
    assert needs_measuring(wish, unit) is needed
