"""Units of pixel values, conversions between them, and checks of a declared unit."""

from collections.abc import Callable
from typing import Any

import numpy as np

from rsft.errors import DataError
from rsft.types import Pixels
from rsft.utils.array_namespace import array_namespace, to_float

_UINT8 = np.dtype("uint8")
_UINT16 = np.dtype("uint16")
_FLOATS = np.dtype("float32"), np.dtype("float64"), np.dtype("float16")

UNIT_DTYPES: dict[str, tuple[np.dtype[Any], ...]] = {
    "uint8": (
        _UINT8,
    ),  # digital numbers of unknown meaning: photographs, stretched products
    "uint16": (_UINT16,),
    "amplitude": (
        *_FLOATS,
        _UINT16,
        _UINT8,
    ),  # proportional to the field strength, by an unknown factor
    "intensity": (*_FLOATS, _UINT16),  # squared amplitude
    "sigma0": _FLOATS,  # calibrated backscatter per area on the ground, linear, m2/m2
    "db": _FLOATS,  # 10 log10 sigma0
    "gamma0": (
        _FLOATS
    ),  # calibrated backscatter per area perpendicular to the line of sight, linear, m2/m2
    "gamma0_db": _FLOATS,  # 10 log10 gamma0
    "beta0": (
        _FLOATS
    ),  # calibrated backscatter per area in the slant range plane, linear, m2/m2
}
"""All units with the data types that can carry them, the usual one first."""

UNITS = tuple(UNIT_DTYPES)
DIGITAL_UNITS = ("uint8", "uint16")
DECIBEL_UNITS = ("db", "gamma0_db")
POWER_UNITS = ("intensity", "sigma0", "gamma0", "beta0")

_CALIBRATION_HINT = (
    "the calibration constant is missing: give the .SAFE folder of a Sentinel-1 GRD"
    " product, which contains it, or the factor of another product with --read"
    " calibrate=F"
)
_ANGLE_HINT = (
    "{0} and {1} differ by the local incidence angle: process the scene to {1}, not"
    " to {0}"
)
_DIGITAL_HINT = (
    "digital numbers have no meaning by themselves: declare what they are, for instance"
    " amplitude"
)
UNIT_HINT = (
    "declare the unit that the pixels have, with --unit: amplitude, intensity, sigma0,"
    " db, gamma0, gamma0_db or beta0; values below 0 are decibels"
)
"""Hint for pixels whose unit is missing or wrong. It suggests no unit: that of a model
need not be that of a file."""
_DB_RANGE = (-100.0, 60.0)  # below the noise floor of any sensor; above any ship
_LINEAR_MEDIAN = 10.0  # no scene has half of its pixels above 10 dB
_DECIBEL = {"db": "sigma0", "gamma0_db": "gamma0"}
_CALIBRATED = (*_DECIBEL, *_DECIBEL.values(), "beta0")


def _square_root(x: Any) -> Any:
    return array_namespace(x).sqrt(x)


def _to_decibel(x: Any) -> Any:
    with np.errstate(
        divide="ignore"
    ):  # 0 means no data; it becomes -inf, which is masked later
        return 10 * array_namespace(x).log10(x)


def _from_decibel(x: Pixels) -> Pixels:
    return 10 ** (x / 10)


_Steps = tuple[Callable[[Pixels], Pixels], ...]


def _calibrated_steps(linear: str, decibel: str) -> dict[tuple[str, str], _Steps]:
    """Return the conversions of a calibrated unit and its decibels.

    No conversion leads from sigma0 to gamma0.
    """
    return {
        (linear, decibel): (_to_decibel,),
        (linear, "intensity"): (),
        (linear, "amplitude"): (_square_root,),
        (decibel, linear): (_from_decibel,),
        (decibel, "intensity"): (_from_decibel,),
        (decibel, "amplitude"): (_from_decibel, _square_root),
    }


_STEPS: dict[tuple[str, str], _Steps] = {
    ("amplitude", "intensity"): (lambda amplitude: amplitude * amplitude,),
    ("intensity", "amplitude"): (_square_root,),
    **_calibrated_steps("sigma0", "db"),
    **_calibrated_steps("gamma0", "gamma0_db"),
    ("beta0", "intensity"): (),
    ("beta0", "amplitude"): (_square_root,),
}


QUANTITIES = {
    "sigma0": "backscatter sigma0, linear",
    "db": "backscatter sigma0 in decibels",
    "gamma0": "backscatter gamma0, linear",
    "gamma0_db": "backscatter gamma0 in decibels",
    "beta0": "radar brightness beta0, linear",
}
"""What the calibrated units measure."""


