"""Chips cut from a scene: pixels, geometry, saved files, and the length of the
object."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import rasterio
import shapely

from rsft.errors import DataError
from rsft.inference.options import PredictionRequest
from rsft.inference.predict import scene_chips
from rsft.inference.predict.chip_files import NoDataError
from rsft.inference.predict.scene_chips import SceneChips, in_block_order
from rsft.scenes.georeference import rectangle_corners
from rsft.scenes.locations import Location
from rsft.scenes.options import Declaration
from rsft.scenes.query import Query
from rsft.scenes.raster import open_scene
from rsft.scenes.requirements import check_scene
from rsft.scenes.windows import ChipWindow
from tests.helpers.scenes import (
    UTM,
    ground_control_points,
    read_footprint,
    toy_contract,
    write_geotiff,
)

BANDS = ("VV", "VH")
SAR = toy_contract(
    units={"sigma0": toy_contract().units["uint8"][:2]},
    bands=BANDS,
    planes=BANDS,
    mean=(0.5,) * 2,
    std=(1,) * 2,
)
PIXELS = np.random.default_rng(0).random((2, 60, 80), np.float32)


POINTS = Query()


def chips(scene, locations, scale=1.0, query=POINTS, in_pixels=False, **options):
    window = ChipWindow(8, 0, (scale, scale))
    request = PredictionRequest(query, Declaration("sigma0"), **options)
    return SceneChips(scene, locations, SAR, window, request, in_pixels)


def point(row, col, name="p"):
    return Location(row, col, None, name)


def test_only_the_bands_of_the_model_in_its_order(tmp_path):
    bands = np.concatenate([PIXELS[1:], PIXELS[:1] * 0 + 7, PIXELS[:1]])
    scene = open_scene(
        write_geotiff(tmp_path / "s.tif", bands, names=("VH", "HH", "VV"))
    )
    assert check_scene(scene, SAR, Declaration("sigma0")) == [2, 0]
    chip = chips(scene, [point(20, 30)]).read(0)
    assert (chip.pixels.transpose(2, 0, 1) == PIXELS[:, 16:24, 26:34]).all()
    assert chip.columns | {"geometry": 0} == {
        **{
            "chip": "p",
            "scene": "s.tif",
            "path": str(tmp_path / "s.tif"),
            "row": 20,
            "col": 30,
        },
        **{
            "lon": None,
            "lat": None,
            "at": None,
            "score": None,
            "incidence_deg": None,
            "geometry": 0,
        },
    }


@pytest.mark.parametrize(
    ("names", "declaration", "message", "hint"),
    [
        (
            ("HH", "HV"),
            Declaration("sigma0"),
            "bands HH, HV, but the model takes VV, VH",
            "--bands",
        ),
        ((), Declaration("sigma0", ("VV",)), "2 bands, but names for 1", "--bands"),
        (
            (),
            Declaration(None),
            "float32 pixels without a declared unit, but the model takes sigma0",
            "with --unit",
        ),
        (
            BANDS[::-1],
            Declaration("sigma0", BANDS),
            "the file names its bands VH, VV, not VV, VH",
            "",
        ),
        (
            (),
            Declaration("amplitude"),
            "amplitude pixels, but the model takes sigma0",
            "--unit",
        ),
    ],
)
def test_scene_that_does_not_fulfill_the_contract(
    tmp_path, names, declaration, message, hint
):
    scene = open_scene(write_geotiff(tmp_path / "s.tif", PIXELS, names=names))
    with pytest.raises(DataError, match=message) as caught:
        check_scene(scene, SAR, declaration)
    assert hint in caught.value.hint and caught.value.location.endswith("s.tif")


def test_chips_over_the_edge_and_without_data(tmp_path):
    pixels = PIXELS.copy()
    pixels[:, :20, :20] = 0
    scene = open_scene(write_geotiff(tmp_path / "s.tif", pixels))
    locations = [point(30, 40), point(10, 10, "empty"), point(0, 60, "edge")]
    cut = chips(scene, locations)
    assert cut.edge_chips == 1
    assert np.isnan(cut.read(cut.locations.index(locations[2])).pixels).mean() == 0.5
    with pytest.raises(DataError, match=r"every pixel is 0\.0"):
        cut.read(cut.locations.index(locations[1]))
    with pytest.raises(NoDataError):
        chips(scene, locations, query=Query(grid=8)).read(
            cut.locations.index(locations[1])
        )


def test_chips_in_the_order_of_blocks(tmp_path):
    pixels = np.random.default_rng(0).random((2, 256, 256), np.float32)
    scene = open_scene(
        write_geotiff(
            tmp_path / "s.tif", pixels, tiled=True, blockxsize=128, blockysize=128
        )
    )
    locations = [point(200, 10), point(10, 200), point(20, 20), point(10, 10)]
    ordered = [
        (location.row, location.col) for location in in_block_order(scene, locations)
    ]
    assert ordered == [(20, 20), (10, 10), (10, 200), (200, 10)]


def test_geometry_of_points_and_boxes(tmp_path):
    scene = open_scene(
        write_geotiff(tmp_path / "s.tif", PIXELS, crs="EPSG:32633", transform=UTM)
    )
    columns = chips(scene, [point(20.5, 30.5)]).read(0).columns
    lon, lat = columns["lon"], columns["lat"]
    assert columns["geometry"].distance(shapely.Point(lon, lat)) < 1e-6
    assert scene.georeference.lonlat_to_pixels(lon, lat)[0] == pytest.approx(
        (20.5, 30.5), abs=0.01
    )
    box = Location(25, 30, (20, 20, 30, 20, 30, 40, 20, 40), "b")
    columns = chips(scene, [box]).read(0).columns
    ring = np.array(columns["geometry"].exterior.coords)[:4]
    assert scene.georeference.lonlat_to_pixels(*ring.T) == pytest.approx(
        np.reshape(box.box, (4, 2)), abs=0.01
    )
    assert (columns["length_m"], columns["length_from"]) == (
        pytest.approx(200, abs=0.2),
        "box",
    )


def test_geometry_in_pixels_without_georeference(tmp_path):
    scene = open_scene(write_geotiff(tmp_path / "s.tif", PIXELS))
    assert (
        chips(scene, [point(20, 30)], in_pixels=True).read(0).columns["geometry"].wkt
        == "POINT (30 -20)"
    )
    assert chips(scene, [point(20, 30)]).read(0).columns["geometry"] is None


@pytest.mark.parametrize("kind", ["transform", "points"])
@pytest.mark.parametrize("scale", [1, 2])
def test_georeference_of_saved_chips(tmp_path, kind, scale):
    profile = {"crs": "EPSG:32633", "transform": UTM}
    if kind == "points":
        profile = {
            "crs": "EPSG:4326",
            "gcps": ground_control_points(UTM, 60, 80, "EPSG:32633"),
        }
    scene = open_scene(
        write_geotiff(tmp_path / "s.tif", PIXELS, names=BANDS, **profile)
    )
    cut = chips(scene, [point(20, 30)], chips_dir=tmp_path / "chips", scale=scale)
    chip = cut.read(0)
    with rasterio.open(tmp_path / "chips/p.tif") as file:
        assert (
            file.read() == chip.pixels.transpose(2, 0, 1)
        ).all() and file.descriptions == BANDS
    radius = 4 * scale
    corners = rectangle_corners(20 - radius, 30 - radius, 20 + radius, 30 + radius)
    outline = scene.georeference.outline_polygons(corners[None])[0]
    assert (
        read_footprint(tmp_path / "chips/p.tif").symmetric_difference(outline).area
        < 1e-3 * outline.area
    )


def test_a_scene_needs_only_the_bands_of_the_planes(tmp_path):
    contract = SAR.model_copy(update={"planes": ("VH", "VH")})
    for names, bands, indices in (
        (("VH",), PIXELS[:1], [0]),
        (("HH", "VH"), PIXELS, [1]),
        ((), PIXELS[:1], [0]),
        ((), PIXELS, [1]),
    ):
        scene = open_scene(write_geotiff(tmp_path / "s.tif", bands, names=names))
        assert check_scene(scene, contract, Declaration("sigma0")) == indices


@pytest.mark.parametrize(
    ("kind", "named", "declared", "is_noted"),
    [
        ("Sentinel-1 GRD", None, None, True),
        ("Sentinel-1 GRD", BANDS, None, False),
        ("Sentinel-1 GRD", None, BANDS, False),
        ("raster", None, None, False),
    ],
)
def test_a_product_without_its_polarization_is_noted(kind, named, declared, is_noted):
    product = SimpleNamespace(kind=kind)
    scene = SimpleNamespace(bands=named, product=product, path=Path("s.tif"))
    # no scene of a test is such a product
    notes = scene_chips._describe_polarization(scene, SAR, Declaration(bands=declared))
    assert any("does not state its polarization" in note for note in notes) == is_noted
