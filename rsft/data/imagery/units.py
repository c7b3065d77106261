"""Units of pixel values, conversions between them, and checks of a declared unit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from rsft.errors import DataError
from rsft.types import Pixels

_UINT8, _UINT16, _FLOAT32 = np.dtype("uint8"), np.dtype("uint16"), np.dtype("float32")

UNIT_DTYPES: dict[str, tuple[np.dtype[Any], ...]] = {
    "uint8": (_UINT8,),  # digital numbers of unknown meaning: photographs, stretched products
    "uint16": (_UINT16,),
    "amplitude": (_FLOAT32, _UINT16, _UINT8),  # proportional to the field strength, by an unknown factor
    "intensity": (_FLOAT32, _UINT16),  # squared amplitude
    "sigma0": (_FLOAT32,),  # calibrated backscatter, linear, m2/m2
    "db": (_FLOAT32,),  # 10 log10 sigma0
}
"""All units with the data types that can carry them, the usual one first."""

UNITS = tuple(UNIT_DTYPES)
DIGITAL_UNITS = ("uint8", "uint16")

_CALIBRATION_HINT = "the calibration constant is missing: calibrate the scene to sigma0 first, for instance in SNAP"
_DIGITAL_HINT = "digital numbers have no meaning by themselves: declare what they are, for instance amplitude"
_UNIT_HINT = "declare the unit of the chips"
_DB_RANGE = (-100.0, 60.0)  # below the noise floor of any sensor; above any ship
_SIGMA0_MEDIAN = 10.0  # no scene has half of its pixels above 10 dB


def _square_root(x: Pixels) -> Pixels:
    return np.sqrt(x)


def _square(x: Pixels) -> Pixels:
    return x * x


def _to_decibel(x: Pixels) -> Pixels:
    with np.errstate(divide="ignore"):  # 0 means no data; it becomes -inf, which is masked later
        return 10 * np.log10(x)


def _from_decibel(x: Pixels) -> Pixels:
    return 10 ** (x / 10)


def _identity(x: Pixels) -> Pixels:
    return x


_STEPS: dict[tuple[str, str], tuple[Callable[[Pixels], Pixels], ...]] = {
    ("amplitude", "intensity"): (_square,),
    ("intensity", "amplitude"): (_square_root,),
    ("sigma0", "db"): (_to_decibel,),
    ("sigma0", "intensity"): (_identity,),
    ("sigma0", "amplitude"): (_square_root,),
    ("db", "sigma0"): (_from_decibel,),
    ("db", "intensity"): (_from_decibel,),
    ("db", "amplitude"): (_from_decibel, _square_root),
}


def can_convert(unit: str, target: str) -> bool:
    """Return True if `convert_unit` supports this pair of units."""
    return unit == target or (unit, target) in _STEPS


def conversion_hint(unit: str, target: str) -> str:
    """Return a hint what is missing for a conversion that `convert_unit` does not support."""
    return _DIGITAL_HINT if unit in DIGITAL_UNITS or target in DIGITAL_UNITS else _CALIBRATION_HINT


def convert_unit(pixels: Pixels, unit: str, target: str) -> Pixels:
    """Convert pixel values to another unit.

    Args:
        pixels: values of any shape.
        unit: their unit.
        target: the unit to convert to.

    Returns:
        Values of the same shape, float32; unchanged if both units are the same.

    Raises:
        DataError: the conversion is not possible; the hint says what is missing.

    Example:
        >>> convert_unit(np.float32([1.0, 10.0]), "sigma0", "db").tolist()
        [0.0, 10.0]
    """
    if unit == target:
        return pixels
    if (unit, target) not in _STEPS:
        raise DataError(f"{unit} cannot become {target}", hint=conversion_hint(unit, target))
    pixels = pixels.astype(np.float32)
    for step in _STEPS[unit, target]:
        pixels = step(pixels)
    return pixels


def check_unit(pixels: Pixels, unit: str) -> None:
    """Raise an error if `pixels` cannot be in `unit`, judged by their data type and values.

    Args:
        pixels: values of any shape.
        unit: declared unit.

    Raises:
        DataError: the unit is unknown, or does not fit the data type or the values.
    """
    if unit not in UNIT_DTYPES:
        raise DataError(f"unknown unit {unit}; choose one of {', '.join(UNITS)}")
    if pixels.dtype not in UNIT_DTYPES[unit]:
        dtypes = " or ".join(map(str, UNIT_DTYPES[unit]))
        raise DataError(f"{pixels.dtype} pixels, but {unit} is {dtypes}", hint=_UNIT_HINT)
    if pixels.dtype == np.float32:
        _check_range(pixels[np.isfinite(pixels)], unit)


def _check_range(values: Pixels, unit: str) -> None:
    if not values.size:
        raise DataError("no pixel has a value", hint="leave the file out")
    low, high = float(values.min()), float(values.max())
    if unit == "db":
        if low >= 0:
            raise _range_error(unit, low, high, "somewhere below 0 in every chip")
        if low < _DB_RANGE[0] or high > _DB_RANGE[1]:
            raise _range_error(unit, low, high, f"{_DB_RANGE[0]:g} to {_DB_RANGE[1]:g}")
    elif low < 0:
        raise _range_error(unit, low, high, "never below 0")
    elif unit == "sigma0" and (median := float(np.median(values))) > _SIGMA0_MEDIAN:
        rule = f"{_SIGMA0_MEDIAN:g} or less in half of the pixels (the median is {median:.4g})"
        raise _range_error(unit, low, high, rule)


def _range_error(unit: str, low: float, high: float, rule: str) -> DataError:
    return DataError(f"values from {low:.4g} to {high:.4g}, but {unit} is {rule}", hint=_UNIT_HINT)
