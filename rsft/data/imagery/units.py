"""What a number in a chip measures, where one unit becomes another, and when a declared unit cannot be true."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from rsft.errors import DataError
from rsft.types import Pixels

_BYTE, _SHORT, _FLOAT = np.dtype("uint8"), np.dtype("uint16"), np.dtype("float32")

UNIT_DTYPES: dict[str, tuple[np.dtype[Any], ...]] = {
    "uint8": (_BYTE,),  # digital numbers of unknown meaning: pictures, stretched products
    "uint16": (_SHORT,),
    "amplitude": (_FLOAT, _SHORT, _BYTE),  # proportional to the field; the factor is unknown
    "intensity": (_FLOAT, _SHORT),  # its square
    "sigma0": (_FLOAT,),  # calibrated backscatter, linear, m2/m2
    "db": (_FLOAT,),  # 10 log10 sigma0
}
"""Every unit a chip may have, with the number types that carry it; the first is the usual one."""

UNITS = tuple(UNIT_DTYPES)
DIGITAL_UNITS = ("uint8", "uint16")

_CALIBRATION = "the calibration constant is missing: calibrate the scene to sigma0 first, for instance in SNAP"
_MEANING = "digital numbers have no meaning by themselves: declare what they are, for instance amplitude"
_DB_RANGE = (-100.0, 60.0)  # below any noise floor, above any ship
_SIGMA0_MEDIAN = 10.0  # half of a chip above 10 dB is no backscatter


def _root(x: Pixels) -> Pixels:
    return np.sqrt(x)


def _square(x: Pixels) -> Pixels:
    return x * x


def _decibel(x: Pixels) -> Pixels:
    with np.errstate(divide="ignore"):  # zero is no data, and becomes -inf, which is masked
        return 10 * np.log10(x)


def _linear(x: Pixels) -> Pixels:
    return 10 ** (x / 10)


def _same(x: Pixels) -> Pixels:
    return x


_STEPS: dict[tuple[str, str], tuple[Callable[[Pixels], Pixels], ...]] = {
    ("amplitude", "intensity"): (_square,),
    ("intensity", "amplitude"): (_root,),
    ("sigma0", "db"): (_decibel,),
    ("sigma0", "intensity"): (_same,),
    ("sigma0", "amplitude"): (_root,),
    ("db", "sigma0"): (_linear,),
    ("db", "intensity"): (_linear,),
    ("db", "amplitude"): (_linear, _root),
}


def can_convert(unit: str, wanted: str) -> bool:
    """Whether `convert` knows a way."""
    return unit == wanted or (unit, wanted) in _STEPS


def conversion_hint(unit: str, wanted: str) -> str:
    """What is missing where `convertible` says no."""
    return _MEANING if unit in DIGITAL_UNITS or wanted in DIGITAL_UNITS else _CALIBRATION


def convert_unit(pixels: Pixels, unit: str, wanted: str) -> Pixels:
    """`pixels` of any shape in another unit, as float32; unchanged where the unit is the wanted one.

    Raises:
        DataError: there is no way, and what is missing.
    """
    if unit == wanted:
        return pixels
    if (unit, wanted) not in _STEPS:
        raise DataError(f"{unit} cannot become {wanted}", hint=conversion_hint(unit, wanted))
    pixels = pixels.astype(np.float32)
    for step in _STEPS[unit, wanted]:
        pixels = step(pixels)
    return pixels


def check_unit(pixels: Pixels, unit: str) -> None:
    """Whether `pixels` can be in `unit`: number type, and values that the unit can have.

    Raises:
        DataError: they cannot, and why.
    """
    if unit not in UNIT_DTYPES:
        raise DataError(f"unknown unit {unit}; choose one of {', '.join(UNITS)}")
    if pixels.dtype not in UNIT_DTYPES[unit]:
        wanted = " or ".join(map(str, UNIT_DTYPES[unit]))
        raise DataError(f"{pixels.dtype} pixels, but {unit} is {wanted}", hint="declare the unit that the chips have")
    if pixels.dtype == np.float32:
        _check_values(pixels[np.isfinite(pixels)], unit)


def _check_values(values: Pixels, unit: str) -> None:
    if not values.size:
        raise DataError("no pixel has a value", hint="leave the file out")
    low, high = float(values.min()), float(values.max())
    if unit == "db":
        if low >= 0:
            raise _outside(unit, low, high, "somewhere below 0 in every chip")
        if low < _DB_RANGE[0] or high > _DB_RANGE[1]:
            raise _outside(unit, low, high, f"{_DB_RANGE[0]:g} to {_DB_RANGE[1]:g}")
    elif low < 0:
        raise _outside(unit, low, high, "never below 0")
    elif unit == "sigma0" and (median := float(np.median(values))) > _SIGMA0_MEDIAN:
        raise _outside(unit, low, high, f"{_SIGMA0_MEDIAN:g} or less in half of the pixels (here {median:.4g})")


def _outside(unit: str, low: float, high: float, rule: str) -> DataError:
    return DataError(
        f"values from {low:.4g} to {high:.4g}, but {unit} is {rule}", hint="declare the unit that the chips have"
    )
