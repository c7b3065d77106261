"""Cleaning of messages, and where ships are between, before and after them."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pandas as pd
import pytest

from rsft.plugins.ais.feed_files import TEXTS
from rsft.plugins.ais.feeds import AisMessages
from rsft.plugins.ais.tracks import locate_ships, make_tracks, states_at
from rsft.plugins.ais.units import EARTH, KNOT

SHIP = 219_000_001


def messages(*rows, static=None):
    """Return messages (mmsi, time, east, north, sog, cog, heading) with places in
    meters from 57 N 10 E."""
    table = pd.DataFrame(
        rows,
        columns=["mmsi", "time", "east", "north", "sog", "cog", "heading"],
        dtype=float,
    )
    azimuth = np.degrees(np.arctan2(table["east"], table["north"]))
    meters = np.hypot(table["east"], table["north"])
    table["lon"], table["lat"], _ = EARTH.fwd(
        np.full(len(table), 10.0), np.full(len(table), 57.0), azimuth, meters
    )
    table["mmsi"] = table["mmsi"].astype(np.int64)
    sizes = ("length", "width", "bow", "stern", "port", "starboard")
    defaults = {
        "mmsi": table["mmsi"].unique(),
        **dict.fromkeys(sizes, np.nan),
        **dict.fromkeys(TEXTS),
    }
    return AisMessages(
        table, pd.DataFrame(defaults | (static or {})).set_index("mmsi"), Counter(), []
    )


def place(states, number=0):
    """Return meters east and north of 57 N 10 E."""
    azimuth, _, meters = EARTH.inv(10.0, 57.0, states.lon[number], states.lat[number])
    return [
        round(meters * np.sin(np.radians(azimuth)), 1),
        round(meters * np.cos(np.radians(azimuth)), 1),
    ]


def at(seconds, *rows, static=None):
    return states_at(
        make_tracks(messages(*rows, static=static)), np.array([float(seconds)])
    )


def test_values_that_mean_not_available():
    table = make_tracks(
        messages((SHIP, 0, 0, 0, 102.3, 360, 511), (SHIP, 60, 0, 0, 10, 359.9, 359))
    ).table
    assert table[["sog", "cog", "heading"]].isna().all(axis=1).tolist() == [True, False]


def test_stations_and_wrong_numbers():
    rows = [
        (mmsi, 0, 0, 0, 0, 0, 0)
        for mmsi in (
            SHIP,
            2_190_064,
            111_219_501,
            992_191_234,
            982_190_001,
            2_190_000_011,
        )
    ]
    tracks = make_tracks(messages(*rows))
    assert tracks.ships["mmsi"].tolist() == [SHIP, 982_190_001]
    assert tracks.counts["messages with an MMSI of other than nine digits"] == 2
    assert tracks.counts["messages of stations, aircraft, buoys and handhelds"] == 2


def test_repeated_messages():
    rows = [(SHIP, 0, 0, 0, 10, 0, 0)] * 3 + [
        (SHIP, 0, 0, 30, 10, 0, 0),
        (SHIP, 60, 0, 309, 10, 0, 0),
    ]
    tracks = make_tracks(messages(*rows))
    assert tracks.table["time"].tolist() == [0, 60]
    assert (
        tracks.counts["repeated messages"],
        tracks.counts["messages of a ship at one time"],
    ) == (2, 1)


def test_an_impossible_jump_is_left_out():
    rows = [(SHIP, 60 * i, 0, 300 * i, 10, 0, 0) for i in range(6)]
    rows[2] = (SHIP, 120, 90_000, 0, 10, 0, 0)
    tracks = make_tracks(messages(*rows))
    assert tracks.table["time"].tolist() == [0, 60, 180, 240, 300]
    assert tracks.counts["messages with an impossible jump"] == 1 and not tracks.notes


def test_two_ships_with_one_mmsi_are_set_aside():
    rows = [(SHIP, 60 * i, 20_000 * (i % 2), 300 * i, 10, 0, 0) for i in range(8)] + [
        (SHIP + 1, 0, 0, 0, 0, 0, 0)
    ]
    tracks = make_tracks(messages(*rows))
    assert tracks.ships["mmsi"].tolist() == [SHIP + 1]
    assert (
        tracks.counts["messages of an MMSI that two ships use"] == 8
        and str(SHIP) in tracks.notes[0]
    )
    same_times = [
        (SHIP, 60 * (i // 2), 20_000 * (i % 2), 300 * i, 10, 0, 0) for i in range(8)
    ]
    assert make_tracks(messages(*same_times)).ships.empty


def test_hermite_follows_a_turn():
    """A quarter of a circle with a radius of 600 m in 120 s: the cubic stays within 10
    m of it."""
    speed = 600 * np.pi / 2 / 120
    start = (SHIP, 0, 0, 0, speed / KNOT, 0, 0)
    end = (SHIP, 120, 600, 600, speed / KNOT, 90, 90)
    states = at(60, start, end)
    exact = 600 * (1 - np.sqrt(0.5)), 600 * np.sqrt(0.5)
    assert states.gap[0] == 120
    assert place(states) == pytest.approx(exact, abs=10)
    assert states.course[0] == pytest.approx(45, abs=0.1) and states.speed[
        0
    ] == pytest.approx(speed, rel=0.1)


def test_a_long_gap_is_a_great_circle():
    states = at(400, (SHIP, 0, 0, 0, 10, 90, 90), (SHIP, 1000, 0, 5000, 10, 90, 90))
    assert place(states) == pytest.approx([0, 2000], abs=1)
    assert states.speed[0] == pytest.approx(5) and states.course[
        0
    ] % 360 == pytest.approx(0, abs=0.01)
    without_course = at(
        40, (SHIP, 0, 0, 0, np.nan, np.nan, np.nan), (SHIP, 100, 0, 500, 10, 0, 0)
    )
    assert place(without_course) == pytest.approx([0, 200], abs=1)


@pytest.mark.parametrize(("seconds", "expected"), [(200, [0, 1000]), (-100, [0, -500])])
def test_extrapolation(seconds, expected):
    states = at(seconds, (SHIP, 0, 0, 0, 5 / KNOT, 0, 0))
    assert place(states) == pytest.approx(expected, abs=1)
    assert states.gap[0] == abs(seconds)


def test_extrapolation_without_speed_takes_the_last_two_positions():
    nan = (np.nan,) * 3
    assert place(
        at(200, (SHIP, 0, 0, 0, *nan), (SHIP, 100, 0, 500, *nan))
    ) == pytest.approx([0, 1000], abs=1)
    single = at(200, (SHIP, 0, 0, 0, *nan))
    assert place(single) == [0, 0] and single.sigma[0] > 500


def test_the_uncertainty_grows_with_the_gap():
    def sigma(seconds, gap):
        return at(
            seconds,
            (SHIP, 0, 0, 0, 10, 0, 0),
            (SHIP, gap, 0, 10 * KNOT * gap, 10, 0, 0),
            static=size,
        ).sigma[0]

    size = {"length": 100.0, "bow": 50.0, "stern": 50.0, "port": 8.0, "starboard": 8.0}
    sigmas = [sigma(gap / 2, gap) for gap in (60, 300, 600, 1200, 1800)]
    assert (
        sigmas == sorted(sigmas)
        and sigmas[0] < 2
        and sigmas[2] < 40
        and sigmas[3] > 200
    )
    assert sigma(0, 300) == 0
    assert sigma(1200 + 300, 1200) < sigma(1200 + 600, 1200)


def test_the_antenna_is_not_the_middle():
    size = {
        "length": 200.0,
        "bow": 180.0,
        "stern": 20.0,
        "port": 5.0,
        "starboard": 25.0,
    }
    assert place(at(0, (SHIP, 0, 0, 0, 0, 0, 90), static=size)) == pytest.approx(
        [80, -10], abs=0.1
    )
    unknown = at(0, (SHIP, 0, 0, 0, 0, 0, 511), static=size)
    assert place(unknown) == [0, 0] and unknown.sigma[0] == pytest.approx(40)
    only_size = messages((SHIP, 0, 0, 0, 0, 0, 90), static=size | {"length": np.nan})
    assert make_tracks(only_size).ships["length"].tolist() == [200.0]


def test_a_ship_is_located_at_the_time_of_its_line():
    """The radar sees a place one second later per 0.1 degrees to the north."""
    tracks = make_tracks(
        messages((SHIP, 0, 0, 0, 20, 0, 0), (SHIP, 300, 0, 20 * KNOT * 300, 20, 0, 0))
    )
    states = locate_ships(tracks, lambda lon, lat: 100 + 10 * (lat - 57), 0.0)
    seconds = 100 + 10 * (states.lat[0] - 57)
    assert place(states)[1] == pytest.approx(20 * KNOT * seconds, abs=0.2)
