import re

import numpy as np
import pytest

from rsft.data.imagery.units import (
    as_float32,
    can_convert,
    check_dtype,
    check_unit,
    conversion_hint,
    convert_unit,
    parse_unit,
)
from rsft.errors import DataError
from tests.helpers.messages import mentions

CLUTTER = np.array([[0.01, 0.1], [1.0, 100.0]], np.float32)[..., None]


@pytest.mark.parametrize(
    ("unit", "target", "value", "result"),
    [("amplitude", "intensity", 3, 9), ("intensity", "amplitude", 9, 3), ("sigma0", "db", 0.01, -20),
     ("db", "sigma0", -20, 0.01), ("sigma0", "intensity", 0.5, 0.5), ("sigma0", "amplitude", 0.25, 0.5),
     ("db", "amplitude", -20, 0.1), ("db", "intensity", 20, 100), ("gamma0", "gamma0_db", 0.01, -20),
     ("gamma0_db", "gamma0", -20, 0.01), ("gamma0", "intensity", 0.5, 0.5), ("gamma0", "amplitude", 0.25, 0.5),
     ("gamma0_db", "amplitude", -20, 0.1), ("gamma0_db", "intensity", 20, 100), ("beta0", "amplitude", 0.25, 0.5),
     ("sentinel1_dn", "amplitude", 3, 3), ("sentinel1_dn", "intensity", 3, 9)],
)  # fmt: skip
def test_conversions(unit, target, value, result):
    assert convert_unit(np.float32([value]), unit, target) == pytest.approx(
        result, rel=1e-6
    )


def test_the_same_unit_is_not_copied():
    assert convert_unit(CLUTTER, "db", "db") is CLUTTER


def test_zero_becomes_minus_infinity_decibel():
    assert convert_unit(np.float32([0]), "sigma0", "db")[0] == -np.inf


@pytest.mark.parametrize(
    ("unit", "target", "missing"),
    [("amplitude", "sigma0", "--read calibrate"), ("intensity", "db", ".SAFE"), ("uint8", "db", "declare"),
     ("sigma0", "uint8", "declare"), ("uint16", "uint8", "declare"), ("intensity", "gamma0", "calibration"),
     ("sigma0", "gamma0", "process the scene to gamma0, not to sigma0"), ("gamma0", "sigma0", "incidence angle"),
     ("gamma0", "db", "process the scene to sigma0, not to gamma0"), ("db", "gamma0_db", "incidence angle"),
     ("beta0", "db", "process the scene to sigma0, not to beta0")],
)  # fmt: skip
def test_hint_says_what_a_conversion_needs(unit, target, missing):
    assert not can_convert(unit, target)
    with pytest.raises(DataError) as caught:
        convert_unit(CLUTTER, unit, target)
    assert missing in caught.value.hint


@pytest.mark.parametrize(
    ("pixels", "unit"),
    [(CLUTTER, "sigma0"), (10 * np.log10(CLUTTER), "db"), (CLUTTER, "amplitude"),
     (np.array([[[7]]], np.uint8), "amplitude"), (np.array([[[7]]], np.uint16), "intensity"),
     (np.float32([[[-20], [-np.inf], [np.nan]]]), "db"), (CLUTTER.astype(np.float64), "gamma0"),
     (10 * np.log10(CLUTTER).astype(np.float64), "gamma0_db"), (np.float16([[[0.5]]]), "sigma0"), (CLUTTER, "Sigma0")],
)  # fmt: skip
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
        (
            CLUTTER,
            "epsilon0",
            "unknown unit epsilon0; choose one of uint8, .*, gamma0, gamma0_db, beta0",
        ),
        (
            10 * np.log10(CLUTTER).astype(np.float64),
            "sigma0",
            "sigma0 is never below 0",
        ),
        (CLUTTER * 1e4, "gamma0", "gamma0 is 10 or less in half of the pixels"),
        (CLUTTER, "gamma0_db", "gamma0_db is somewhere below 0"),
        (np.complex64([[[1j]]]), "sigma0", "complex64 pixels, but sigma0 is float32"),
        (np.full((2, 2, 1), np.nan, np.float32), "db", "no pixel has a value"),
    ],
)
def test_implausible_unit_is_an_error(pixels, unit, message):
    with pytest.raises(DataError, match=message):
        check_unit(pixels, unit)


@pytest.mark.parametrize("text", ["dB", "DB", " db "])
def test_units_are_read_in_any_case(text):
    assert parse_unit(text) == "db"


def test_data_types_are_checked_without_pixels():
    check_dtype("float64", "gamma0")
    check_dtype("uint16", "amplitude")
    with pytest.raises(
        DataError, match=mentions("uint16 pixels", "sigma0 is float32")
    ) as caught:
        check_dtype("uint16", "sigma0")
    assert "--read calibrate" in caught.value.hint
    with pytest.raises(
        DataError, match=mentions("float32 pixels", "uint16 is uint16")
    ) as caught:
        check_dtype("float32", "uint16")
    assert "--unit" in caught.value.hint


def test_doubles_become_float32():
    doubles = np.array([[-20.125, np.nan], [np.inf, 1e30]])
    converted = as_float32(doubles)
    assert (
        converted.dtype == np.float32
        and converted[0, 0] == np.float32(-20.125)
        and converted[1, 0] == np.inf
    )
    assert (
        as_float32(CLUTTER) is CLUTTER and as_float32(np.uint16([7])).dtype == np.uint16
    )
    with pytest.raises(DataError, match=r"-1.798e\+308 does not fit") as caught:
        as_float32(np.array([0.5, -1.7976931348623157e308]))
    assert "nodata" in caught.value.hint


@pytest.mark.parametrize(
    ("unit", "target", "words"),
    [
        ("uint16", "sigma0", "digital numbers"),
        ("sigma0", "uint8", "digital numbers"),
        ("amplitude", "sigma0", "calibration constant"),
        ("beta0", "amplitude", "calibration constant"),
        ("gamma0_db", "db", "gamma0 and sigma0 differ by.*--read gamma0-to-sigma0"),
        ("sigma0", "gamma0", "not to sigma0$"),
    ],
)
def test_what_a_conversion_needs(unit, target, words):
    assert re.search(words, conversion_hint(unit, target))
