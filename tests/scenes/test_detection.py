"""Bright objects of a scene: ships to the pixel, land, and windows of every size."""

import errno
import re

import geopandas
import numpy as np
import pytest
import rasterio
import shapely

from rsft.data.imagery.stretch import CHIP_MAX
from rsft.errors import DataError, RequestError
from rsft.scenes import raster
from rsft.scenes.detection import detect_bright_objects
from rsft.scenes.options import ChipOptions, Declaration
from rsft.scenes.query import CfarOptions
from rsft.scenes.raster import open_scene
from rsft.scenes.reader import CopyingReader
from rsft.scenes.windows import make_window
from tests.helpers.file_server import serving_folder
from tests.helpers.messages import mentions
from tests.helpers.scenes import UTM, simulate_sea, toy_contract, write_geotiff

SAR = toy_contract(
    units={"amplitude": (CHIP_MAX,) * 3}, bands=("VV",), planes=("VV",) * 3, crop=32
)
SHIPS = [(40, 300), (255, 256), (400, 90)]


@pytest.fixture
def amplitude():
    """Return 512 x 512 pixels of four-look sea with three ships of 4 x 16 pixels."""
    water = simulate_sea(512, 512)
    for row, col in SHIPS:
        water[row - 2 : row + 2, col - 8 : col + 8] *= 8
    return water


def detect(
    folder,
    pixels,
    options=None,
    contract=SAR,
    unit="amplitude",
    names=("VV",),
    **profile,
):
    tiles = {"tiled": True, "blockxsize": 64, "blockysize": 64}
    scene = open_scene(
        write_geotiff(folder / "s.tif", pixels, names=names, **tiles, **profile)
    )
    window = make_window(scene, ChipOptions(), contract)
    return detect_bright_objects(
        scene, options or CfarOptions(), window, Declaration(unit), contract, None
    )


def centers(locations):
    return [(location.row, location.col) for location in locations.locations]


def land_fraction(locations):
    return (
        float(re.search(r"s.tif: (.*?) % of the scene is land", locations.notes[2])[1])
        / 100
    )


@pytest.mark.parametrize("window", [64, 128, 2048])
def test_ships_are_found_once_with_every_window_size(
    tmp_path, amplitude, monkeypatch, window
):
    # windows that are smaller than a scene of a test
    monkeypatch.setattr(raster, "_READ_SIDE", window)
    locations = detect(tmp_path, amplitude)
    assert centers(locations) == [pytest.approx(ship, abs=1) for ship in SHIPS]
    assert [location.name for location in locations.locations] == [
        "s_d000001",
        "s_d000002",
        "s_d000003",
    ]
    assert locations.notes[0] == "s.tif: 3 bright objects"
    assert "not always ships" in locations.notes[1]
    assert "0.0 % of the scene is land (brightness" in locations.notes[2]


def test_bright_land_is_left_out(tmp_path, amplitude):
    amplitude[300:, :200] = 5 * simulate_sea(212, 200, seed=1)
    locations = detect(tmp_path, amplitude)
    assert centers(locations) == [pytest.approx(ship, abs=1) for ship in SHIPS[:2]]
    assert 0.15 < land_fraction(locations) < 0.25


def test_polygons_of_land(tmp_path, amplitude):
    corners = [(240, 230), (290, 230), (290, 280), (240, 280)]
    island = shapely.Polygon([UTM @ (col, row) for col, row in corners])
    elsewhere = shapely.box(0, 0, 1, 1)
    geopandas.GeoDataFrame(geometry=[island, elsewhere], crs="EPSG:32633").to_crs(
        3857
    ).to_file(tmp_path / "land.gpkg")
    options = CfarOptions(land=tmp_path / "land.gpkg")
    locations = detect(tmp_path, amplitude, options, crs="EPSG:32633", transform=UTM)
    assert [location.row for location in locations.locations] == pytest.approx(
        [40, 400], abs=1
    )
    assert land_fraction(locations) == pytest.approx(2500 / 512**2, abs=0.001)
    assert locations.notes[2].endswith("land.gpkg), which was not searched")
    everywhere = detect(
        tmp_path, amplitude, CfarOptions(land="none"), crs="EPSG:32633", transform=UTM
    )
    assert (
        len(everywhere.locations) == 3
        and everywhere.notes[2] == "s.tif: land was searched too (--land none)"
    )
    with pytest.raises(RequestError, match="no georeference"):
        detect(tmp_path, amplitude, options)


def test_objects_longer_than_one_and_a_half_chips_are_counted(tmp_path, amplitude):
    amplitude[200:203, 20:120] *= 8
    amplitude[450:453, 20:60] *= 8
    locations = detect(tmp_path, amplitude)
    assert (
        len(locations.locations) == 4
        and "longer than 1.5 chips: 1 bright objects" in locations.notes[3]
    )


