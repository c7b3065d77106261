"""Convert stored values to float32: no data, modulus, scale and offset; read units from band tags."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rsft.data.imagery.open_raster import read_tiff_tags
from rsft.data.imagery.reader import mask_nodata
from rsft.data.imagery.units import DIGITAL_UNITS, as_float32
from rsft.errors import DataError
from rsft.types import Plane

_UNIT_TAGS = {
    "db": "db",
    "decibel": "db",
    "decibels": "db",
    "amplitude": "amplitude",
    "intensity": "intensity",
    "gamma0_db": "gamma0_db",
    **{f"{name}{end}": f"{name}0" for name in ("sigma", "gamma", "beta") for end in ("0", "_0", " nought", "_nought")},
}


class Scaling(NamedTuple):
    """GDAL's scale and offset of a band: value = stored * scale + offset.

    Attributes:
        scale: the scale.
        offset: the offset.
    """

    scale: float = 1.0
    offset: float = 0.0


IDENTITY_SCALING = Scaling()
"""A band without scale and offset."""


def is_complex(dtype: str) -> bool:
    """Return True for rasterio's complex data types, among them "complex_int16"."""
    return dtype.startswith("complex")


def read_dtype(dtype: str, scalings: Sequence[Scaling]) -> str:
    """Return the data type of the values that a scene delivers.

    Args:
        dtype: data type of the file.
        scalings: scale and offset of each band.

    Returns:
        "uint8" or "uint16" for such files without scale and offset, else "float32".
    """
    return dtype if dtype in DIGITAL_UNITS and set(scalings) <= {IDENTITY_SCALING} else "float32"


def unit_from_tags(units: Sequence[str | None], path: object) -> str | None:
    """Return the unit that the tags of the bands declare.

    Args:
        units: GDAL's unit type of each band, such as "dB".
        path: path of the file, for the error.

    Returns:
        The unit; None if no tag names a unit that rsft knows.

    Raises:
        DataError: bands have different units.
    """
    tags = {(unit or "").strip().lower() for unit in units}
    names = sorted({_UNIT_TAGS[tag] for tag in tags if tag in _UNIT_TAGS})
    if len(names) > 1:
        raise DataError(f"the bands have several units: {', '.join(names)}", path, "give a file with one unit")
    return names[0] if names else None


def read_unit_of(path: Path) -> str | None:
    """Return the unit that the tags of a TIFF file declare.

    Args:
        path: path of any image file.

    Returns:
        The unit; None if the file is no TIFF, or names no unit that rsft knows.

    Raises:
        DataError: bands have different units.
    """
    return read_tiff_tags(path, lambda file: unit_from_tags(file.units, path))


def to_float32(band: Plane, nodata: float | None, scaling: Scaling, path: object) -> Plane:
    """Convert the stored values of a band to float32.

    Args:
        band: stored values (H, W); complex values become their modulus.
        nodata: declared nodata value; None if the file does not declare one.
        scaling: scale and offset of the band.
        path: path of the file, for the error.

    Returns:
        Values (H, W), float32; NaN without data.

    Raises:
        DataError: a value is NaN but NaN is not declared as nodata, or does not fit into float32.
    """
    if np.issubdtype(band.dtype, np.inexact):
        mask_nodata(band, nodata, path)
        try:
            values = as_float32(np.abs(band) if np.iscomplexobj(band) else band)
        except DataError as error:
            raise DataError(error.message, path, error.hint) from error
    else:
        values = band.astype(np.float32)
        if nodata is not None:
            values[band == nodata] = np.nan
    if scaling != IDENTITY_SCALING:
        values *= np.float32(scaling.scale)
        values += np.float32(scaling.offset)
    return values
