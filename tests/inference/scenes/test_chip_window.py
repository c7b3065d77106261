"""The size of a chip: by contract, by wish, by pixel spacing."""

from __future__ import annotations

import numpy as np
import pytest
from rasterio.transform import Affine

from rsft.errors import DataError, RequestError
from rsft.inference.scenes.chip_window import Wishes, framing, resize
from rsft.inference.scenes.locations import Place, tiles
from rsft.inference.scenes.raster import open_scene
from tests.helpers.scenes import contract, write

POINT = Place(50.0, 60.0, None, "p")
BOXED = Place(20.0, 40.0, (10, 20, 30, 20, 30, 60, 10, 60), "b")


def scene(folder, spacing=10.0, crs="EPSG:32633"):
    transform = Affine(spacing, 0, 500_000, 0, -spacing, 5_000_000) if crs else None
    return open_scene(write(folder / "s.tif", np.zeros((100, 200), np.uint8), crs=crs, transform=transform))


def test_the_crop_is_the_side(tmp_path):
    frame = framing(contract(crop=16), scene(tmp_path), Wishes(), points=True)
    assert frame.size(POINT) == (16, 16) and frame.block(POINT) == (42, 52, 58, 68)


def test_margin_around_a_box(tmp_path):
    frame = framing(contract(), scene(tmp_path), Wishes(margin=3), points=False)
    assert frame.size(BOXED) == (26, 46) and frame.block(BOXED) == (7, 17, 33, 63)


def test_resampled(tmp_path):
    frame = framing(contract(crop=16, spacing_m=20), scene(tmp_path), Wishes(resample_to=20), points=True)
    assert frame.block(POINT) == (34, 44, 66, 76)
    pixels = np.arange(32 * 32, dtype=np.float32).reshape(32, 32, 1)
    chip = frame.chip(pixels, POINT)
    assert chip.shape == (16, 16, 1) and chip[0, 0, 0] == pytest.approx(pixels[:2, :2].mean())


def test_a_spacing_that_the_user_says(tmp_path):
    bare = scene(tmp_path, crs=None)
    frame = framing(contract(crop=16, spacing_m=20), bare, Wishes(resample_to=20, spacing=5), points=True)
    assert frame.scale == (4, 4)


def test_degrees_have_pixels_of_two_sides(tmp_path):
    transform = Affine(1e-4, 0, 15, 0, -1e-4, 60)
    path = write(tmp_path / "s.tif", np.zeros((100, 200), np.uint8), crs="EPSG:4326", transform=transform)
    found = open_scene(path).spacing
    assert found == pytest.approx((11.14, 5.58), abs=0.01)
    frame = framing(contract(crop=100), open_scene(path), Wishes(resample_to=found[0]), points=True)
    assert frame.scale == pytest.approx((1, 2), rel=0.01)


@pytest.mark.parametrize(
    ("facts", "wishes", "error", "told", "way_out"),
    [
        ({}, Wishes(), RequestError, "whole chips of no fixed size", "--side|the side of a chip"),
        ({"crop": 32}, Wishes(side=16), RequestError, "chips of 16 pixels, but the model looks at 32", "--side 32"),
        ({}, Wishes(margin=2), RequestError, "some positions are points", "--side"),
        ({"crop": 8, "spacing_m": 3.0}, Wishes(), DataError, "pixels of 10 m, .* trained on 3 m", "--resample-to 3"),
        ({"crop": 8, "spacing_m": 3.0}, Wishes(resample_to=5), DataError, "pixels of 5 m, .* 3 m", "--resample-to 3"),
    ],
)
def test_refused(tmp_path, facts, wishes, error, told, way_out):
    with pytest.raises(error, match=told) as caught:
        framing(contract(**facts), scene(tmp_path), wishes, points=True)
    assert any(way in caught.value.fix for way in way_out.split("|"))


def test_pixels_of_unknown_size_are_not_resampled(tmp_path):
    with pytest.raises(DataError, match="unknown size") as caught:
        framing(contract(crop=8), scene(tmp_path, crs=None), Wishes(resample_to=5), points=True)
    assert "--spacing" in caught.value.fix


@pytest.mark.parametrize(
    ("side", "stride", "tops", "lefts"),
    [(50, 50, [0, 50], [0, 50, 100, 150]), (64, 40, [0, 36], [0, 40, 80, 120, 136]), (300, 300, [0], [0])],
)
def test_tiles_end_at_the_edge(tmp_path, side, stride, tops, lefts):
    found = tiles(scene(tmp_path), (side, side), (stride, stride)).places
    corners = [(place.row - side / 2, place.col - side / 2) for place in found]
    assert corners == [(top, left) for top in tops for left in lefts]
    assert len({place.name for place in found}) == len(found)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("bands", [1, 2, 5])
def test_resize_keeps_type_and_bands(kind, bands):
    resized = resize(np.full((9, 6, bands), 7, kind), (3, 12))
    assert resized.dtype == kind and resized.shape == (3, 12, bands) and (resized == 7).all()


def test_complex_numbers_are_not_resized():
    with pytest.raises(DataError, match="complex64"):
        resize(np.ones((4, 4, 1), np.complex64), (2, 2))