def test_chips_with_much_water_do_not_hide_small_ships(tmp_path, amplitude):
    amplitude[100:102, 200:206] *= 8
    large = SAR.model_copy(update={"crop": 128})  # 1,280 m
    found = detect(tmp_path, amplitude, contract=large, crs="EPSG:32633", transform=UTM)
    assert centers(found)[1] == pytest.approx((101, 203), abs=1)
    assert len(found.locations) == 4


def test_optical_bands_are_refused(tmp_path):
    optical = toy_contract(
        bands=("B02",), planes=("B02",), crop=32, mean=(0.5,), std=(0.5,)
    )
    with pytest.raises(RequestError, match=mentions("SAR", "B02", "--detect")):
        detect(
            tmp_path,
            np.ones((64, 64), np.uint8),
            contract=optical,
            unit=None,
            names=("B02",),
        )


@pytest.mark.parametrize("value", [0, 1, np.nan])
@pytest.mark.parametrize("shape", [(80, 80), (1, 1), (300, 700)])
def test_a_scene_without_contrast(tmp_path, value, shape):
    assert not detect(
        tmp_path, np.full(shape, value, np.float32), nodata=np.nan
    ).locations


def test_a_block_without_data(tmp_path, amplitude):
    amplitude[:256, :256] = 0  # cuts the second ship
    amplitude[300:, 300:] = 1  # constant
    assert centers(detect(tmp_path, amplitude)) == [
        pytest.approx(ship, abs=3) for ship in SHIPS
    ]


@pytest.mark.slow
def test_rough_water_has_a_higher_threshold_than_smooth_water(tmp_path):
    water = np.concatenate(
        [simulate_sea(1024, 1024, looks=40), simulate_sea(1024, 1024, seed=1, looks=1)],
        axis=1,
    )
    for col in (200, 1800):
        water[500:504, col : col + 16] *= (
            1.8  # 5.1 dB: clear in 40 looks, lost in one look
        )
    assert centers(detect(tmp_path, water)) == [pytest.approx((502, 208), abs=1)]


def test_every_band_has_its_own_looks(tmp_path):
    smooth = simulate_sea(512, 512, looks=40)
    rough = simulate_sea(512, 512, seed=1, looks=1)
    smooth[254:258, 248:264] *= 2.2
    contract = SAR.model_copy(
        update={"bands": ("VH", "VV"), "planes": ("VH", "VV", "VH")}
    )
    found = detect(
        tmp_path, np.stack([rough, smooth]), contract=contract, names=("VH", "VV")
    )
    assert centers(found) == [pytest.approx((256, 256), abs=1)]


def test_missing_unit(tmp_path, amplitude):
    with pytest.raises(DataError, match="without a declared unit"):
        detect(tmp_path, amplitude, unit=None)


@pytest.mark.parametrize(
    ("unit", "decibels", "expected"),
    [
        ("amplitude", True, "never below 0"),
        ("sigma0", True, "never below 0"),
        ("db", False, "somewhere below 0"),
    ],
)
def test_values_that_cannot_be_in_the_unit(
    tmp_path, amplitude, unit, decibels, expected
):
    pixels = (20 * np.log10(amplitude) - 60 if decibels else amplitude).astype(
        np.float32
    )
    contract = SAR.model_copy(update={"units": {unit: (CHIP_MAX,) * 3}})
    with pytest.raises(
        DataError, match=mentions("median", unit, expected, "s.tif")
    ) as caught:
        detect(tmp_path, pixels, contract=contract, unit=unit)
    assert "--unit" in caught.value.hint


def test_single_pixels_below_0_are_no_fault(tmp_path, amplitude):
    pixels = amplitude.astype(np.float32)
    pixels[::3] *= -0.01
    detect(tmp_path, pixels)


def test_a_scene_on_a_server_is_fetched_once(tmp_path, monkeypatch, amplitude, caplog):
    """Neither GDAL's cache of blocks nor that of the network holds the scene."""
    monkeypatch.setattr(raster, "_READ_SIDE", 128)
    local = detect(tmp_path, amplitude)
    size = (tmp_path / "s.tif").stat().st_size
    caches = {"GDAL_CACHEMAX": 200_000, "CPL_VSIL_CURL_CACHE_SIZE": 65_536}
    with serving_folder(tmp_path) as server, rasterio.Env(**caches):
        scene = open_scene(server.url("s.tif"))
        arguments = (make_window(scene, ChipOptions(), SAR), Declaration("amplitude"))

        def fetch():
            before = server.sent
            found = detect_bright_objects(scene, CfarOptions(), *arguments, SAR, None)
            assert centers(found) == centers(local)
            return server.sent - before

        assert fetch() < 1.1 * size
        assert caplog.text == ""

        def fail(*_):
            raise OSError(errno.ENOSPC, "No space left on device")

        # private: a full disk cannot be made here in another way
        monkeypatch.setattr(CopyingReader, "_write", fail)
        assert fetch() > 1.8 * size
    assert "TMPDIR" in caplog.text
