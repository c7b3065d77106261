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
    "uint8": (_UINT8,),
    "uint16": (_UINT16,),
    "amplitude": (*_FLOATS, _UINT16, _UINT8),
    "intensity": (*_FLOATS, _UINT16),
    "sigma0": _FLOATS,
    "db": _FLOATS,
    "gamma0": _FLOATS,
    "gamma0_db": _FLOATS,
    "beta0": _FLOATS,
    "sentinel1_dn": (_UINT16, *_FLOATS),
}
"""All units with the data types that can carry them, the usual one first.

uint8 and uint16 are digital numbers of unknown meaning, such as photographs and
stretched products. Amplitude is proportional to the field strength, by an unknown
factor; intensity is its square. sigma0, gamma0 and beta0 are calibrated backscatter in
m2/m2: per area on the ground, perpendicular to the line of sight, and in the plane of
the slant range. db and gamma0_db are 10 log10 of sigma0 and gamma0. sentinel1_dn are
the digital numbers of a GRD product of Sentinel-1: amplitude with the scale of ESA's
processor, before calibration."""

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
    " db, gamma0, gamma0_db, beta0 or sentinel1_dn; values below 0 are decibels"
)
"""Hint for pixels whose unit is missing or wrong. It suggests no unit: that of a model
need not be that of a file."""
_DB_RANGE = (-100.0, 60.0)  # below the noise floor of any sensor; above any ship
_LINEAR_MEDIAN = 10.0  # no scene has half of its pixels above 10 dB
_DECIBEL = {"db": "sigma0", "gamma0_db": "gamma0"}
_CALIBRATED = (*_DECIBEL, *_DECIBEL.values(), "beta0")


def _square(x: Any) -> Any:
    return x * x


def _square_root(x: Any) -> Any:
    return array_namespace(x).sqrt(x)


def _to_decibel(x: Any) -> Any:
    # 0 means no data; it becomes -inf, which is masked later
    with np.errstate(divide="ignore"):
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
    ("amplitude", "intensity"): (_square,),
    ("sentinel1_dn", "amplitude"): (),
    ("sentinel1_dn", "intensity"): (_square,),
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
    """Return the unit in `UNITS` that a text such as "dB" names, in any case.

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
    """Return what is missing for a conversion that `convert_unit` does not support."""
    if unit in DIGITAL_UNITS or target in DIGITAL_UNITS:
        return _DIGITAL_HINT
    if unit not in _CALIBRATED or target not in _CALIBRATED:
        return _CALIBRATION_HINT
    unit = _DECIBEL.get(unit, unit)
    target = _DECIBEL.get(target, target)
    hint = _ANGLE_HINT.format(unit, target)
    if (unit, target) == ("gamma0", "sigma0"):
        hint += "; over the sea, --read gamma0-to-sigma0 converts"
    return hint


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
    is_uncalibrated = unit in _CALIBRATED and dtype.kind in "iu"
    raise DataError(
        f"{dtype} pixels, but {unit} is {names}",
        hint=_CALIBRATION_HINT if is_uncalibrated else UNIT_HINT,
    )


def as_float32(pixels: Pixels, path: object = "") -> Pixels:
    """Convert float64 and float16 to float32, which all computations use.

    Other types are returned unchanged.

    Raises:
        DataError: a finite value does not fit into float32.
    """
    if pixels.dtype == np.float32 or pixels.dtype.kind != "f":
        return pixels
    with np.errstate(over="ignore"):
        converted = pixels.astype(np.float32)
    overflow = np.isinf(converted) & np.isfinite(pixels)
    if overflow.any():
        value = float(pixels[overflow][0])
        raise DataError(
            f"the value {value:.4g} does not fit into float32",
            path,
            "declare it as nodata, or replace it",
        )
    return converted


def check_unit(pixels: Pixels, unit: str) -> None:
    """Raise an error if the type and the values of pixels do not suit a unit.

    Raises:
        DataError: the unit is unknown, or does not fit the data type or the values.
    """
    check_dtype(pixels.dtype, unit)
    if pixels.dtype.kind != "f":
        return
    values = pixels[np.isfinite(pixels)]
    if not values.size:
        raise DataError("no pixel has a value", hint="leave the file out")
    low = float(values.min())
    high = float(values.max())
    rule = _broken_rule(unit, low, high, values)
    if rule:
        raise DataError(
            f"values from {low:.4g} to {high:.4g}, but {unit} is {rule}", hint=UNIT_HINT
        )


def _broken_rule(unit: str, low: float, high: float, values: Pixels) -> str:
    """Return which rule of a unit values break; "" if none."""
    if unit in _DECIBEL:
        lowest, highest = _DB_RANGE
        if low >= 0:
            return "somewhere below 0 in every chip"
        if low < lowest or high > highest:
            return f"{lowest:g} to {highest:g}"
        return ""
    if low < 0:
        return "never below 0"
    if unit in _CALIBRATED:
        median = float(np.median(values))
        if median > _LINEAR_MEDIAN:
            return (
                f"{_LINEAR_MEDIAN:g} or less in half of the pixels (the median is"
                f" {median:.4g})"
            )
    return ""
