"""Land from the shorelines of a package, and the choice between the sources of land."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import shapely
from rasterio.transform import Affine

from rsft.errors import RequestError
from rsft.inference.detection import land_mask
from rsft.inference.detection.land_mask import open_land_polygons
from rsft.inference.options import parse_land
from rsft.inference.scenes.raster import PixelWindow, open_scene
from tests.helpers.messages import mentions
from tests.helpers.scenes import UTM, write_geotiff

EVERYWHERE = PixelWindow(0, 0, 100, 100)


@pytest.fixture
def shorelines(monkeypatch):
    """Install a package with these shorelines in degrees."""

    def install(*polygons):
        wkb = shapely.to_wkb(shapely.MultiPolygon(polygons))
        provider = SimpleNamespace(Osm="osm")
        package = SimpleNamespace(Shapes=SimpleNamespace(wkb=lambda name: wkb), LandmaskProvider=provider)
        land_mask._read_shorelines.cache_clear()
        monkeypatch.setattr(land_mask, "find_spec", lambda name: True)
        monkeypatch.setattr(land_mask, "version", lambda name: "9.9")
        monkeypatch.setattr(land_mask.importlib, "import_module", lambda name: package)

    yield install
    land_mask._read_shorelines.cache_clear()


def open_zeros(path, crs="EPSG:32633", transform=UTM):
    return open_scene(write_geotiff(path, np.zeros((100, 100), np.uint8), crs=crs, transform=transform))


def test_shorelines_of_the_package(tmp_path, shorelines):
    scene = open_zeros(tmp_path / "s.tif")
    corners = scene.georeference.pixels_to_lonlat([0, 0, 200, 200], [-50, 40, 40, -50])  # row, col: the left 40 columns
    shorelines(shapely.Polygon(corners), shapely.box(100, 0, 101, 1))
    mask = open_land_polygons("auto", scene)
    is_land = mask(EVERYWHERE)
    assert is_land[:, :50].all() and not is_land[:, 52:].any()  # 100 m of sea are 10 pixels
    assert mask.description == "shorelines of OpenStreetMap (roaring-landmask 9.9) and 100 m of sea"
    shorelines(shapely.box(100, 0, 101, 1))
    assert not open_land_polygons("auto", scene)(EVERYWHERE).any()


def test_a_scene_across_the_date_line(tmp_path, shorelines):
    scene = open_zeros(tmp_path / "s.tif", "EPSG:32601", Affine(100, 0, 161_000, 0, -100, 10_000))  # from 179.95 east
    shorelines(shapely.box(0, -1, 10, 1))
    assert not open_land_polygons("auto", scene).shapes


@pytest.mark.parametrize("source", ["none", "brightness"])
def test_other_sources_open_no_polygons(tmp_path, shorelines, source):
    shorelines(shapely.box(-180, -90, 180, 90))
    assert open_land_polygons(source, open_zeros(tmp_path / "s.tif")) is None


def test_without_georeference_or_package(tmp_path, shorelines, monkeypatch):
    shorelines(shapely.box(-180, -90, 180, 90))
    scene = open_scene(write_geotiff(tmp_path / "s.tif", np.zeros((100, 100), np.uint8)))
    assert open_land_polygons("auto", scene) is None
    monkeypatch.setattr(land_mask, "find_spec", lambda name: None)
    assert open_land_polygons("auto", open_zeros(tmp_path / "t.tif")) is None


def test_file_that_is_no_layer(tmp_path):
    (tmp_path / "land.gpkg").write_text("text")
    with pytest.raises(RequestError, match="cannot be read") as caught:
        open_land_polygons(tmp_path / "land.gpkg", open_zeros(tmp_path / "s.tif"))
    assert "auto, brightness, none" in caught.value.hint


def test_ring_of_one_point(tmp_path):
    ring = '{"type": "Polygon", "coordinates": [[[15.0, 50.0]]]}'
    (tmp_path / "land.geojson").write_text(f'{{"type": "Feature", "properties": {{}}, "geometry": {ring}}}')
    with pytest.raises(RequestError, match="cannot be read"):
        open_land_polygons(tmp_path / "land.geojson", open_zeros(tmp_path / "s.tif"))


def test_positions_in_pixels_are_no_land(tmp_path):
    (tmp_path / "land.csv").write_text("row,col\n1,2\n")
    with pytest.raises(RequestError, match=mentions("coordinate system", "land.csv")):
        open_land_polygons(tmp_path / "land.csv", open_zeros(tmp_path / "s.tif"))


def test_keywords_and_paths():
    assert [parse_land(text) for text in ("auto", "none", "brightness", "land.gpkg", "./none")] == [
        *("auto", "none", "brightness"),
        *(Path("land.gpkg"), Path("none")),
    ]
