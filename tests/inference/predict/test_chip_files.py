"""Find chips by file, folder and glob; their georeference, and how rarely GDAL opens
them."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import rasterio

from rsft.errors import DataError
from rsft.inference.predict import chip_files
from rsft.inference.predict.chip_files import ChipFiles
from rsft.scenes.options import UNDECLARED, ChipOptions, Declaration
from tests.helpers.messages import mentions
from tests.helpers.scenes import UTM, toy_contract, write_geotiff

PIXELS = np.random.default_rng(0).integers(0, 255, (16, 16), np.uint8)


def read(path):
    return ChipFiles({str(path): UNDECLARED}, toy_contract(), ChipOptions()).read(0)


@pytest.fixture
def png(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), PIXELS)
    return tmp_path / "a.png"


def test_single_png_has_no_georeference_and_is_not_opened_by_gdal(png, monkeypatch):
    monkeypatch.setattr("rsft.data.imagery.rasters.open_raster", None)
    (png.parent / "b.png.aux.xml").touch()
    chip = read(png)
    assert chip.columns["geometry"] is None and chip.spacing is None
    np.testing.assert_array_equal(chip.pixels[:, :, 0], PIXELS)


def test_georeference_in_sidecar_file(tmp_path):
    profile = {"driver": "PNG", "width": 16, "height": 16, "count": 1, "dtype": "uint8"}
    with rasterio.open(
        tmp_path / "a.png", "w", crs="EPSG:32633", transform=UTM, **profile
    ) as file:
        file.write(PIXELS[None])
    assert (tmp_path / "a.png.aux.xml").exists()
    chip = read(tmp_path / "a.png")
    assert chip.columns["geometry"].bounds == pytest.approx(
        (15, 45.152, 15.002, 45.154), abs=1e-3
    )
    assert chip.spacing == pytest.approx((10, 10), abs=0.02)


def test_renamed_geotiff_keeps_its_georeference(tmp_path):
    profile = {
        "driver": "GTiff",
        "width": 16,
        "height": 16,
        "count": 1,
        "dtype": "uint8",
    }
    with rasterio.open(
        tmp_path / "a.tif", "w", crs="EPSG:32633", transform=UTM, **profile
    ) as file:
        file.write(PIXELS[None])
    (tmp_path / "a.tif").rename(tmp_path / "a.png")
    assert read(tmp_path / "a.png").spacing == pytest.approx((10, 10), abs=0.02)


def test_png_larger_than_a_chip(tmp_path, monkeypatch):
    monkeypatch.setattr(chip_files, "MAX_CHIP_SIDE", 8)
    cv2.imwrite(str(tmp_path / "a.png"), PIXELS)
    with pytest.raises(DataError, match=mentions("16 x 16", "not a chip")):
        read(tmp_path / "a.png")


def test_a_chip_of_a_store_may_be_much_larger_than_the_input(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.tile(PIXELS, (5, 5)))
    with pytest.raises(DataError, match="80 x 80 pixels are a scene"):
        read(tmp_path / "a.png")
    files = {str(tmp_path / "a.png"): Declaration(is_chip=True)}
    assert ChipFiles(files, toy_contract(), ChipOptions()).read(0).pixels.shape == (
        80,
        80,
        1,
    )


def test_fine_pixels_that_are_resampled_are_no_scene(tmp_path):
    # 10 m
    path = write_geotiff(
        tmp_path / "a.tif", np.tile(PIXELS, (5, 5)), crs="EPSG:32633", transform=UTM
    )
    files = ChipFiles(
        {str(path): UNDECLARED}, toy_contract(), ChipOptions(resample_to=40)
    )
    assert files.read(0).pixels.shape == (20, 20, 1)


def read_vv(path, declared=None):
    contract = toy_contract(bands=("VH", "VV"), planes=("VV",) * 3)
    return ChipFiles(
        {str(path): Declaration(bands=declared)}, contract, ChipOptions()
    ).read(0)


def test_bands_are_selected_by_the_names_in_the_file(tmp_path):
    pixels = np.stack([PIXELS, PIXELS + 1, PIXELS + 2])
    named = read_vv(write_geotiff(tmp_path / "a.tif", pixels, names=("HH", "VV", "VH")))
    np.testing.assert_array_equal(named.pixels[:, :, 0], PIXELS + 1)
    alone = read_vv(write_geotiff(tmp_path / "b.tif", PIXELS))
    np.testing.assert_array_equal(alone.pixels[:, :, 0], PIXELS)
    nameless = read_vv(write_geotiff(tmp_path / "c.tif", pixels[:2]))
    np.testing.assert_array_equal(nameless.pixels[:, :, 0], PIXELS + 1)


def test_names_in_the_file_are_checked(tmp_path):
    path = write_geotiff(tmp_path / "a.tif", PIXELS, names=("Sigma0_VH",))
    with pytest.raises(DataError, match=mentions("bands VH", "takes VV")):
        read_vv(path)
    with pytest.raises(DataError, match=mentions("bands VH", "not VV")):
        read_vv(path, ("VV",))


def test_chips_read_ahead_are_those_read_alone(tmp_path):
    files = {}
    for name in ("a.png", "b.png", "c.png"):
        cv2.imwrite(str(tmp_path / name), PIXELS + ord(name[0]) - ord("a"))
        files[str(tmp_path / name)] = UNDECLARED
    (tmp_path / "b.png").write_bytes(b"\x89PNG\r\n\x1a\n no image")
    source = ChipFiles(files, toy_contract(), ChipOptions())
    expected = source.read(2).pixels
    source.read_ahead(range(3))
    (tmp_path / "c.png").unlink()
    np.testing.assert_array_equal(source.read(2).pixels, expected)
    with pytest.raises(DataError, match=mentions("b.png")):
        source.read(1)
    with pytest.raises(DataError, match=mentions("c.png")):
        source.read(2)


def test_no_more_is_read_ahead_than_fits(tmp_path, monkeypatch):
    # private: 8 MB of chips take long to make
    monkeypatch.setattr(chip_files, "_AHEAD_BYTES", PIXELS.nbytes)
    files = {}
    for name in ("a.png", "b.png", "c.png"):
        cv2.imwrite(str(tmp_path / name), PIXELS)
        files[str(tmp_path / name)] = UNDECLARED
    source = ChipFiles(files, toy_contract(), ChipOptions())
    source.read_ahead(range(3))
    for path in files:
        Path(path).unlink()
    assert source.read(0).pixels.shape == source.read(1).pixels.shape == (16, 16, 1)
    with pytest.raises(DataError, match=mentions("c.png")):
        source.read(2)
