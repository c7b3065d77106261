"""The values of a raster: scales and offsets, nodata and masks."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from rasterio.enums import ColorInterp, MaskFlags

from rsft.data.imagery.units import DIGITAL_UNITS, as_float32
from rsft.errors import DataError
from rsft.types import Mask, Pixels, Plane

MAX_BANDS = 4096
"""Largest number of bands of a TIFF or a scene. A file of a kB can state 65,535, which
takes many seconds to read."""


class Scaling(NamedTuple):
    """GDAL's scale and offset of a band: value = stored * scale + offset."""

    scale: float = 1.0
    offset: float = 0.0


IDENTITY_SCALING = Scaling()
"""A band without scale and offset."""


def read_dtype(dtype: str, scalings: Iterable[Scaling]) -> str:
    """Return the data type of a scene's values.

    It is uint8 or uint16 as in its file if no band is scaled, else float32.
    """
    if dtype in DIGITAL_UNITS and set(scalings) <= {IDENTITY_SCALING}:
        return dtype
    return "float32"


def check_encoding(files: Sequence[Any], path: object) -> None:
    """Raise an error if the numbers in open rasters are not the values of pixels.

    Raises:
        DataError: there are more than `MAX_BANDS`, a band has a scale that gives no
            values, or pixels are indices into a palette, or large where it is dark.
    """
    count = sum(file.count for file in files)
    if count > MAX_BANDS:
        raise DataError(
            f"the image has {count:,} bands; the limit is {MAX_BANDS:,}",
            path,
            "write the bands that the model reads to a file of their own",
        )
    for file in files:
        for scaling in map(Scaling, file.scales, file.offsets):
            _check_scaling(scaling, path)
        if ColorInterp.palette in file.colorinterp:
            raise DataError(
                "the pixels are indices into a color palette",
                path,
                "convert the file to gray or RGB",
            )
        if file.tags(ns="IMAGE_STRUCTURE").get("MINISWHITE") == "YES":
            raise DataError(
                "the pixels are stored inverted: 0 is white (MINISWHITE)",
                path,
                "invert the values, and store them as MINISBLACK (tag"
                " PhotometricInterpretation)",
            )


def _check_scaling(scaling: Scaling, path: object) -> None:
    with np.errstate(over="ignore"):
        numbers = np.array(scaling, np.float32)
    if not numbers[0] or not np.isfinite(numbers).all():
        raise DataError(
            f"a band has the scale {scaling.scale:g} and the offset"
            f" {scaling.offset:g}, which give no values",
            path,
            "correct them, for instance with gdal_edit",
        )


def read_validity(file: Any, window: Any = None) -> Mask | None:
    """Return where the mask of an open raster says that pixels are valid.

    The mask lies inside the file or in a .msk beside it.

    Returns:
        One value per pixel (H, W); None if it has no such mask. A nodata value and a
        transparent band are no mask.
    """
    if file.mask_flag_enums[0] != [MaskFlags.per_dataset]:
        return None
    valid: Mask = file.read_masks(1, window=window) > 0
    return valid


def mask_nodata(
    band: Pixels,
    nodata: float | None,
    path: object,
    valid: Mask | None = None,
) -> None:
    """Set the pixels of a band without data to NaN (floats) or 0 (integers), in place.

    Args:
        band: one band (H, W).
        nodata: declared nodata value; None if the file does not declare one.
        path: path of the file, for the error.
        valid: where the mask of the file says that pixels are valid (H, W); None if it
            has none.

    Raises:
        DataError: a valid pixel is NaN or infinite but not declared as nodata.
    """
    is_float = np.issubdtype(band.dtype, np.inexact)
    if valid is not None:
        band[~valid] = np.nan if is_float else 0
    if is_float:
        _check_finite(band, nodata, path, valid)
        if nodata is not None:
            band[band == nodata] = np.nan
    elif nodata:
        band[band == nodata] = 0


def _check_finite(
    band: Pixels, nodata: float | None, path: object, valid: Mask | None
) -> None:
    """Raise an error if a valid pixel is not finite and not declared as nodata."""
    without_value = ~np.isfinite(band)
    if not without_value.any():
        return
    if valid is not None:
        without_value &= valid
    if nodata is not None:
        without_value &= ~np.isnan(band) if np.isnan(nodata) else band != nodata
    count = int(without_value.sum())
    if count:
        raise DataError(
            f"{count} of {band.size} values are NaN or infinite",
            path,
            "declare them as nodata, or fill them in",
        )


def to_float32(
    band: Plane,
    nodata: float | None,
    scaling: Scaling,
    path: object,
    valid: Mask | None = None,
) -> Plane:
    """Convert the stored values of a band to float32.

    Args:
        band: stored values (H, W); complex values become their modulus.
        nodata: declared nodata value; None if the file does not declare one.
        scaling: scale and offset of the band.
        path: path of the file, for the error.
        valid: where the mask of the file says that pixels are valid (H, W); None if it
            has none.

    Returns:
        Values (H, W), float32; NaN without data.

    Raises:
        DataError: a valid value is NaN or infinite but not declared as nodata, or does
            not fit into float32.
    """
    if np.issubdtype(band.dtype, np.inexact):
        mask_nodata(band, nodata, path, valid)
        values = as_float32(np.abs(band) if np.iscomplexobj(band) else band, path)
    else:
        values = band.astype(np.float32)
        if nodata is not None:
            values[band == nodata] = np.nan
        if valid is not None:
            values[~valid] = np.nan
    if scaling != IDENTITY_SCALING:
        values *= np.float32(scaling.scale)
        values += np.float32(scaling.offset)
    return values
