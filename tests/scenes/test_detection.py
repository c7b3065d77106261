"""False alarm rate, ships to the pixel, looks by block, land, and windows of every
size."""

import re
from pathlib import Path
from types import SimpleNamespace

import geopandas
import numpy as np
import pytest
import shapely
from rasterio.transform import Affine

from rsft.data.imagery.stretch import CHIP_MAX
from rsft.errors import DataError, RequestError
from rsft.scenes import cfar, raster
from rsft.scenes import land as land_masks
from rsft.scenes.detection import detect_bright_objects
from rsft.scenes.land import open_land_polygons
from rsft.scenes.options import ChipOptions, Declaration
from rsft.scenes.query import CfarOptions, parse_land
from rsft.scenes.raster import PixelWindow, open_scene
from rsft.scenes.windows import make_window
from tests.helpers.messages import mentions
from tests.helpers.scenes import UTM, simulate_sea, toy_contract, write_geotiff

WINDOW = cfar.CfarWindow(8, 16)


def test_threshold_of_one_look():
    cells = WINDOW.cells
    assert cfar.cfar_threshold(1e-6, 1, cells) == pytest.approx(
        cells * (1e-6 ** (-1 / cells) - 1)
    )
    both = cfar.cfar_threshold(1e-6, np.array([[1.0], [4.0]]), cells)
    assert (
        both.shape == (2, 1)
        and both[0, 0] == cfar.cfar_threshold(1e-6, 1, cells) > both[1, 0] > 1
    )


@pytest.mark.parametrize("looks", [1, 4])
def test_false_alarm_rate(looks):
    water = simulate_sea(1000, 1000, looks=looks) ** 2
    alarms = cfar.cfar_contrast(water, water > 0, WINDOW) > cfar.cfar_threshold(
        1e-3, looks, WINDOW.cells
    )
    assert alarms.mean() == pytest.approx(1e-3, rel=0.15)


def test_position_and_size_of_a_ship():
    water = simulate_sea(128, 128) ** 2
    water[60:64, 40:60] = 40
    wide = cfar.CfarWindow(16, 32)
    ratio = cfar.cfar_contrast(water, water > 0, wide)
    (ship,) = cfar.find_bright_objects(
        ratio, ratio > cfar.cfar_threshold(1e-6, 4, wide.cells), 1
    )
    assert (ship.row, ship.col) == pytest.approx((62, 50), abs=0.2)
    assert sorted(ship.sides) == pytest.approx(
        [4, 20]
    ) and ship.contrast == pytest.approx(16, abs=1)


def test_gaps_are_bridged():
    ratio = np.zeros((40, 40), np.float32)
    ratio[10:14, 5:10] = ratio[10:14, 12:17] = 20
    assert [
        len(cfar.find_bright_objects(ratio, ratio > 10, gap)) for gap in (1, 2)
    ] == [2, 1]


def test_pixels_without_data_are_ignored():
    water = simulate_sea(64, 64) ** 2
    water[:, :32] = 0
    ratio = cfar.cfar_contrast(water, water > 0, WINDOW)
    assert not ratio[:, :32].any() and ratio[:, 33:].mean() == pytest.approx(
        1, abs=0.05
    )
    assert not cfar.cfar_contrast(water, np.zeros((64, 64), bool), WINDOW).any()


def measure(intensity, side=10_000):
    height, width = intensity.shape[:2]
    windows = [
        PixelWindow(top, left, min(top + side, height), min(left + side, width))
        for top in range(0, height, side)
        for left in range(0, width, side)
    ]
    return cfar.measure_cells(
        (height, width),
        intensity.shape[2],
        windows,
        lambda w: intensity[w.top : w.bottom, w.left : w.right],
    )


