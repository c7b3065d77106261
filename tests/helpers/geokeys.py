"""Change the GeoKeys of a GeoTIFF."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rasterio.control import GroundControlPoint

from tests.helpers.scenes import UTM, write_geotiff

GEO_KEYS = 34735
"""TIFF tag of the list of GeoKeys."""


def with_geokeys(data: bytes, keys: Sequence[int]) -> bytes:
    """Return a GeoTIFF with another list of GeoKeys.

    Args:
        data: a classic TIFF in little-endian byte order.
        keys: the list: version, revisions, number of keys, and four numbers per key.

    Raises:
        ValueError: it is no such TIFF, or has no GeoKeys.
    """
    if not data.startswith(b"II*\0"):
        raise ValueError("no classic TIFF in little-endian byte order")
    (start,) = struct.unpack_from("<L", data, 4)
    (count,) = struct.unpack_from("<H", data, start)
    for entry in range(start + 2, start + 2 + 12 * count, 12):
        if struct.unpack_from("<H", data, entry)[0] == GEO_KEYS:
            values = struct.pack("<HHLL", GEO_KEYS, 3, len(keys), len(data))
            return (
                data[:entry]
                + values
                + data[entry + 12 :]
                + struct.pack(f"<{len(keys)}H", *keys)
            )
    raise ValueError("it has no GeoKeys")


def write_scene_with_geokeys(path: Path, keys: Sequence[int]) -> Path:
    """Write a scene with a UTM geotransform and other GeoKeys, and return its path."""
    pixels = np.random.default_rng(0).integers(0, 255, (48, 64), np.uint8)
    write_geotiff(path, pixels, crs="EPSG:32633", transform=UTM)
    path.write_bytes(with_geokeys(path.read_bytes(), keys))
    return path


def write_chip_with_damaged_geokey(path: Path) -> Path:
    """Write a chip whose GeoKeys GDAL reports as an error when it reads the pixels, and
    return its path."""
    pixels = np.random.default_rng(0).integers(0, 255, (16, 16), np.uint8)
    write_geotiff(path, pixels, crs="EPSG:32633", gcps=[GroundControlPoint(0, 0, 1, 1)])
    path.write_bytes(
        with_geokeys(path.read_bytes(), (1, 1, 0, 2, *PROJECTED, 2054, 0, 2, 1))
    )
    return path


PROJECTED = (1024, 0, 1, 1)
"""GTModelType: coordinates of a map projection."""
ODD_GEOKEYS = {
    "no_keys": (1, 1, 0, 0),
    "version_9": (9, 9, 9, 1, *PROJECTED),
    "empty": (),
    "cut_off": (1, 1, 0, 9, *PROJECTED, 3072, 0),
    "number_of_keys_65535": (1, 1, 0, 65535, *PROJECTED),
    "unknown_epsg": (1, 1, 0, 2, *PROJECTED, 3072, 0, 1, 32799),
    "epsg_of_a_geographic_system": (1, 1, 0, 2, *PROJECTED, 3072, 0, 1, 4326),
    "epsg_0": (1, 1, 0, 2, *PROJECTED, 3072, 0, 1, 0),
    "user_defined_without_parameters": (1, 1, 0, 2, *PROJECTED, 3072, 0, 1, 32767),
    "user_defined_projection": (
        1,
        1,
        0,
        4,
        *PROJECTED,
        3072,
        0,
        1,
        32767,
        3074,
        0,
        1,
        32767,
        3075,
        0,
        1,
        1,
    ),
    "unknown_projection": (
        1,
        1,
        0,
        4,
        *PROJECTED,
        3072,
        0,
        1,
        32767,
        3074,
        0,
        1,
        32767,
        3075,
        0,
        1,
        999,
    ),
    "user_defined_ellipsoid": (
        1,
        1,
        0,
        3,
        1024,
        0,
        1,
        2,
        2048,
        0,
        1,
        32767,
        2056,
        0,
        1,
        32767,
    ),
    "unknown_geographic_system": (1, 1, 0, 2, 1024, 0, 1, 2, 2048, 0, 1, 4999),
    "unknown_model": (1, 1, 0, 1, 1024, 0, 1, 77),
    "geocentric": (1, 1, 0, 2, 1024, 0, 1, 3, 2048, 0, 1, 4978),
    "local_coordinates": (1, 1, 0, 2, 1024, 0, 1, 32767, 1026, 34737, 4, 60000),
    "text_in_another_tag": (1, 1, 0, 2, *PROJECTED, 3072, 34737, 60000, 60000),
    "number_in_no_tag": (1, 1, 0, 2, *PROJECTED, 3072, 36, 1, 0),
    "unknown_units": (1, 1, 0, 3, *PROJECTED, 3072, 0, 1, 32633, 3076, 0, 1, 1),
    "vertical_system_alone": (1, 1, 0, 1, 4096, 0, 1, 5773),
    "unknown_vertical_system": (
        1,
        1,
        0,
        3,
        *PROJECTED,
        3072,
        0,
        1,
        32633,
        4096,
        0,
        1,
        9,
    ),
    "keys_of_nobody": (1, 1, 0, 2, 60000, 0, 1, 1, 60001, 0, 1, 1),
}
"""Lists of GeoKeys that are wrong, incomplete or rare, by name."""
