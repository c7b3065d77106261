"""From a scene to positions: ships, land, windows."""

from __future__ import annotations

import geopandas
import numpy as np
import pytest
import shapely

from rsft.data.imagery.stretch import CHIP_MAX
from rsft.errors import DataError, RequestError
from rsft.inference.detection.detector import Detector, detect
from rsft.inference.inputs.discovery import Declared
from rsft.inference.scenes import raster as scenes
from rsft.inference.scenes.chip_window import Wishes, framing
from rsft.inference.scenes.raster import open_scene
from tests.helpers.scenes import UTM, contract, sea, write

SAR = contract(units={"amplitude": (CHIP_MAX,) * 3}, bands=("VV",), planes=("VV",) * 3, crop=32)
SHIPS = [(40, 300), (255, 256), (400, 90)]


@pytest.fixture
def amplitude():
    """512 x 512 of four-look sea with three ships of 4 x 16 pixels."""
    water = sea(512, 512)
    for row, col in SHIPS:
        water[row - 2 : row + 2, col - 8 : col + 8] *= 8
    return water


USUAL = Detector()


def found(folder, pixels, wanted=USUAL, **facts):
    scene = open_scene(
        write(folder / "s.tif", pixels, names=("VV",), tiled=True, blockxsize=64, blockysize=64, **facts)
    )
    return detect(scene, wanted, framing(SAR, scene, Wishes(), True), Declared("amplitude"), SAR, None)


@pytest.mark.parametrize("window", [64, 128, 2048])
def test_ships_are_found_once_whatever_the_windows(tmp_path, amplitude, monkeypatch, window):
    monkeypatch.setattr(scenes, "_READ", window)
    places = found(tmp_path, amplitude)
    assert [(place.row, place.col) for place in places.places] == [pytest.approx(ship, abs=1) for ship in SHIPS]
    assert [place.name for place in places.places] == ["s_d000001", "s_d000002", "s_d000003"]
    assert "not known to be ships" in places.notes[0] and "at 4.0 looks" in places.notes[0]
    assert places.notes[1].endswith("--land is better: 0.0%")


def test_bright_land_is_left_out(tmp_path, amplitude):
    amplitude[300:, :200] = 5 * sea(212, 200, seed=1)
    places = found(tmp_path, amplitude)
    assert [(place.row, place.col) for place in places.places] == [pytest.approx(ship, abs=1) for ship in SHIPS[:2]]
    assert 0.15 < float(places.notes[1].rsplit(" ", 1)[1].rstrip("%")) / 100 < 0.25


def test_polygons_of_land(tmp_path, amplitude):
    corners = [(240, 230), (290, 230), (290, 280), (240, 280)]
    island = shapely.Polygon([UTM * (col, row) for col, row in corners])
    elsewhere = shapely.box(0, 0, 1, 1)
    geopandas.GeoDataFrame(geometry=[island, elsewhere], crs="EPSG:32633").to_crs(3857).to_file(tmp_path / "land.gpkg")
    wanted = Detector(land=tmp_path / "land.gpkg")
    places = found(tmp_path, amplitude, wanted, crs="EPSG:32633", transform=UTM)
    assert [place.row for place in places.places] == pytest.approx([40, 400], abs=1)
    assert float(places.notes[1].rsplit(" ", 1)[1].rstrip("%")) / 100 == pytest.approx(2500 / 512**2, abs=0.001)
    with pytest.raises(RequestError, match="no georeference"):
        found(tmp_path, amplitude, wanted)


def test_what_is_larger_than_a_chip_is_counted(tmp_path, amplitude):
    amplitude[200:203, 20:120] *= 8
    places = found(tmp_path, amplitude)
    assert len(places.places) == 3 and places.notes[2] == "s.tif: bright objects larger than a chip, left out: 1"


def test_optical_bands_are_refused(tmp_path):
    optical = contract(bands=("B02",), planes=("B02",), crop=32, mean=(0.5,), std=(0.5,))
    scene = open_scene(write(tmp_path / "s.tif", np.ones((64, 64), np.uint8)))
    with pytest.raises(RequestError, match="looked for in SAR, the model takes B02"):
        detect(scene, Detector(), framing(optical, scene, Wishes(), True), Declared(), optical, None)


def test_an_empty_scene(tmp_path):
    assert not found(tmp_path, np.zeros((80, 80), np.float32)).places


def test_a_unit_that_is_missing(tmp_path, amplitude):
    scene = open_scene(write(tmp_path / "s.tif", amplitude))
    with pytest.raises(DataError, match="no declared unit"):
        detect(scene, Detector(), framing(SAR, scene, Wishes(), True), Declared(), SAR, None)


@pytest.mark.parametrize("pfa", [0, 0.5, -1])
def test_no_rate(pfa):
    with pytest.raises(RequestError, match="false alarm rate"):
        Detector(pfa)
