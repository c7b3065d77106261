"""Chips cut around places: their pixels, where they lie, what they are kept as."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio
import shapely

from rsft.errors import DataError
from rsft.inference.inputs.chip_source import NoData
from rsft.inference.inputs.discovery import Declared
from rsft.inference.inputs.scene_chips import SceneChips, check_scene
from rsft.inference.scenes.chip_window import Framing
from rsft.inference.scenes.georeference import footprint
from rsft.inference.scenes.locations import Place
from rsft.inference.scenes.raster import open_scene
from tests.helpers.scenes import UTM, contract, points, write

BANDS = ("VV", "VH")
SAR = contract(
    units={"sigma0": contract().units["uint8"][:2]}, bands=BANDS, planes=BANDS, mean=(0.5,) * 2, std=(1,) * 2
)
PIXELS = np.random.default_rng(0).random((2, 60, 80), np.float32)


def chips(scene, places, tiled=False, keep=None, pixels=False, scale=1.0):
    frame = Framing(8, 0, (scale, scale))
    spacing = scene.spacing and (scene.spacing[0] * scale, scene.spacing[1] * scale)
    return SceneChips(
        scene, places, SAR, frame, spacing, declared=Declared("sigma0"), tiled=tiled, keep=keep, pixels=pixels
    )


def point(row, col, name="p"):
    return Place(row, col, None, name)


def test_bands_in_the_models_order_and_only_those(tmp_path):
    bands = np.concatenate([PIXELS[1:], PIXELS[:1] * 0 + 7, PIXELS[:1]])
    scene = open_scene(write(tmp_path / "s.tif", bands, names=("VH", "HH", "VV")))
    assert check_scene(scene, SAR, Declared("sigma0")) == [2, 0]
    chip = chips(scene, [point(20, 30)]).read(0)
    assert (chip.pixels.transpose(2, 0, 1) == PIXELS[:, 16:24, 26:34]).all()
    assert chip.facts | {"geometry": 0} == {
        **{"chip": "p", "scene": "s.tif", "path": str(tmp_path / "s.tif"), "row": 20, "col": 30},
        **{"lon": None, "lat": None, "at": None, "score": None, "geometry": 0},
    }


@pytest.mark.parametrize(
    ("names", "declared", "told", "way_out"),
    [
        (("HH", "HV"), Declared("sigma0"), "bands HH, HV, but the model takes VV, VH", "--bands"),
        ((), Declared("sigma0", ("VV",)), "2 bands, but 1 names", "--bands"),
        ((), Declared(None), "float32 pixels of no declared unit, but the model takes sigma0", "--unit sigma0"),
        ((), Declared("amplitude"), "amplitude pixels, but the model takes sigma0", "--unit"),
    ],
)
def test_what_breaks_the_contract_is_refused_at_once(tmp_path, names, declared, told, way_out):
    scene = open_scene(write(tmp_path / "s.tif", PIXELS, names=names))
    with pytest.raises(DataError, match=told) as caught:
        check_scene(scene, SAR, declared)
    assert way_out in caught.value.fix and caught.value.where.endswith("s.tif")


def test_over_the_edge_and_without_data(tmp_path):
    pixels = PIXELS.copy()
    pixels[:, :20, :20] = 0
    scene = open_scene(write(tmp_path / "s.tif", pixels))
    places = [point(30, 40), point(10, 10, "empty"), point(0, 60, "edge")]
    cut = chips(scene, places)
    assert cut.over_the_edge == 1
    assert np.isnan(cut.read(cut.places.index(places[2])).pixels).mean() == 0.5
    with pytest.raises(DataError, match=r"every pixel is 0\.0"):
        cut.read(cut.places.index(places[1]))
    with pytest.raises(NoData):
        chips(scene, places, tiled=True).read(cut.places.index(places[1]))


def test_order_of_blocks(tmp_path):
    pixels = np.random.default_rng(0).random((2, 256, 256), np.float32)
    scene = open_scene(write(tmp_path / "s.tif", pixels, tiled=True, blockxsize=128, blockysize=128))
    places = [point(200, 10), point(10, 200), point(20, 20), point(10, 10)]
    assert [(place.row, place.col) for place in chips(scene, places).places] == [
        (20, 20),
        (10, 10),
        (10, 200),
        (200, 10),
    ]


def test_geometry_of_points_and_boxes(tmp_path):
    scene = open_scene(write(tmp_path / "s.tif", PIXELS, crs="EPSG:32633", transform=UTM))
    facts = chips(scene, [point(20.5, 30.5)]).read(0).facts
    lon, lat = facts["lon"], facts["lat"]
    assert facts["geometry"].distance(shapely.Point(lon, lat)) < 1e-6
    assert scene.place.pixels(lon, lat)[0] == pytest.approx((20.5, 30.5), abs=0.01)
    box = Place(25, 30, (20, 20, 30, 20, 30, 40, 20, 40), "b")
    facts = chips(scene, [box]).read(0).facts
    ring = np.array(facts["geometry"].exterior.coords)[:4]
    assert scene.place.pixels(*ring.T) == pytest.approx(np.reshape(box.box, (4, 2)), abs=0.01)
    assert (facts["length_m"], facts["length_from"]) == (pytest.approx(200, abs=0.2), "box")


def test_pixels_where_nothing_else_is_known(tmp_path):
    scene = open_scene(write(tmp_path / "s.tif", PIXELS))
    assert chips(scene, [point(20, 30)], pixels=True).read(0).facts["geometry"].wkt == "POINT (30 -20)"
    assert chips(scene, [point(20, 30)]).read(0).facts["geometry"] is None


@pytest.mark.parametrize("kind", ["transform", "points"])
@pytest.mark.parametrize("scale", [1, 2])
def test_kept_chips_lie_where_they_were_cut(tmp_path, kind, scale):
    facts = {"crs": "EPSG:32633", "transform": UTM}
    if kind == "points":
        facts = {"crs": "EPSG:4326", "gcps": points(UTM, 60, 80, "EPSG:32633")}
    scene = open_scene(write(tmp_path / "s.tif", PIXELS, names=BANDS, **facts))
    cut = chips(scene, [point(20, 30)], keep=tmp_path / "chips", scale=scale)
    chip = cut.read(0)
    with rasterio.open(tmp_path / "chips/p.tif") as file:
        assert (file.read() == chip.pixels.transpose(2, 0, 1)).all() and file.descriptions == BANDS
    half = 4 * scale
    corners = np.array([[20 - half, 30 - half], [20 + half, 30 - half], [20 + half, 30 + half], [20 - half, 30 + half]])
    wanted = scene.place.outlines(corners[None].astype(float))[0]
    assert footprint(tmp_path / "chips/p.tif").symmetric_difference(wanted).area < 1e-3 * wanted.area
