import numpy as np
import pytest

from rsft.data.imagery.units import UNITS, can_convert, check_unit, convert_unit
from rsft.errors import DataError

CLUTTER = np.array([[0.01, 0.1], [1.0, 100.0]], np.float32)[..., None]


@pytest.mark.parametrize(
    ("unit", "target", "value", "result"),
    [
        ("amplitude", "intensity", 3, 9),
        ("intensity", "amplitude", 9, 3),
        ("sigma0", "db", 0.01, -20),
        ("db", "sigma0", -20, 0.01),
        ("sigma0", "intensity", 0.5, 0.5),
        ("sigma0", "amplitude", 0.25, 0.5),
        ("db", "amplitude", -20, 0.1),
        ("db", "intensity", 20, 100),
    ],
)
def test_conversions(unit, target, value, result):
    assert convert_unit(np.float32([value]), unit, target) == pytest.approx(result, rel=1e-6)


def test_the_same_unit_is_not_copied():
    assert convert_unit(CLUTTER, "db", "db") is CLUTTER


def test_zero_becomes_minus_infinity_decibel():
    assert convert_unit(np.float32([0]), "sigma0", "db")[0] == -np.inf


@pytest.mark.parametrize(
    ("unit", "target", "missing"),
    [("amplitude", "sigma0", "calibration"), ("intensity", "db", "calibration"), ("uint8", "db", "declare"),
     ("sigma0", "uint8", "declare"), ("uint16", "uint8", "declare")],
)  # fmt: skip
def test_hint_says_what_a_conversion_needs(unit, target, missing):
    assert not can_convert(unit, target)
    with pytest.raises(DataError) as caught:
        convert_unit(CLUTTER, unit, target)
    assert missing in caught.value.hint


def test_every_unit_can_be_converted_to_itself():
    assert all(can_convert(unit, unit) for unit in UNITS)


@pytest.mark.parametrize(
    ("pixels", "unit"),
    [
        (CLUTTER, "sigma0"),
        (10 * np.log10(CLUTTER), "db"),
        (CLUTTER, "amplitude"),
        (np.array([[[7]]], np.uint8), "amplitude"),
        (np.array([[[7]]], np.uint16), "intensity"),
        (np.float32([[[-20], [-np.inf], [np.nan]]]), "db"),
    ],
)
def test_plausible_values_pass(pixels, unit):
    check_unit(pixels, unit)


@pytest.mark.parametrize(
    ("pixels", "unit", "message"),
    [
        (10 * np.log10(CLUTTER), "sigma0", "sigma0 is never below 0"),
        (10 * np.log10(CLUTTER), "amplitude", "amplitude is never below 0"),
        (CLUTTER, "db", "db is somewhere below 0"),
        (CLUTTER * 1e4, "sigma0", "10 or less in half of the pixels"),
        (CLUTTER * 1e4 - 500, "db", "db is -100 to 60"),
        (CLUTTER.astype(np.uint8), "sigma0", "uint8 pixels, but sigma0 is float32"),
        (CLUTTER, "uint8", "float32 pixels, but uint8 is uint8"),
        (CLUTTER, "gamma0", "unknown unit gamma0"),
        (np.full((2, 2, 1), np.nan, np.float32), "db", "no pixel has a value"),
    ],
)
def test_implausible_unit_is_an_error(pixels, unit, message):
    with pytest.raises(DataError, match=message):
        check_unit(pixels, unit)