def parse_unit(text: str) -> str:
    """Return the unit in `UNITS` that a text names, in upper or lower case, such as "dB".

    Raises:
        DataError: the text is not a unit; the message lists all units.

    Example:
        >>> parse_unit("Sigma0")
        'sigma0'
    """
    unit = text.strip().lower()
    if unit not in UNIT_DTYPES:
        raise DataError(f"unknown unit {text}; choose one of {', '.join(UNITS)}")
    return unit


def can_convert(unit: str, target: str) -> bool:
    """Return True if `convert_unit` supports this pair of units."""
    return unit == target or (unit, target) in _STEPS


def conversion_hint(unit: str, target: str) -> str:
    """Return a hint what is missing for a conversion that `convert_unit` does not support."""
    if unit in DIGITAL_UNITS or target in DIGITAL_UNITS:
        return _DIGITAL_HINT
    if unit in _CALIBRATED and target in _CALIBRATED:
        unit = _DECIBEL.get(unit, unit)
        target = _DECIBEL.get(target, target)
        if (unit, target) == ("gamma0", "sigma0"):
            sea = "; over the sea, --read gamma0-to-sigma0 converts"
        else:
            sea = ""
        return _ANGLE_HINT.format(unit, target) + sea
    return _CALIBRATION_HINT


def convert_unit(pixels: Pixels, unit: str, target: str) -> Pixels:
    """Convert pixel values to another unit.

    Args:
        pixels: values of any shape, an array or a tensor.
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
    if not can_convert(unit, target):
        raise DataError(
            f"{unit} cannot become {target}", hint=conversion_hint(unit, target)
        )
    pixels = to_float(pixels)
    for step in _STEPS[unit, target]:
        pixels = step(pixels)
    return pixels


def check_dtype(dtype: Any, unit: str) -> None:
    """Raise an error if pixels of a data type cannot be in a unit.

    Pixels are not needed for this check.

    Raises:
        DataError: the unit is unknown, or the data type cannot carry it.
    """
    dtype = np.dtype(dtype)
    accepted = UNIT_DTYPES[parse_unit(unit)]
    if dtype in accepted:
        return
    names = " or ".join(str(other) for other in accepted if other not in _FLOATS[1:])
    if unit in _CALIBRATED and dtype.kind in "iu":
        hint = _CALIBRATION_HINT
    else:
        hint = UNIT_HINT
    raise DataError(f"{dtype} pixels, but {unit} is {names}", hint=hint)


def as_float32(pixels: Pixels, path: object = "") -> Pixels:
    """Convert float64 and float16 to float32, which all computations use; return other types unchanged.

    Returns:
        Values of the same shape.

    Raises:
        DataError: a finite value does not fit into float32.
    """
    if pixels.dtype == np.float32 or pixels.dtype.kind != "f":
        return pixels
    with np.errstate(over="ignore"):
        converted = pixels.astype(np.float32)
    overflow = np.isinf(converted) & np.isfinite(pixels)
    if overflow.any():
        raise DataError(
            f"the value {float(pixels[overflow].flat[0]):.4g} does not fit into float32",
            path,
            "declare it as nodata, or replace it",
        )
    return converted


def check_unit(pixels: Pixels, unit: str) -> None:
    """Raise an error if `pixels` cannot be in `unit`, judged by their data type and values.

    Raises:
        DataError: the unit is unknown, or does not fit the data type or the values.
    """
    unit = parse_unit(unit)
    check_dtype(pixels.dtype, unit)
    if pixels.dtype.kind != "f":
        return
    values = pixels[np.isfinite(pixels)]
    if not values.size:
        raise DataError("no pixel has a value", hint="leave the file out")
    low, high = float(values.min()), float(values.max())
    rule = ""
    if unit in _DECIBEL and low >= 0:
        rule = "somewhere below 0 in every chip"
    elif unit in _DECIBEL and (low < _DB_RANGE[0] or high > _DB_RANGE[1]):
        rule = f"{_DB_RANGE[0]:g} to {_DB_RANGE[1]:g}"
    elif unit not in _DECIBEL and low < 0:
        rule = "never below 0"
    elif (
        unit in _CALIBRATED
        and unit not in _DECIBEL
        and (median := float(np.median(values))) > _LINEAR_MEDIAN
    ):
        rule = (
            f"{_LINEAR_MEDIAN:g} or less in half of the pixels (the median is"
            f" {median:.4g})"
        )
    if rule:
        if low == high:
            values_text = f"the value {low:.4g}"
        else:
            values_text = f"values from {low:.4g} to {high:.4g}"
        raise DataError(f"{values_text}, but {unit} is {rule}", hint=UNIT_HINT)