def test_looks_of_two_kinds_of_water_and_two_bands():
    left, right = (
        simulate_sea(768, 1536, seed, looks) ** 2 for seed, looks in ((0, 4), (1, 16))
    )
    _, looks = measure(
        np.stack(
            [np.concatenate([left, right], 1), np.concatenate([right, left], 1)], axis=2
        )
    )
    first, second = (cfar.looks_by_block(plane) for plane in looks)
    assert first.shape == (3, 12)
    assert first[:, :5] == pytest.approx(4, rel=0.05) and first[:, 7:] == pytest.approx(
        16, rel=0.05
    )
    assert second[:, :5] == pytest.approx(16, rel=0.05) and second[
        :, 7:
    ] == pytest.approx(4, rel=0.05)


def test_statistics_do_not_depend_on_the_windows():
    intensity = simulate_sea(100, 90)[:, :, None] ** 2
    whole = measure(intensity)
    parts = measure(intensity, side=37)
    assert all(
        np.allclose(*pair, equal_nan=True) for pair in zip(whole, parts, strict=True)
    )
    assert whole[0].shape == (1, 7, 6) and whole[0].mean() == pytest.approx(1, abs=0.05)


def test_ships_do_not_change_the_looks():
    water = simulate_sea(256, 256) ** 2
    water[:48, :48] *= (
        np.random.default_rng(0).exponential(30, (48, 48)).astype(np.float32)
    )
    assert cfar.looks_by_block(measure(water[:, :, None])[1][0]) == pytest.approx(
        4, rel=0.1
    )


@pytest.mark.parametrize("value", [0.0, 1.0, 1e-12, 1e12])
def test_a_constant_scene_has_no_looks(value):
    _, looks = measure(np.full((64, 64, 1), value, np.float32))
    assert np.isnan(looks).all() and cfar.looks_by_block(looks[0]).tolist() == [[1.0]]


def test_one_pixel():
    mean, looks = measure(np.ones((1, 1, 1), np.float32))
    assert mean.tolist() == [[[1.0]]] and cfar.looks_by_block(looks[0]).tolist() == [
        [1.0]
    ]


def test_a_block_with_few_cells_takes_the_looks_of_the_scene():
    side = cfar.BLOCK // cfar.CELL
    looks = np.full((side, 5 * side), np.nan)
    looks[:, : 2 * side] = 9.0
    looks[0, -31:] = 3.0  # one too few
    assert cfar.looks_by_block(looks).tolist() == [[9.0] * 5]
    looks[0, -32:] = 3.0
    assert cfar.looks_by_block(looks).tolist() == [[9.0, 9.0, 9.0, 3.0, 3.0]]
    assert cfar.looks_by_block(np.full((1, 1), 1e6)).tolist() == [[100.0]]


def test_values_of_blocks_at_pixels():
    blocks = np.array([[1.0, 2.0]])
    window = PixelWindow(-2, cfar.BLOCK - 2, 1, 2 * cfar.BLOCK + 5)
    values = cfar.expand_blocks(blocks, window, cfar.BLOCK)
    assert (
        values.shape == (3, cfar.BLOCK + 7)
        and values[0, :3].tolist() == [1, 1, 2]
        and values[2, -1] == 2
    )


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
    monkeypatch.setattr(raster, "_READ_SIDE", window)
    locations = detect(tmp_path, amplitude)
    assert centers(locations) == [pytest.approx(ship, abs=1) for ship in SHIPS]
    assert [location.name for location in locations.locations] == [
        "s_d000001",
        "s_d000002",
        "s_d000003",
    ]
    speed = r"\(.* per second, .* million pixels per second\)"
    assert re.fullmatch(rf"s.tif: 3 bright objects in .* s {speed}", locations.notes[0])
    assert (
        "not always ships" in locations.notes[1] and "4.0 looks" in locations.notes[1]
    )
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
    assert "land.gpkg); 1 bright objects on it were ignored" in locations.notes[2]
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


@pytest.mark.parametrize("pfa", [0, 0.5, -1])
def test_invalid_false_alarm_rate(pfa):
    with pytest.raises(RequestError, match="false alarm rate"):
        CfarOptions(pfa)


EVERYWHERE = PixelWindow(0, 0, 100, 100)


