"""Recognize the product family of a raster by its content, and read what it says about its pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from rsft.data.imagery.products.product import FactorCalibration, Product, ProductOptions
from rsft.data.imagery.products.sentinel1 import SafeFolder, read_sentinel1
from rsft.data.imagery.products.stored_values import is_complex, unit_from_tags
from rsft.data.imagery.products.vendor_tags import read_vendor_product
from rsft.errors import DataError, RequestError


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
