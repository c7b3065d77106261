"""Calibrations of digital numbers to backscatter."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from rsft.data.imagery.products.line_table import LineTable
from rsft.types import Floats, Plane


class CalibratedPlane(NamedTuple):
    """Calibrated values of one band.

    Attributes:
        values: (H, W), float32; NaN without data.
        clipped: number of values that were raised to the smallest value above the
            noise.
    """

    values: Plane
    clipped: int


Calibration = Callable[[Plane, int, int], CalibratedPlane]
"""Digital numbers (H, W) float32 of one band, 0 and NaN without data, first row and
first column of the window -> linear backscatter in m2/m2."""


@dataclass(frozen=True)
class FactorCalibration:
    """Calibration by one factor: backscatter = factor * DN^2."""

    factor: float

    def __post_init__(self) -> None:
        if not 0 < self.factor < np.inf:
            raise ValueError(
                f"the calibration factor {self.factor:g} is not a positive number"
            )

    def __call__(self, values: Plane, top: int, left: int) -> CalibratedPlane:
        """Calibrate a window, see `Calibration`."""
        return _mask(values * values * np.float32(self.factor), values)


@dataclass(frozen=True, eq=False)
class ScaledCalibration:
    """Calibration by a factor for each pixel: backscatter = (DN^2 + offset) * factor.

    Attributes:
        factors: first and last row, first and last column of a window, without the last
            ones -> factors (H, W).
        offset: added to the squared digital numbers.
    """

    factors: Callable[[int, int, int, int], Floats]
    offset: float = 0.0

    def __call__(self, values: Plane, top: int, left: int) -> CalibratedPlane:
        """Calibrate a window, see `Calibration`."""
        factors = self.factors(top, top + values.shape[0], left, left + values.shape[1])
        power = (values.astype(np.float64) ** 2 + self.offset) * factors
        return _mask(power.astype(np.float32), values)


@dataclass(frozen=True, eq=False)
class CosineCalibration:
    """Conversion of gamma0 to sigma0 = gamma0 * cos(theta).

    Attributes:
        incidence: theta in degrees.
        calibration: calibration of digital numbers to gamma0; None if the values are
            gamma0.
        is_decibel: whether the values are decibels of gamma0.
    """

    incidence: LineTable
    calibration: Calibration | None
    is_decibel: bool

    def __call__(self, values: Plane, top: int, left: int) -> CalibratedPlane:
        """Convert a window, see `Calibration`."""
        height, width = values.shape
        angles = self.incidence.window(top, top + height, left, left + width)
        gamma0 = values
        clipped = 0
        if self.calibration:
            gamma0, clipped = self.calibration(values, top, left)
        if self.is_decibel:
            gamma0 = 10 ** (gamma0 / 10)
        sigma0 = (gamma0 * np.cos(np.radians(angles))).astype(np.float32)
        return _mask(sigma0, values, clipped)


def _mask(power: Plane, values: Plane, clipped: int = 0) -> CalibratedPlane:
    """Return the backscatter of digital numbers, of which 0 is no data."""
    power[values == 0] = np.nan
    return CalibratedPlane(power, clipped)
