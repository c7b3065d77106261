"""What the pixels of a chip are, and the file that keeps them unchanged."""

from __future__ import annotations

import warnings
from typing import Any

import cv2
import numpy as np
from rasterio.errors import NotGeoreferencedWarning
from rasterio.io import MemoryFile

from rsft.data.imagery.units import DIGITAL, UNITS, check_unit
from rsft.errors import DataError
from rsft.types import Pixels

_USUAL_BANDS = {1: ("gray",), 3: ("R", "G", "B")}
_PNG_TYPES = (np.dtype("uint8"), np.dtype("uint16"))


def unit_of(pixels: Pixels, declared: str | None) -> str:
    """The unit, which integers carry in their number type and floats must declare.

    Raises:
        DataError: it is unknown, missing, or not one that these pixels can be in.
    """
    unit = declared or (str(pixels.dtype) if str(pixels.dtype) in DIGITAL else None)
    if unit is None:
        floats = ", ".join(unit for unit in UNITS if unit not in DIGITAL)
        raise DataError(f"{pixels.dtype} pixels; a chip is uint8, uint16, or float32 with a unit ({floats})")
    check_unit(pixels, unit)
    return unit


def band_names(pixels: Pixels, names: tuple[str, ...] | None) -> tuple[str, ...]:
    """`names`, or gray or R, G, B by the number of bands.

    Raises:
        DataError: their number is another.
    """
    count = pixels.shape[2]
    bands = names or _USUAL_BANDS.get(count)
    if bands is None or len(bands) != count:
        raise DataError(f"{count} bands; a chip has {len(names) if names else '1 (gray) or 3 (R, G, B)'}")
    return bands


def encode(pixels: Pixels) -> tuple[bytes, str]:
    """(H, W, B) as the bytes and the suffix of a file: PNG where it can hold them, else TIFF."""
    if pixels.dtype in _PNG_TYPES and pixels.shape[2] in _USUAL_BANDS:
        ordered = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR) if pixels.shape[2] == 3 else pixels
        return cv2.imencode(".png", ordered)[1].tobytes(), ".png"
    return _tiff(pixels), ".tif"


def _tiff(pixels: Pixels) -> bytes:
    height, width, count = pixels.shape
    floats = pixels.dtype == np.float32
    options: dict[str, Any] = {"compress": "deflate", "predictor": 3 if floats else 2, "photometric": "minisblack"}
    if floats and np.isnan(pixels).any():
        options["nodata"] = np.nan
    with MemoryFile() as memory, warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)  # a chip has no place on the map
        with memory.open(
            driver="GTiff", height=height, width=width, count=count, dtype=pixels.dtype, **options
        ) as file:
            file.write(pixels.transpose(2, 0, 1))
        return bytes(memory.read())
