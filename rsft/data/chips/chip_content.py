"""The content of a chip in a store: bands, unit, file and manifest row."""

import hashlib
import os
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from rasterio.errors import NotGeoreferencedWarning
from rasterio.io import MemoryFile

from rsft.data.chips.manifest import describe_column_fault
from rsft.data.chips.record import ChipRecord
from rsft.data.imagery.band_names import read_band_names, read_unit
from rsft.data.imagery.bands import is_gray_rgb
from rsft.data.imagery.rasters import read_tiff_tags
from rsft.data.imagery.reader import check_declared_bands, read_chip
from rsft.data.imagery.units import (
    DIGITAL_UNITS,
    UNITS,
    as_float32,
    check_unit,
    parse_unit,
)
from rsft.errors import DataError
from rsft.types import Bands, JsonObject, Pixels
from rsft.utils.operating_system import describe_name_fault

_DEFAULT_BANDS = {1: ("gray",), 3: ("R", "G", "B")}
_PNG_DTYPES = (np.dtype("uint8"), np.dtype("uint16"))


def resolve_unit(pixels: Pixels, declared: str | None) -> str:
    """Return the unit of a chip (H, W, B).

    It is the declared one in lower case, or the data type of integers.

    Raises:
        DataError: the unit is unknown or missing, or the pixels cannot be in this unit.
    """
    dtype = str(pixels.dtype)
    unit = (
        parse_unit(declared) if declared else dtype if dtype in DIGITAL_UNITS else None
    )
    if not unit:
        float_units = ", ".join(unit for unit in UNITS if unit not in DIGITAL_UNITS)
        raise DataError(
            f"{pixels.dtype} pixels; a chip is uint8, uint16, or float32 with a unit"
            f" ({float_units})"
        )
    check_unit(pixels, unit)
    return unit


def resolve_band_names(pixels: Pixels, names: Bands | None) -> Bands:
    """Return the band names of a chip (H, W, B).

    They are the declared `names`, or gray (1 band) or R, G, B (3 bands).

    Returns:
        One name per band.

    Raises:
        DataError: the number of names does not match, or names are missing.
    """
    count = pixels.shape[2]
    bands = names or _DEFAULT_BANDS.get(count)
    if not bands or len(bands) != count:
        if names:
            expected = f"names for {len(names)} ({', '.join(names)})"
        else:
            expected = "a chip without band names has 1 (gray) or 3 (R, G, B)"
        raise DataError(f"{count} bands, but {expected}")
    return bands


def select_bands(
    pixels: Pixels, names: Bands | None, selected: Bands | None
) -> tuple[Pixels, Bands]:
    """Select bands of a chip by name.

    A gray chip that was stored as RGB has one band, if one is named or selected.

    Args:
        pixels: the chip (H, W, B).
        names: names of its bands; None if they are unknown.
        selected: names of the bands to select, or without `names` the names of all
            bands; None selects all bands.

    Returns:
        Pixels (H, W, S), and their names.

    Raises:
        DataError: the number of names does not match, names are missing, or a band is
            missing.
    """
    if not selected or not names:
        known = names or selected
        if known and len(known) == 1 and is_gray_rgb(pixels):
            pixels = pixels[:, :, :1]
        return pixels, resolve_band_names(pixels, known)
    names = resolve_band_names(pixels, names)
    missing = [name for name in selected if name not in names]
    if missing:
        raise DataError(f"bands {', '.join(names)}, without {', '.join(missing)}")
    return (
        pixels
        if selected == names
        else pixels[:, :, [names.index(name) for name in selected]]
    ), selected


def encode_chip(pixels: Pixels) -> tuple[bytes, str]:
    """Encode a chip (H, W, B) without loss; float64 becomes float32.

    Returns:
        Content and suffix of the file: PNG for 1 or 3 bands of uint8 or uint16, else
            TIFF.

    Raises:
        DataError: a value does not fit into float32.
    """
    pixels = as_float32(pixels)
    if pixels.dtype in _PNG_DTYPES and pixels.shape[2] in _DEFAULT_BANDS:
        if pixels.shape[2] == 3:
            pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
        return cv2.imencode(".png", pixels)[1].tobytes(), ".png"
    height, width, count = pixels.shape
    is_float = pixels.dtype == np.float32
    options: dict[str, Any] = {
        "dtype": pixels.dtype,
        "compress": "deflate",
        "predictor": 3 if is_float else 2,
        "photometric": "minisblack",
    }
    if is_float and np.isnan(pixels).any():
        options["nodata"] = np.nan
    with MemoryFile() as memory, warnings.catch_warnings():
        # chips have no georeference
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with memory.open(
            driver="GTiff", height=height, width=width, count=count, **options
        ) as file:
            file.write(pixels.transpose(2, 0, 1))
        return bytes(memory.read()), ".tif"


_LONGEST_NAME = 250  # bytes; names of files have at most 255, with their suffix


class StoredChip(NamedTuple):
    """A chip as a store has it.

    Attributes:
        pixels: (H, W, B).
        data: content of its file.
        row: its row in the manifest, by column.
    """

    pixels: Pixels
    data: bytes
    row: JsonObject


def make_chip(record: ChipRecord) -> StoredChip:
    """Make the file and the manifest row of a chip.

    A file with the wanted bands is copied; other pixels are encoded without loss.

    Raises:
        DataError: the chip cannot be read, its unit, bands or columns do not fit, or
            its name is no name of a file.
    """
    fault = _describe_name(record.name) or describe_column_fault(record.extra_columns)
    if fault:
        raise DataError(fault)
    source = record.source_path
    names = record.bands
    unit = record.extra_columns.get("unit")
    pixels = read_pixels(record)
    is_file = record.read_pixels is None
    if is_file:
        file_names = read_tiff_tags(source, read_band_names)
        check_declared_bands(names, file_names, source)
        names = names or file_names
        # the unit of integers is their data type
        if not unit and pixels.dtype.kind == "f":
            unit = read_tiff_tags(source, lambda file: read_unit([file], source))
    selected, bands = select_bands(pixels, names, record.selected_bands)
    unit = resolve_unit(selected, unit)
    if is_file and selected is pixels:
        data = source.read_bytes()
        suffix = source.suffix.lower()
    else:
        data, suffix = encode_chip(selected)
    row = {
        "name": record.name,
        "path": record.path_stem + suffix,
        "split": record.split,
        "class": record.label,
        "flags": "",
        "unit": unit,
        "bands": ",".join(bands),
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    return StoredChip(selected, data, row | dict(record.extra_columns))


def read_pixels(record: ChipRecord) -> Pixels:
    """Return the pixels (H, W, B) of a record.

    Raises:
        DataError: they cannot be read.
    """
    if record.read_pixels:
        return record.read_pixels()
    return read_chip(record.source_path)


def _describe_name(name: str) -> str:
    """Return why a chip cannot have a name; "" if it can."""
    if len(os.fsencode(name)) <= _LONGEST_NAME:
        return describe_name_fault(name)
    return (
        f"the name of the chip has {len(name):,} letters; the limit is"
        f" {_LONGEST_NAME} bytes"
    )


def write_chip(path: Path, data: bytes) -> None:
    """Write a file of a store that is being built, and its folder if it is missing.

    The file is neither renamed nor synced: a chip that is not in the journal is written
    again, and the build syncs once at its end.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
