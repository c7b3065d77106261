"""Where loose chips lie, and how little is asked of GDAL to know it."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import rasterio

from rsft.errors import DataError
from rsft.inference.inputs import chip_files
from rsft.inference.inputs.chip_files import LooseChips
from rsft.inference.inputs.discovery import NOTHING
from rsft.inference.scenes.chip_window import Wishes
from tests.helpers.scenes import UTM, contract

PIXELS = np.random.default_rng(0).integers(0, 255, (16, 16), np.uint8)


def read(path):
    return LooseChips({path: NOTHING}, contract(), Wishes()).read(0)


@pytest.fixture
def png(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), PIXELS)
    return tmp_path / "a.png"


def test_a_png_alone_lies_nowhere_and_gdal_is_not_asked(png, monkeypatch):
    monkeypatch.setattr(chip_files.rasterio, "open", None)
    (png.parent / "b.png.aux.xml").touch()
    chip = read(png)
    assert chip.facts["geometry"] is None and chip.spacing is None
    np.testing.assert_array_equal(chip.pixels[:, :, 0], PIXELS)


def test_a_file_beside_it_says_where_it_lies(tmp_path):
    profile = {"driver": "PNG", "width": 16, "height": 16, "count": 1, "dtype": "uint8"}
    with rasterio.open(tmp_path / "a.png", "w", crs="EPSG:32633", transform=UTM, **profile) as file:
        file.write(PIXELS[None])
    assert (tmp_path / "a.png.aux.xml").exists()
    chip = read(tmp_path / "a.png")
    assert chip.facts["geometry"].bounds == pytest.approx((15, 45.152, 15.002, 45.154), abs=1e-3)
    assert chip.spacing == pytest.approx((10, 10), abs=0.02)


def test_a_geotiff_by_another_name_keeps_its_place(tmp_path):
    profile = {"driver": "GTiff", "width": 16, "height": 16, "count": 1, "dtype": "uint8"}
    with rasterio.open(tmp_path / "a.tif", "w", crs="EPSG:32633", transform=UTM, **profile) as file:
        file.write(PIXELS[None])
    (tmp_path / "a.tif").rename(tmp_path / "a.png")
    assert read(tmp_path / "a.png").spacing == pytest.approx((10, 10), abs=0.02)


def test_a_folder_that_cannot_be_listed(png, monkeypatch):
    def refuse(folder):
        raise PermissionError(folder)

    monkeypatch.setattr(chip_files.Path, "iterdir", refuse)
    assert read(png).facts["geometry"] is None


def test_a_png_of_a_scene(tmp_path, monkeypatch):
    monkeypatch.setattr(chip_files, "MAX_SIDE", 8)
    cv2.imwrite(str(tmp_path / "a.png"), PIXELS)
    with pytest.raises(DataError, match="16 x 16 pixels are a scene, not a chip"):
        read(tmp_path / "a.png")
