"""Assignment of objects to ships: one to one, with what length and heading say, and how
sure it is."""

from __future__ import annotations

import numpy as np
import pytest

from rsft.plugins.ais.displacement import RadarView
from rsft.plugins.ais.matching import Objects, assign, find_pairs
from rsft.plugins.ais.units import EARTH

AREA = 1e10  # square meters


def lonlat(places):
    """Return longitudes and latitudes of places in meters east and north of 57 N 10
    E."""
    east, north = np.reshape(np.array(places, float), (-1, 2)).T
    azimuth = np.degrees(np.arctan2(east, north))
    meters = np.hypot(east, north)
    return [
        np.asarray(x)
        for x in EARTH.fwd(
            np.full(len(east), 10.0), np.full(len(east), 57.0), azimuth, meters
        )[:2]
    ]


def match(
    objects,
    ships,
    *,
    along=50.0,
    across=50.0,
    flight=0.0,
    lengths=(),
    ship_lengths=(),
    headings=(),
    ship_headings=(),
):
    def fill(values, places):
        return np.array(values if len(values) else [np.nan] * len(places), float)

    count = len(ships)
    zero = np.zeros(len(ships))
    found = Objects(*lonlat(objects), fill(lengths, objects), fill(headings, objects))
    view = RadarView(
        *lonlat(ships),
        zero,
        zero + flight,
        np.full(count, along),
        np.full(count, across),
    )
    pairs = find_pairs(
        found, view, fill(ship_lengths, ships), fill(ship_headings, ships), AREA
    )
    return pairs, assign(pairs, len(objects))


def test_one_to_one_is_not_the_nearest():
    """The first object is nearest to the second ship, which belongs to the second
    object."""
    _, best = match([(0, 0), (0, 120)], [(0, -70), (0, 60)], along=40, across=40)
    assert best.ship.tolist() == [0, 1]


def test_a_lone_pair_is_sure():
    pairs, best = match([(30, 0)], [(0, 0)])
    assert best.ship.tolist() == [0] and best.confidence[0] > 0.999
    assert pairs.distance[0] == pytest.approx(30, abs=0.1) and pairs.sigmas[
        0
    ] == pytest.approx(0.6, abs=0.01)


def test_no_pair_beyond_the_gate():
    pairs, best = match([(0, 310)], [(0, 0)])
    assert (
        len(pairs.score) == 0
        and best.ship.tolist() == [-1]
        and best.confidence.tolist() == [0]
    )


def test_nothing_at_all():
    for objects, ships in (([], [(0, 0)]), ([(0, 0)], []), ([], [])):
        assert match(objects, ships)[1].ship.tolist() == [-1] * len(objects)


def test_the_ellipse_lies_along_the_flight_direction():
    """200 m along a flight to the east are one sigma of 200 m; the same distance to the
    north is 6.7 of 30 m."""
    pairs, _ = match([(200, 0)], [(0, 0)], along=200, across=30, flight=90)
    assert pairs.sigmas.tolist() == pytest.approx([1.0], abs=0.01)
    assert (
        len(match([(0, 200)], [(0, 0)], along=200, across=30, flight=90)[0].sigmas) == 0
    )


def test_two_ships_at_the_same_distance_are_ambiguous():
    _, best = match([(0, 0)], [(40, 0), (-40, 0)])
    assert best.confidence[0] == pytest.approx(0.5, abs=0.01)


def test_two_objects_for_one_ship_are_ambiguous():
    _, best = match([(40, 0), (-40, 0)], [(0, 0)])
    assert sorted(best.ship) == [-1, 0] and best.confidence.max() == pytest.approx(
        0.5, abs=0.02
    )


def test_length_decides():
    _, best = match(
        [(0, 0)], [(40, 0), (-40, 0)], lengths=[200], ship_lengths=[60, 210]
    )
    assert best.ship.tolist() == [1] and best.confidence[0] > 0.95


def test_heading_decides_and_is_an_axis():
    _, best = match(
        [(0, 0)], [(40, 0), (-40, 0)], headings=[10], ship_headings=[100, 185]
    )
    assert best.ship.tolist() == [1] and best.confidence[0] > 0.95


def test_crowds_are_less_sure():
    crowd = [(500 * np.cos(a), 500 * np.sin(a)) for a in np.linspace(0, 6, 40)]
    lone = match([(0, 0), *[]], [(90, 0)])[1].confidence[0]
    among = match([(0, 0), *crowd], [(90, 0)])[1].confidence[0]
    assert lone > 0.99 and among < lone


def test_a_large_group_is_assigned_as_by_a_full_search():
    rng = np.random.default_rng(1)
    ships = rng.uniform(-800, 800, (60, 2))
    objects = ships + rng.normal(0, 20, ships.shape)
    _, best = match(objects, ships, along=40, across=40)
    assert (best.ship == np.arange(60)).mean() > 0.8
    assert len(set(best.ship[best.ship >= 0])) == (best.ship >= 0).sum()
    sure = best.confidence >= 0.95
    assert sure.sum() > 10 and (best.ship[sure] == np.flatnonzero(sure)).all()
