"""Open rasters with GDAL. The content of a file cannot make GDAL ask a server."""

from __future__ import annotations

from functools import cache
from typing import Any

import rasterio
from rasterio.io import DatasetReader

from rsft.data.imagery.scene_uri import SceneUri

_NETWORK_DRIVERS = frozenset(
    ("DAAS", "EEDA", "EEDAI", "ESRIC", "GTI", "HTTP", "MRF", "PLMOSAIC", "STACIT", "STACTA", "WCS", "WMS", "WMTS")
)
"""Drivers whose files can name servers. GDAL selects the driver by the content of a file, whatever its suffix."""


def open_raster(name: str) -> Any:
    """Open a raster with GDAL. A file that lists servers or other files is not opened, except for a VRT named .vrt.

    Args:
        name: a path, or another name under which GDAL opens it.

    Returns:
        rasterio's dataset.

    Raises:
        rasterio.errors.RasterioError: GDAL cannot open it.
    """
    uri = SceneUri(name)
    options = {"GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR"} if uri.is_remote else {}  # a server has no list of files
    with rasterio.Env(**options):
        if not uri.is_path and not name.startswith("/vsi"):
            return rasterio.open(name)  # the name of a subdataset begins with that of its driver
        return DatasetReader(name, driver=_offline_drivers(name.lower().endswith(".vrt")))  # `open` takes one driver


@cache
def _offline_drivers(is_vrt: bool) -> list[str]:
    with rasterio.Env() as environment:
        drivers = set(environment.drivers())
    return sorted(drivers - _NETWORK_DRIVERS - (set() if is_vrt else {"VRT"}))
