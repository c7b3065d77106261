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


def test_a_module_without_gdal_is_left_alone(monkeypatch):
    import _ctypes

    monkeypatch.setenv(LIMIT, "limited")
    assert limit_drivers(_ctypes.__file__, []) is False
