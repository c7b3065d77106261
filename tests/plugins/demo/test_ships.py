"""Geometry of simulated ships."""

import cv2
import numpy as np
import pytest

from rsft.plugins.demo.ships import SHIP_CLASSES, sample_ship
from tools.simulation.ships import DECK_OBJECT_KINDS, SHIP_KINDS


def sample_ships(kind, count=40):
    rng = np.random.default_rng(3)
    return [sample_ship(kind, rng) for _ in range(count)]


@pytest.mark.parametrize("kind", SHIP_KINDS)
def test_sizes_are_in_the_ranges_of_the_class(kind):
    ranges = SHIP_CLASSES[kind]
    for ship in sample_ships(kind):
        assert ship.kind == kind
        assert ranges.length[0] <= ship.length <= ranges.length[1]
        assert ranges.slenderness[0] <= ship.length / ship.beam <= ranges.slenderness[1]
        assert ranges.freeboard[0] <= ship.freeboard / ship.beam <= ranges.freeboard[1]


@pytest.mark.parametrize("kind", SHIP_KINDS)
def test_deck_objects_lie_inside_the_hull(kind):
    for ship in sample_ships(kind):
        outline = ship.outline().astype(np.float32)
        heights = [box.height for box in ship.deck_objects]
        assert heights == sorted(heights)
        for box in ship.deck_objects:
            assert box.kind in DECK_OBJECT_KINDS
            assert min(box.length, box.width, box.height) > 0
            for x in (box.x - box.length / 2, box.x + box.length / 2):
                for y in (box.y - box.width / 2, box.y + box.width / 2):
                    assert (
                        cv2.pointPolygonTest(outline, (x, y), True) > -0.02 * ship.beam
                    )


def test_outline_spans_length_and_beam():
    ship = sample_ship("tanker", np.random.default_rng(0))
    x, y = ship.outline().T
    assert x.max() - x.min() == pytest.approx(ship.length)
    assert y.max() - y.min() == pytest.approx(ship.beam)
    assert ship.half_beam(ship.length / 2) == 0


def test_typical_deck_objects():
    kinds = {
        "cargo": "hatch",
        "container": "container",
        "tanker": "manifold",
        "dredger": "hopper",
        "fishing": "gear",
    }
    for kind, typical in kinds.items():
        assert all(
            typical in {box.kind for box in ship.deck_objects}
            for ship in sample_ships(kind)
        )
