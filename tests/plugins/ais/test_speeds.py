"""Speeds of messages in knots and in other units."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from rsft.errors import RequestError
from rsft.plugins.ais.speeds import check_speeds
from rsft.plugins.ais.units import EARTH, KNOT
from tests.helpers.messages import mentions

SPEEDS = {219000001: 12.0, 219000002: 6.5, 219000003: 9.0}  # knots


def messages(factor: float, seconds: float = 120, count: int = 5, turn: float = 0):
    """Return messages of three ships whose speed is a multiple of that in knots."""
    rows = []
    for mmsi, knots in SPEEDS.items():
        lon, lat, course = 10.0, 57.0, 40.0
        for number in range(count):
            row = {"mmsi": mmsi, "time": number * seconds, "lon": lon, "lat": lat}
            rows.append(row | {"sog": factor * knots, "cog": course})
            lon, lat, _ = EARTH.fwd(lon, lat, course, knots * KNOT * seconds)
            course += turn
    return pd.DataFrame(rows)


@pytest.mark.parametrize("factor", [1, 0.9, 1.15, np.nan])
def test_knots(factor):
    check_speeds(messages(factor), "a.csv")


@pytest.mark.parametrize("factor", [1.852, 0.514, 10, 51.4, 4])
def test_other_units_are_refused_with_three_ships(factor):
    words = (f"{factor:.3g} times those in knots", *SPEEDS, "a.csv")
    with pytest.raises(RequestError, match=mentions(*words)):
        check_speeds(messages(factor), "a.csv")


def test_messages_that_follow_each_other_fast():
    with pytest.raises(RequestError, match=mentions("1.85 times")):
        check_speeds(messages(1.852, seconds=10, count=60), "a.csv")


def test_what_says_nothing_about_speeds():
    """Few messages, circles, unknown speeds, and ships at rest."""
    check_speeds(messages(10, count=2), "a.csv")
    check_speeds(messages(10, turn=50), "a.csv")
    check_speeds(messages(10).assign(sog=102.3), "a.csv")
    check_speeds(messages(10, seconds=1), "a.csv")
    check_speeds(messages(10)[:0], "a.csv")
