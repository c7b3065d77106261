"""Take the drivers of GDAL that nobody needs out of the process.

An overview, a mask or a source of another raster is opened by GDAL itself, with all
registered drivers. A driver that is not registered cannot be reached by any file.
"""

import ctypes
import os
from collections.abc import Collection

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
    if os.environ.get(LIMIT) != "limited":
        return False
    gdal = ctypes.CDLL(extension)
    if not hasattr(gdal, "GDALAllRegister"):
        return False
    gdal.GDALGetDriver.restype = ctypes.c_void_p
    gdal.GDALGetDescription.argtypes = [ctypes.c_void_p]
    gdal.GDALGetDescription.restype = ctypes.c_char_p
    gdal.CPLSetConfigOption(b"GDAL_SKIP", None)
    gdal.GDALAllRegister()
    names = [
        gdal.GDALGetDescription(gdal.GDALGetDriver(index)).decode()
        for index in range(gdal.GDALGetDriverCount())
    ]
    gdal.CPLSetConfigOption(
        b"GDAL_SKIP", ",".join(name for name in names if name not in accepted).encode()
    )
    gdal.GDALAllRegister()
    return True
