"""A folder and a server of scenes; vector layers are read in this process."""

from __future__ import annotations

import numpy as np
import pytest

from rsft.scenes.raster import gdal_environment, open_scene
from tests.helpers.file_server import serving_folder
from tests.helpers.scenes import UTM, write_geotiff
from tests.helpers.vector_layers import CellHere

LARGE_RAMP = np.arange(300 * 200, dtype=np.uint16).reshape(300, 200) + 1
TILES = {"tiled": True, "blockxsize": 64, "blockysize": 64}


@pytest.fixture(autouse=True)
def _layers_are_read_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read vector layers without the process that limits damage."""
    monkeypatch.setattr("rsft.data.imagery.vectors.ReaderCell", CellHere)


@pytest.fixture
def folder(tmp_path):
    write_geotiff(
        tmp_path / "a b.tif", LARGE_RAMP, crs="EPSG:32633", transform=UTM, **TILES
    )
    write_geotiff(tmp_path / "ü.tif", LARGE_RAMP)
    return tmp_path


@pytest.fixture
def server(folder):
    with serving_folder(folder) as server, gdal_environment():
        yield server


def blank(folder, **georeference):
    return open_scene(
        write_geotiff(folder / "s.tif", np.zeros((100, 200), np.uint8), **georeference)
    )


@pytest.fixture
def scene(tmp_path):
    return blank(tmp_path, crs="EPSG:32633", transform=UTM)


@pytest.fixture
def bare(tmp_path):
    return blank(tmp_path)
