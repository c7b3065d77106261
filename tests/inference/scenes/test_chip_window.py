"""The size of a chip by contract, options and pixel spacing."""

from __future__ import annotations

import numpy as np
import pytest
from rasterio.transform import Affine

from rsft.errors import DataError, RequestError
from rsft.inference.options import ChipOptions
from rsft.inference.scenes.chip_window import make_chip_window, resize_chip
from rsft.inference.scenes.locations import Location, tile_locations
from rsft.inference.scenes.raster import open_scene
from tests.helpers.messages import mentions
from tests.helpers.scenes import toy_contract, write_geotiff

POINT = Location(50.0, 60.0, None, "p")
BOXED = Location(20.0, 40.0, (10, 20, 30, 20, 30, 60, 10, 60), "b")


def scene(folder, spacing=10.0, crs="EPSG:32633"):
    transform = Affine(spacing, 0, 500_000, 0, -spacing, 5_000_000) if crs else None
    return open_scene(write_geotiff(folder / "s.tif", np.zeros((100, 200), np.uint8), crs=crs, transform=transform))


def test_side_is_the_crop(tmp_path):
    window = make_chip_window(toy_contract(crop=16), scene(tmp_path), ChipOptions(), has_points=True)
    assert window.chip_size(POINT) == (16, 16) and window.window_at(POINT) == (42, 52, 58, 68)


def test_margin_around_a_box(tmp_path):
    window = make_chip_window(toy_contract(), scene(tmp_path), ChipOptions(margin=3), has_points=False)
    assert window.chip_size(BOXED) == (26, 46) and window.window_at(BOXED) == (7, 17, 33, 63)


def test_resampled(tmp_path):
    window = make_chip_window(
        toy_contract(crop=16, spacing_m=20), scene(tmp_path), ChipOptions(resample_to=20), has_points=True
    )
    assert window.window_at(POINT) == (34, 44, 66, 76)
    pixels = np.arange(32 * 32, dtype=np.float32).reshape(32, 32, 1)
    chip = window.resample(pixels, POINT)
    assert chip.shape == (16, 16, 1) and chip[0, 0, 0] == pytest.approx(pixels[:2, :2].mean())


def test_spacing_option(tmp_path):
    options = ChipOptions(resample_to=20, spacing=5)
    window = make_chip_window(toy_contract(crop=16, spacing_m=20), scene(tmp_path, crs=None), options, has_points=True)
    assert window.scale == (4, 4)


def test_pixels_in_degrees_are_not_square(tmp_path):
    transform = Affine(1e-4, 0, 15, 0, -1e-4, 60)
    path = write_geotiff(tmp_path / "s.tif", np.zeros((100, 200), np.uint8), crs="EPSG:4326", transform=transform)
    spacing = open_scene(path).spacing
    assert spacing == pytest.approx((11.14, 5.58), abs=0.01)
    window = make_chip_window(
        toy_contract(crop=100), open_scene(path), ChipOptions(resample_to=spacing[0]), has_points=True
    )
    assert window.scale == pytest.approx((1, 2), rel=0.01)


@pytest.mark.parametrize(
    ("fields", "options", "parts"),
    [
        ({}, ChipOptions(), ["no fixed size", "--margin 0"]),
        ({"crop": 32}, ChipOptions(side=16), ["16 pixels", "32", "--side 32"]),
        ({}, ChipOptions(margin=2), ["points", "--side"]),
        ({}, ChipOptions(side=60_000), ["60,000 pixels", "8,192 x 8,192"]),
        ({"crop": 8, "spacing_m": 3.0}, ChipOptions(), ["pixels of 10 m", "3 m", "--resample-to 3"]),
        ({"crop": 8, "spacing_m": 3.0}, ChipOptions(resample_to=5), ["pixels of 5 m", "3 m", "--resample-to 3"]),
    ],
)
def test_refused(tmp_path, fields, options, parts):
    with pytest.raises((RequestError, DataError), match=mentions(*parts)):
        make_chip_window(toy_contract(**fields), scene(tmp_path), options, has_points=True)


def test_pixels_of_unknown_spacing_are_not_resampled(tmp_path):
    with pytest.raises(DataError, match=mentions("unknown spacing", "--spacing")):
        make_chip_window(toy_contract(crop=8), scene(tmp_path, crs=None), ChipOptions(resample_to=5), has_points=True)


@pytest.mark.parametrize(
    ("side", "stride", "tops", "lefts"),
    [(50, 50, [0, 50], [0, 50, 100, 150]), (64, 40, [0, 36], [0, 40, 80, 120, 136]), (300, 300, [0], [0])],
)
def test_tiles_end_at_the_edge(tmp_path, side, stride, tops, lefts):
    locations = tile_locations(scene(tmp_path), (side, side), (stride, stride)).locations
    corners = [(location.row - side / 2, location.col - side / 2) for location in locations]
    assert corners == [(top, left) for top in tops for left in lefts]
    assert len({location.name for location in locations}) == len(locations)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("bands", [1, 2, 5])
def test_resize_keeps_type_and_bands(kind, bands):
    resized = resize_chip(np.full((9, 6, bands), 7, kind), (3, 12))
    assert resized.dtype == kind and resized.shape == (3, 12, bands) and (resized == 7).all()


def test_complex_pixels_are_not_resized():
    with pytest.raises(DataError, match="complex64"):
        resize_chip(np.ones((4, 4, 1), np.complex64), (2, 2))


def test_chips_have_a_largest_size(tmp_path):
    bare = scene(tmp_path, crs=None)
    with pytest.raises(RequestError, match=mentions("60,000 pixels", "8,192 x 8,192")):
        make_chip_window(toy_contract(), bare, ChipOptions(margin=60_000), has_points=False)
    window = make_chip_window(toy_contract(), bare, ChipOptions(margin=0), has_points=False)
    huge = Location(250.0, 250.0, (-40_000, -40_000, 40_500, -40_000, 40_500, 40_500, -40_000, 40_500), "h")
    assert window.find_fault(BOXED, 1) == ""
    assert "80,500 x 80,500 pixels; the limit is 8,192" in window.find_fault(huge, 1)
    wide = Location(50.0, 50.0, (0, 0, 8000, 0, 8000, 8000, 0, 8000), "w")
    assert "more than 268,435,456 values in 13 bands" in window.find_fault(wide, 13)
    finer = make_chip_window(
        toy_contract(), bare, ChipOptions(margin=10, spacing=0.01, resample_to=10), has_points=False
    )
    assert "20,000 x 20,000 pixels" in finer.find_fault(BOXED, 1)
