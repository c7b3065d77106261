"""What a raster says about its pixels, and how its values become backscatter.

Recognize the product family of a raster by its content, and read what it says about its pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol

import numpy as np

from rsft.data.imagery.products.sentinel1 import SafeFolder, read_sentinel1
from rsft.data.imagery.products.stored_values import is_complex, unit_from_tags
from rsft.data.imagery.products.vendor_tags import read_vendor_product
from rsft.errors import DataError, RequestError
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
    """How the values of a product are read.

    Attributes:
        modulus: whether complex values are replaced by their modulus.
        factor: calibration factor of the digital numbers, sigma0 = factor * DN^2; None takes that of the product.
        keep_noise: whether thermal noise remains in calibrated values.
        asset: names of the assets of a STAC item, separated by commas; None takes its data assets.
    """

    modulus: bool = False
    factor: float | None = None
    keep_noise: bool = False
    asset: str | None = None

    def __post_init__(self) -> None:
        if self.factor is not None and not (self.factor > 0 and np.isfinite(self.factor)):
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
        power = values * values * np.float32(self.factor)
        power[values == 0] = np.nan
        return CalibratedPlane(power, 0)


def read_product(
    path: object, handles: Sequence[Any], safe_folder: SafeFolder | None, options: ProductOptions
) -> Product:
    """Read what a raster says about its pixels.

    Args:
        path: path of the scene, for errors.
        handles: the datasets of the scene, opened by rasterio.
        safe_folder: the Sentinel-1 product to which they belong; None for any other file.
        options: the user's options.

    Returns:
        The product. With `options.factor`, its only calibration is that factor.

    Raises:
        DataError: the values are complex and their modulus is not requested, or the description is damaged.
        RequestError: an option contradicts the file.
    """
    _check_options(path, handles, safe_folder, options)
    if safe_folder is not None:
        product = read_sentinel1(safe_folder, options.keep_noise)
    else:
        product = read_vendor_product(handles) or Product()
    unit = unit_from_tags([unit for file in handles for unit in file.units], path) or product.unit
    if unit is None and options.modulus:
        unit = "amplitude"
    product = replace(product, unit=unit)
    if options.factor is None:
        return product
    return _with_factor(path, product, options.factor, sum(file.count for file in handles))


def _check_options(
    path: object, handles: Sequence[Any], safe_folder: SafeFolder | None, options: ProductOptions
) -> None:
    dtypes = sorted({dtype for file in handles for dtype in file.dtypes})
    complex_dtypes = [dtype for dtype in dtypes if is_complex(dtype)]
    if complex_dtypes and not options.modulus:
        message = f"the pixels are complex ({', '.join(complex_dtypes)}), but a model takes real values"
        raise DataError(message, path, "give --modulus, which takes their modulus (the amplitude)")
    if options.modulus and not complex_dtypes:
        message = f"--modulus is for complex pixels, but these are {', '.join(dtypes)}"
        raise RequestError(message, path, "leave out --modulus")
    if options.keep_noise and safe_folder is None:
        message = "--keep-noise is for Sentinel-1 products, whose noise rsft removes"
        raise RequestError(message, path, "leave out --keep-noise")


def _with_factor(path: object, product: Product, factor: float, count: int) -> Product:
    if product.calibrations:
        message = f"--calibrate, but the file has a calibration: {product.calibration_source}"
        raise RequestError(message, path, "leave out --calibrate")
    if product.unit not in (None, "amplitude"):
        message = f"--calibrate is for digital numbers, but the file declares {product.unit}"
        raise RequestError(message, path, "leave out --calibrate")
    calibrations = {"sigma0": (FactorCalibration(factor),) * count}
    return replace(product, unit="amplitude", calibrations=calibrations, calibration_source=f"factor {factor:g}")
