"""What a raster says about its pixels, and how its values become backscatter.

Recognize the product family of a raster by its content, and read what it says about its pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import TYPE_CHECKING, Annotated, NamedTuple, Protocol

from rsft.errors import RequestError
from rsft.utils.command_options import Option

if TYPE_CHECKING:
    from rsft.types import Floats, Plane

BACKSCATTER_UNITS = ("sigma0", "gamma0", "beta0")
"""Units of calibrated values, in the order in which they are preferred: db is 10 log10 sigma0."""


class CalibratedPlane(NamedTuple):
    """Calibrated values of one band.

    Attributes:
        values: (H, W), float32; NaN without data.
        clipped: number of values that were raised to the smallest value above the noise.
    """

    values: Plane
    clipped: int


class Calibration(Protocol):
    """Converts the digital numbers of one band to backscatter."""

    def __call__(self, values: Plane, top: int, left: int) -> CalibratedPlane:
        """Calibrate a window.

        Args:
            values: digital numbers (H, W), float32; 0 and NaN mean no data.
            top: first row of the window.
            left: first column of the window.

        Returns:
            Backscatter, linear, m2/m2.
        """


class AngleGrid(Protocol):
    """Incidence angles of a scene."""

    def __call__(self, rows: Floats, cols: Floats) -> Floats:
        """Return the incidence angles of pixels.

        Args:
            rows: (N,) rows.
            cols: (N,) columns.

        Returns:
            (N,) angles to the vertical in degrees.
        """


@dataclass(frozen=True, eq=False)
class Product:
    """What a raster says about its pixels.

    Attributes:
        kind: name of the product family, such as "Sentinel-1 GRD".
        unit: unit of the stored values, after GDAL's scale and offset and after the modulus; None if unknown.
        calibrations: calibration of each band, by the unit of the result.
        calibration_source: where the calibration comes from, for the notes of a job.
        noise: what is done about thermal noise, for the notes of a job; empty if the product does not say.
        acquired: time of the acquisition in UTC, ISO 8601; None if unknown.
        pass_direction: "ascending" or "descending"; None if unknown.
        incidence: incidence angles; None if unknown.
    """

    kind: str = "raster"
    unit: str | None = None
    calibrations: Mapping[str, tuple[Calibration, ...]] = field(default_factory=dict)
    calibration_source: str = ""
    noise: str = ""
    acquired: str | None = None
    pass_direction: str | None = None
    incidence: AngleGrid | None = None


@dataclass(frozen=True)
class ProductOptions:
    """How the values of a product are read. `rsft predict` has an option for each field."""

    modulus: Annotated[
        bool,
        Option(
            "Take the modulus |z| of complex scenes (SLC). It is amplitude, unless the product has a calibration.",
            panel="Pixels of the input",
        ),
    ] = False
    factor: Annotated[
        float | None,
        Option(
            "Calibration factor F of a scene in digital numbers DN: sigma0 = F * DN^2. Its provider states F "
            "(10^(dB / 10), if in dB). Sentinel-1, Capella and ICEYE products contain their calibration.",
            "--calibrate",
            "Pixels of the input",
            "F",
        ),
    ] = None
    keep_noise: Annotated[
        bool,
        Option(
            "Do not subtract the thermal noise that a Sentinel-1 product lists: for models of chips that contain it.",
            panel="Pixels of the input",
        ),
    ] = False
    asset: Annotated[
        str | None,
        Option(
            "Assets of a STAC item, such as vv or vv,vh (default: those with the role data).",
            panel="Pixels of the input",
            metavar="NAME",
        ),
    ] = None

    def __post_init__(self) -> None:
        if self.factor is not None and not (self.factor > 0 and isfinite(self.factor)):
            message = f"the calibration factor {self.factor:g} is not a positive number"
            raise RequestError(message, "--calibrate", "give the factor F of sigma0 = F * DN^2")


DEFAULT_OPTIONS = ProductOptions()
"""Real values, the product's calibration, without thermal noise."""


@dataclass(frozen=True)
class FactorCalibration:
    """Calibration by one factor: backscatter = factor * DN^2.

    Attributes:
        factor: the factor.
    """

    factor: float

    def __call__(self, values: Plane, top: int, left: int) -> CalibratedPlane:
        """Calibrate a window, see `Calibration`."""
        import numpy as np  # not above: the command line imports this module for its help

        power = values * values * np.float32(self.factor)
        power[values == 0] = np.nan
        return CalibratedPlane(power, 0)
