"""Chips of FUSAR-Ship and SRSDD for a chip store: their pixels and their columns."""

from pathlib import Path

from rsft.data.datasets.formats.fusar_files import FUSARChip
from rsft.data.datasets.formats.gray_images import take_gray_band
from rsft.data.datasets.formats.srsdd_files import SRSDD_SPACING_M, SRSDDShip
from rsft.data.imagery.reader import read_chip
from rsft.data.imagery.scene_uri import LastImageCache
from rsft.errors import DataError
from rsft.types import JsonObject, Pixels


def read_gray_chip(path: Path) -> Pixels:
    """Read an image as a single band (H, W, 1), see `take_gray_band`.

    Raises:
        DataError: the image cannot be read, or the bands differ.
    """
    try:
        return take_gray_band(read_chip(path))
    except ValueError as error:
        raise DataError(str(error), path) from error


_read_gray_cached = LastImageCache(read_gray_chip)


def crop_srsdd_ship(ship: SRSDDShip) -> Pixels:
    """Crop the square chip (S, S, 1) around a ship.

    Outside the image, the image is mirrored at its border. The last image is cached,
    so it is decoded once for consecutive ships of one image.

    Raises:
        DataError: the image cannot be read, or the ship is outside it.
    """
    image = _read_gray_cached(ship.image)
    try:
        return ship.crop(image)
    except ValueError as error:
        raise DataError(str(error)) from error  # the caller adds the row


def fusar_columns(chip: FUSARChip, source: str, sensor: str) -> JsonObject:
    """Return the columns of the manifest that describe a chip of FUSAR-Ship.

    Args:
        chip: the chip.
        source: name of the data set.
        sensor: name of the sensor.
    """
    return {
        "source": source,
        "sensor": sensor,
        "polarisation": chip.polarization,
        "incidence_deg": chip.incidence_deg,
        "spacing_m": chip.spacing_m,
        "mmsi": chip.mmsi,
    }


def srsdd_columns(ship: SRSDDShip, source: str, sensor: str) -> JsonObject:
    """Return the columns of the manifest that describe a ship of SRSDD.

    Args:
        ship: the ship.
        source: name of the data set.
        sensor: name of the sensor.
    """
    return {
        "source": source,
        "sensor": sensor,
        "spacing_m": SRSDD_SPACING_M,
        "box": ship.box_in_chip,
    }
