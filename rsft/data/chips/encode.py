"""Unit and bands of a chip, and the lossless image file that stores it."""

from __future__ import annotations

import warnings
from typing import Any

import cv2
import numpy as np
from rasterio.errors import NotGeoreferencedWarning
from rasterio.io import MemoryFile

from rsft.data.imagery.units import DIGITAL_UNITS, UNITS, as_float32, check_unit, parse_unit
from rsft.errors import DataError
from rsft.types import Pixels

_DEFAULT_BANDS = {1: ("gray",), 3: ("R", "G", "B")}
_PNG_DTYPES = (np.dtype("uint8"), np.dtype("uint16"))


def resolve_unit(pixels: Pixels, declared: str | None) -> str:
    """Return the unit of a chip: the declared one in lower case, or the data type of integers.

    Args:
        pixels: the chip (H, W, B).
        declared: declared unit; floats must declare one.

    Raises:
        DataError: the unit is unknown or missing, or the pixels cannot be in this unit.
    """
    dtype = str(pixels.dtype)
    unit = parse_unit(declared) if declared else dtype if dtype in DIGITAL_UNITS else None
    if unit is None:
        float_units = ", ".join(unit for unit in UNITS if unit not in DIGITAL_UNITS)
        raise DataError(f"{pixels.dtype} pixels; a chip is uint8, uint16, or float32 with a unit ({float_units})")
    check_unit(pixels, unit)
    return unit


def resolve_band_names(pixels: Pixels, names: tuple[str, ...] | None) -> tuple[str, ...]:
    """Return the band names of a chip.

    Args:
        pixels: the chip (H, W, B).
        names: declared names; None for gray (1 band) or R, G, B (3 bands).

    Returns:
        One name per band.

    Raises:
        DataError: the number of names does not match, or names are missing.
    """
    count = pixels.shape[2]
    bands = names or _DEFAULT_BANDS.get(count)
    if bands is None or len(bands) != count:
        expected = f"{len(names)} names" if names else "a chip without band names has 1 (gray) or 3 (R, G, B)"
        raise DataError(f"{count} bands, but {expected}")
    return bands


def select_bands(
    pixels: Pixels, names: tuple[str, ...] | None, selected: tuple[str, ...] | None
) -> tuple[Pixels, tuple[str, ...]]:
    """Select bands of a chip by name.

    Args:
        pixels: the chip (H, W, B).
        names: names of its bands; None if they are unknown.
        selected: names of the bands to select, or without `names` the names of all bands; None selects all bands.

    Returns:
        Pixels (H, W, S), and their names.

    Raises:
        DataError: the number of names does not match, names are missing, or a band is missing.
    """
    if selected is None or names is None:
        return pixels, resolve_band_names(pixels, names or selected)
    names = resolve_band_names(pixels, names)
    missing = [name for name in selected if name not in names]
    if missing:
        raise DataError(f"bands {', '.join(names)}, without {', '.join(missing)}")
    return (pixels if selected == names else pixels[:, :, [names.index(name) for name in selected]]), selected


def encode_chip(pixels: Pixels) -> tuple[bytes, str]:
    """Encode a chip without loss; float64 becomes float32.

    Args:
        pixels: the chip (H, W, B).

    Returns:
        Content and suffix of the file: PNG for 1 or 3 bands of uint8 or uint16, else TIFF.

    Raises:
        DataError: a value does not fit into float32.
    """
    pixels = as_float32(pixels)
    if pixels.dtype in _PNG_DTYPES and pixels.shape[2] in _DEFAULT_BANDS:
        ordered = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR) if pixels.shape[2] == 3 else pixels
        return cv2.imencode(".png", ordered)[1].tobytes(), ".png"
    return _encode_tiff(pixels), ".tif"


def _encode_tiff(pixels: Pixels) -> bytes:
    height, width, count = pixels.shape
    is_float = pixels.dtype == np.float32
    options: dict[str, Any] = {"compress": "deflate", "predictor": 3 if is_float else 2, "photometric": "minisblack"}
    if is_float and np.isnan(pixels).any():
        options["nodata"] = np.nan
    with MemoryFile() as memory, warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)  # chips have no georeference
        with memory.open(
            driver="GTiff", height=height, width=width, count=count, dtype=pixels.dtype, **options
        ) as file:
            file.write(pixels.transpose(2, 0, 1))
        return bytes(memory.read())
