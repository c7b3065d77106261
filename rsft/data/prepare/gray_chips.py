"""Pixels of chips that are not copied from a file as they are: ships of SRSDD, and gray images with three bands."""

from __future__ import annotations

from pathlib import Path

from rsft.data.datasets._sar.srsdd_ships import SRSDDShip
from rsft.data.imagery.image_cache import LastImageCache
from rsft.data.imagery.reader import read_chip
from rsft.errors import DataError
from rsft.types import Pixels


def read_gray_chip(path: Path) -> Pixels:
    """Read an image as a single band; some copies repeat the band as R, G and B.

    Args:
        path: the image file.

    Returns:
        Pixels (H, W, 1).

    Raises:
        DataError: the image cannot be read, or the bands differ.
    """
    pixels = read_chip(path)
    if (pixels != pixels[:, :, :1]).any():
        raise DataError(f"the {pixels.shape[2]} bands differ, but a single band is expected", path)
    return pixels[:, :, :1]


def crop_srsdd_ship(ship: SRSDDShip) -> Pixels:
    """Crop the square chip around a ship; outside the image, the image is mirrored at its border.

    The last image is cached, so it is decoded once for consecutive ships of one image.

    Args:
        ship: the ship.

    Returns:
        The chip (S, S, 1).

    Raises:
        DataError: the image cannot be read, or the ship is outside it.
    """
    image = _read_gray_cached(ship.image)
    try:
        return ship.crop(image)
    except ValueError as error:
        raise DataError(str(error)) from error  # the caller adds the row


_read_gray_cached = LastImageCache(read_gray_chip)
