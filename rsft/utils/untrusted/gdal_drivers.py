"""Take the drivers of GDAL that nobody needs out of the process.

An overview, a mask or a source of another raster is opened by GDAL itself, with all
registered drivers. A driver that is not registered cannot be reached by any file.
"""

import ctypes
import os
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

LIMIT = "RSFT_GDAL_DRIVERS"
"""Environment variable that the command `rsft` sets to "limited" for itself and the
processes that it starts. In a program that imports rsft, GDAL belongs to the program,
and all its drivers stay."""


def limit_drivers(extension: str, accepted: Collection[str]) -> bool:
    """Unregister all drivers of GDAL but the accepted ones, if `LIMIT` says so.

    Call it before files are opened, and again to accept others. GDAL_SKIP stays set,
    because rasterio registers all drivers again when it needs a new environment.

    Args:
        extension: path of an extension module that is linked with GDAL; each package
            has a GDAL of its own.
        accepted: short names of drivers. Unknown ones are ignored.

    Returns:
        Whether the drivers are limited. Windows does not find GDAL through the module.
    """
    gdal = _load_gdal(extension)
    if not gdal:
        return False
    _register(gdal, skipped=None)
    names = [
        gdal.GDALGetDescription(gdal.GDALGetDriver(index)).decode()
        for index in range(gdal.GDALGetDriverCount())
    ]
    skipped = ",".join(name for name in names if name not in accepted)
    _register(gdal, skipped.encode())
    return True


class PrivateDriver:
    """A driver of GDAL that only opens rasters inside of the context `opened`.

    GDAL opens overviews, masks and sources with all drivers that say they read rasters.
    This one says so only for the time in which rsft opens a file with it. Registering
    it for that time would crash threads that go through the list of drivers.

    Args:
        extension: as of `limit_drivers`, which must accept the driver.
        name: short name of the driver.
    """

    def __init__(self, extension: str, name: str) -> None:
        self._gdal = _load_gdal(extension)
        self._lock = threading.Lock()
        self.name = name
        self._set_capability(None)

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Let the driver open rasters, if other drivers are limited."""
        with self._lock:
            self._set_capability(b"YES")
            try:
                yield
            finally:
                self._set_capability(None)

    def _set_capability(self, value: bytes | None) -> None:
        if self._gdal:
            driver = self._gdal.GDALGetDriverByName(self.name.encode())
            self._gdal.GDALSetMetadataItem(driver, b"DCAP_RASTER", value, None)


def _load_gdal(extension: str) -> Any:
    """Return GDAL; None if its drivers are not limited."""
    if os.environ.get(LIMIT) != "limited":
        return None
    gdal = ctypes.CDLL(extension)
    if not hasattr(gdal, "GDALAllRegister"):
        return None
    for name in ("GDALGetDriver", "GDALGetDriverByName"):
        getattr(gdal, name).restype = ctypes.c_void_p
    gdal.GDALGetDescription.argtypes = [ctypes.c_void_p]
    gdal.GDALGetDescription.restype = ctypes.c_char_p
    texts = 3 * (ctypes.c_char_p,)
    gdal.GDALSetMetadataItem.argtypes = (ctypes.c_void_p, *texts)
    return gdal


def _register(gdal: Any, skipped: bytes | None) -> None:
    """Register all drivers but those in a list with commas."""
    gdal.CPLSetConfigOption(b"GDAL_SKIP", skipped)
    gdal.GDALAllRegister()
