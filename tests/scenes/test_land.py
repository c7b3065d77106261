"""Land of a scene: shorelines of a package, files, and none."""

from types import SimpleNamespace

import numpy as np
import pytest
import shapely
from rasterio.transform import Affine

from rsft.errors import RequestError
from rsft.scenes import land as land_masks
from rsft.scenes.land import BrightLandMask, open_land_polygons
from rsft.scenes.raster import PixelWindow, open_scene
from tests.helpers.messages import mentions
from tests.helpers.scenes import UTM, write_geotiff

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
        # the cache of the shorelines of an earlier test
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
        ("land.gpkg", "text", ["cannot be read", "give .gpkg"]),
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


def test_pixels_beyond_the_scene_are_those_of_the_nearest_cell():
    mask = BrightLandMask(np.full((1, 2), np.nan), 64)
    mask.mask = np.array([[False, True]])
    window = PixelWindow(-2, land_masks.CELL - 2, 1, 2 * land_masks.CELL + 5)
    is_land = mask(window)
    assert is_land.shape == window.size
    assert is_land[0, :3].tolist() == [False, False, True] and is_land[2, -1]


def test_cells_of_zeros_have_no_data_and_hide_no_land():
    means = np.full((20, 30), 1e-3)
    means[:, 10:20] = 1.0
    means[:, 20:] = 0.0
    is_land = BrightLandMask(means, 64).mask
    assert is_land[:, 10:20].all() and not is_land[:, :5].any()
