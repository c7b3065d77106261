"""The size of a chip by contract, options and spacing."""

from dataclasses import replace

import numpy as np
import pytest
from rasterio.transform import Affine

from rsft.errors import DataError, RequestError
from rsft.scenes.chip_size import resize_chip
from rsft.scenes.locations import Location
from rsft.scenes.options import ChipOptions, ChipSize
from rsft.scenes.windows import check_boxes, fit_size, make_window
from tests.helpers.messages import mentions
from tests.helpers.scenes import toy_contract
from tests.scenes.conftest import blank

POINT = Location(50.0, 60.0, None, "p")
BOXED = Location(20.0, 40.0, (10, 20, 30, 20, 30, 60, 10, 60), "b")


def window_of(scene, options, **contract):
    return make_window(scene, options, toy_contract(**contract))


def test_side_is_the_crop(scene):
    window = window_of(scene, ChipOptions(), crop=16)
    assert window.chip_size(POINT) == (16, 16) and window.window_at(POINT) == (
        42,
        52,
        58,
        68,
    )


def test_margin_around_a_box(scene):
    window = window_of(scene, ChipOptions(size=ChipSize(margin=3)))
    assert window.chip_size(BOXED) == (26, 46) and window.window_at(BOXED) == (
        7,
        17,
        33,
        63,
    )


def test_a_box_is_rounded_outwards_and_clipped_to_the_scene(scene):
    # no rectangle, and partly outside
    corners = [
        (0.4, -3.0),
        (1.2, 8.5),
        (12.6, 6.5),
        (11.0, -3.0),
    ]
    location = Location(
        6.5, 2.75, tuple(np.ravel(corners)), "q", extent=(0.4, -3.0, 12.6, 8.5)
    )
    window = window_of(scene, ChipOptions(size=ChipSize(margin=0)))
    assert window.window_at(location) == (0, 0, 13, 9) and window.chip_size(
        location
    ) == (13, 9)
    window = window_of(scene, ChipOptions(size=ChipSize(margin=1), resample_to=20))
    assert window.window_at(location) == (0, 0, 15, 11) and window.chip_size(
        location
    ) == (8, 6)


def test_resampled(scene):
    window = window_of(scene, ChipOptions(resample_to=20), crop=16, spacing_m=20)
    assert window.window_at(POINT) == (34, 44, 66, 76)
    pixels = np.arange(32 * 32, dtype=np.float32).reshape(32, 32, 1)
    chip = resize_chip(pixels, window.chip_size(POINT))
    assert chip.shape == (16, 16, 1) and chip[0, 0, 0] == pytest.approx(
        pixels[:2, :2].mean()
    )


def test_spacing_option(bare):
    assert window_of(
        bare, ChipOptions(resample_to=20, spacing=5), crop=16, spacing_m=20
    ).scale == (4, 4)


def test_pixels_in_degrees_are_not_square(tmp_path):
    scene = blank(
        tmp_path, crs="EPSG:4326", transform=Affine(1e-4, 0, 15, 0, -1e-4, 60)
    )
    assert scene.spacing == pytest.approx((11.14, 5.58), abs=0.01)
    window = window_of(scene, ChipOptions(resample_to=scene.spacing[0]), crop=100)
    assert window.scale == pytest.approx((1, 2), rel=0.01)


@pytest.mark.parametrize(
    ("fields", "options", "parts"),
    [
        ({}, ChipOptions(), ["no fixed size", "--size box"]),
        (
            {"crop": 32},
            ChipOptions(size=ChipSize(16)),
            ["16 pixels", "32", "--size 32"],
        ),
        ({}, ChipOptions(size=ChipSize(60_000)), ["60,000 pixels", "8,192 x 8,192"]),
        (
            {"crop": 8, "spacing_m": 3.0},
            ChipOptions(),
            ["pixels of 10 m", "3 m", "--resample-to 3"],
        ),
        (
            {"crop": 8, "spacing_m": 3.0},
            ChipOptions(resample_to=5),
            ["pixels of 5 m", "3 m", "--resample-to 3"],
        ),
    ],
)
def test_sizes_that_are_refused(scene, fields, options, parts):
    with pytest.raises((RequestError, DataError), match=mentions(*parts)):
        window_of(scene, options, **fields)


def test_the_common_side_of_training_chips_is_the_default(scene):
    assert window_of(scene, ChipOptions(), side=24).side == 24
    assert window_of(scene, ChipOptions(size=ChipSize(16)), side=24).side == 16


def test_pixels_of_unknown_spacing_are_not_resampled(bare):
    with pytest.raises(DataError, match=mentions("unknown spacing", "--spacing")):
        window_of(bare, ChipOptions(resample_to=5), crop=8)


def test_chips_have_a_largest_size(bare):
    with pytest.raises(RequestError, match=mentions("60,000 pixels", "8,192 x 8,192")):
        window_of(bare, ChipOptions(size=ChipSize(margin=60_000)))
    window = replace(
        window_of(bare, ChipOptions(size=ChipSize(margin=0))),
        limits=None,
    )
    huge = Location(
        250.0,
        250.0,
        (-40_000, -40_000, 40_500, -40_000, 40_500, 40_500, -40_000, 40_500),
        "h",
    )
    assert window.find_fault(BOXED, 1) == ""
    fault = window.find_fault(huge, 1)
    assert "80,500 x 80,500 pixels" in fault and "8,192 pixels a side" in fault
    wide = Location(50.0, 50.0, (0, 0, 8000, 0, 8000, 8000, 0, 8000), "w")
    fault = window.find_fault(wide, 13)
    assert "13 bands" in fault and "268,435,456 values" in fault
    finer = window_of(
        bare,
        ChipOptions(size=ChipSize(margin=10), spacing=0.01, resample_to=10),
    )
    assert finer.window_at(BOXED) == (0, 0, bare.height, bare.width)
    finer = replace(finer, limits=None)
    assert "20,020 x 20,040 pixels" in finer.find_fault(BOXED, 1)


def test_chips_along_boxes_need_boxes(scene):
    window = window_of(scene, ChipOptions(size=ChipSize(margin=2)))
    check_boxes(window, [BOXED])
    with pytest.raises(RequestError, match=mentions("points", "--size")):
        check_boxes(window, [BOXED, BOXED._replace(box=None)])


def test_a_chip_shows_most_boxes_with_a_margin():
    def boxed(side):
        return Location(0.0, 0.0, (0, 0, 4, 0, 4, side, 0, side), "b")

    assert fit_size([POINT]) == fit_size([]) == ChipSize(64)
    assert fit_size([boxed(40), POINT]) == ChipSize(64)  # 1.5 x 40 = 60
    assert fit_size([boxed(44)]) == ChipSize(80)  # 66
    assert fit_size([boxed(4)]) == ChipSize(32)
    assert fit_size([boxed(1000)]) == ChipSize(512)
    assert fit_size([boxed(40)] * 40 + [boxed(400)] * 3) == ChipSize(64)
    assert fit_size([boxed(40)] * 40 + [boxed(400)] * 4) == ChipSize(512)
