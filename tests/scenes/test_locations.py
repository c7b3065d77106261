"""Tiles cover a scene."""

import pytest

from rsft.scenes.locations import tile_locations


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