@pytest.fixture
def shorelines(monkeypatch):
    """Install a package with these shorelines in degrees."""

    def install(*polygons):
        wkb = shapely.to_wkb(shapely.MultiPolygon(polygons))
        provider = SimpleNamespace(Osm="osm")
        package = SimpleNamespace(
            Shapes=SimpleNamespace(wkb=lambda name: wkb), LandmaskProvider=provider
        )
        land_masks._read_shorelines.cache_clear()
        monkeypatch.setattr(land_masks, "find_spec", lambda name: True)
        monkeypatch.setattr(land_masks, "version", lambda name: "9.9")
        monkeypatch.setattr(land_masks.importlib, "import_module", lambda name: package)

    yield install
    land_masks._read_shorelines.cache_clear()


def open_zeros(path, crs="EPSG:32633", transform=UTM):
    return open_scene(
        write_geotiff(
            path, np.zeros((100, 100), np.uint8), crs=crs, transform=transform
        )
    )


def test_shorelines_of_the_package(tmp_path, shorelines):
    scene = open_zeros(tmp_path / "s.tif")
    # row, col: the left 40 columns
    corners = scene.georeference.pixels_to_lonlat([0, 0, 200, 200], [-50, 40, 40, -50])
    shorelines(shapely.Polygon(corners), shapely.box(100, 0, 101, 1))
    mask = open_land_polygons("auto", scene)
    is_land = mask(EVERYWHERE)
    # 100 m of sea are 10 pixels
    assert is_land[:, :50].all() and not is_land[:, 52:].any()
    assert (
        mask.description
        == "shorelines of OpenStreetMap (roaring-landmask 9.9) and 100 m of sea"
    )
    shorelines(shapely.box(100, 0, 101, 1))
    assert not open_land_polygons("auto", scene)(EVERYWHERE).any()


def test_a_scene_across_the_date_line(tmp_path, shorelines):
    # from 179.95 east
    scene = open_zeros(
        tmp_path / "s.tif", "EPSG:32601", Affine(100, 0, 161_000, 0, -100, 10_000)
    )
    shorelines(shapely.box(0, -1, 10, 1))
    assert not open_land_polygons("auto", scene).shapes


@pytest.mark.parametrize("source", ["none", "brightness"])
def test_other_sources_open_no_polygons(tmp_path, shorelines, source):
    shorelines(shapely.box(-180, -90, 180, 90))
    assert open_land_polygons(source, open_zeros(tmp_path / "s.tif")) is None


def test_without_georeference_or_package(tmp_path, shorelines, monkeypatch):
    shorelines(shapely.box(-180, -90, 180, 90))
    assert (
        open_land_polygons("auto", open_zeros(tmp_path / "s.tif", None, None)) is None
    )
    monkeypatch.setattr(land_masks, "find_spec", lambda name: None)
    assert open_land_polygons("auto", open_zeros(tmp_path / "t.tif")) is None


RING = '{"type": "Polygon", "coordinates": [[[15.0, 50.0]]]}'


@pytest.mark.parametrize(
    ("name", "text", "parts"),
    [
        ("land.gpkg", "text", ["cannot be read", "auto, brightness, none"]),
        (
            "land.geojson",
            f'{{"type": "Feature", "properties": {{}}, "geometry": {RING}}}',
            ["cannot be read"],
        ),
        ("land.csv", "row,col\n1,2\n", ["coordinate system", "land.csv"]),
    ],
)
def test_files_that_are_no_land(tmp_path, name, text, parts):
    (tmp_path / name).write_text(text)
    with pytest.raises(RequestError, match=mentions(*parts)):
        open_land_polygons(tmp_path / name, open_zeros(tmp_path / "s.tif"))


def test_keywords_and_paths():
    sources = [
        parse_land(text)
        for text in ("auto", "none", "brightness", "land.gpkg", "./none")
    ]
    assert sources == ["auto", "none", "brightness", Path("land.gpkg"), Path("none")]
