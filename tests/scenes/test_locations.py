"""Tiles cover a scene; a location lies in it or not."""

import pytest

from rsft.scenes.locations import Location, tile_locations


@pytest.mark.parametrize(
    ("side", "stride", "tops", "lefts"),
    [
        (50, 50, [0, 50], [0, 50, 100, 150]),
        (64, 40, [0, 36], [0, 40, 80, 120, 136]),
        (300, 300, [0], [0]),
    ],
)
def test_tiles_end_at_the_edge(scene, side, stride, tops, lefts):
    locations = tile_locations(scene, (side, side), (stride, stride)).locations
    corners = [
        (location.row - side / 2, location.col - side / 2) for location in locations
    ]
    assert corners == [(top, left) for top in tops for left in lefts]
    assert len({location.name for location in locations}) == len(locations)


def test_a_location_is_inside_if_its_center_is(bare):
    height, width = bare.height, bare.width
    for row, col, is_inside in (
        (0, 0, True),
        (height - 0.5, width - 0.5, True),
        (-0.5, 0, False),
        (0, -0.5, False),
        (height, 0, False),
        (0, width, False),
    ):
        assert Location(row, col, None, "a").is_inside(bare) == is_inside
