"""Drivers that nobody needs cannot be reached, only in processes that ask for it."""

import subprocess
import sys

import pytest

from rsft.utils.untrusted.gdal_drivers import LIMIT, limit_drivers

PROGRAM = """
import os, sys
os.environ["{limit}"] = "{value}"
import rasterio
from rasterio.drivers import raster_driver_extensions
from rsft.utils.untrusted.gdal_drivers import limit_drivers

limited = limit_drivers(rasterio._base.__file__, ["GTiff", "no such driver"])
with rasterio.Env() as environment:
    names = environment.drivers()
print(limited, "GTiff" in names, "VRT" in names)
"""


@pytest.mark.parametrize(
    ("value", "printed"), [("limited", "True True False"), ("", "False True True")]
)
def test_only_accepted_drivers_stay(value, printed):
    code = PROGRAM.format(limit=LIMIT, value=value)
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == printed


PRIVATE = """
import os, threading
os.environ["{limit}"] = "{value}"
import rasterio
from rasterio.io import DatasetReader
from rsft.utils.untrusted.gdal_drivers import PrivateDriver, limit_drivers

limit_drivers(rasterio._base.__file__, ["GTiff", "VRT"])
vrt = PrivateDriver(rasterio._base.__file__, "VRT")
text = '<VRTDataset rasterXSize="2" rasterYSize="2"><VRTRasterBand dataType="Byte" band="1"/></VRTDataset>'

def is_opened_by_others(text):
    try:
        with rasterio.open(text):
            return True
    except rasterio.errors.RasterioIOError:
        return False

def open_privately():
    for _ in range(50):
        with rasterio.Env(), vrt.opened():
            file = DatasetReader(text, driver=[vrt.name])
        assert file.read().sum() == 0
        assert not is_opened_by_others("no such file")

threads = [threading.Thread(target=open_privately) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(is_opened_by_others(text))
"""


@pytest.mark.parametrize(("value", "printed"), [("limited", "False"), ("", "True")])
def test_a_private_driver_opens_nothing_else(value, printed):
    """Threads that open other files meanwhile go through the list of drivers."""
    code = PRIVATE.format(limit=LIMIT, value=value)
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True,
        text=True,
        check=True,
    )
    assert (result.stdout.strip(), result.stderr) == (printed, "")


def test_a_module_without_gdal_is_left_alone(monkeypatch):
    import _ctypes

    monkeypatch.setenv(LIMIT, "limited")
    assert limit_drivers(_ctypes.__file__, []) is False
