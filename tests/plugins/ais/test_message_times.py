"""Times of messages in all forms, and without a zone."""

from __future__ import annotations

import pandas as pd
import pytest

from rsft.errors import RequestError
from rsft.plugins.ais.feeds import NoMessagesError, SearchArea, read_messages
from rsft.plugins.ais.message_times import format_time

NOON = pd.Timestamp("2026-03-14T12:00:00Z").timestamp()


AREA = SearchArea(10.0, 57.0, 1.0, 1.0, NOON - 1800, NOON + 1800)


def write(folder, text, name="ais.csv"):
    path = folder / name
    path.write_text(text, "utf-8")
    return path


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2026-03-14T14:00:00+02:00", 0), ("2026-03-14 12:00:00.250", 0.25), ("2026/03/14 12:00:00", 0),
        ("2026-03-14 12:00:00 UTC", 0), (f"{NOON:.0f}", 0), (f"{1000 * NOON:.0f}", 0), ("14/03/2026 12:00:00", 0),
        ("14.03.2026 12:00:00", 0), ("03/14/2026 12:00:00", 0),
    ],
)  # fmt: skip
def test_times(tmp_path, text, seconds):
    path = write(tmp_path, f"mmsi,time,lat,lon\n219000001,{text},57,10\n")
    assert read_messages([path], AREA).table["time"].tolist() == [NOON + seconds]


def test_month_first_is_said(tmp_path):
    path = write(tmp_path, "mmsi,time,lat,lon\n219000001,03/14/2026 12:00:00,57,10\n")
    assert any("month/day/year" in note for note in read_messages([path], AREA).notes)
    area = AREA._replace(start=AREA.start - 86400 * 10, end=AREA.end)
    path = write(tmp_path, "mmsi,time,lat,lon\n219000001,03/04/2026 12:00:00,57,10\n")
    # read as the 3rd of April, which the message says
    with pytest.raises(RequestError) as caught:
        read_messages([path], area)
    assert "day/month/year, which is a guess" in caught.value.hint


@pytest.mark.parametrize(
    ("time", "has_zone"),
    [
        ("2026-03-14T13:40:00", False),
        ("2026-03-14T13:40:00Z", True),
        ("1773482400", True),  # seconds since 1970 are UTC
    ],
)
def test_times_of_another_zone(tmp_path, time, has_zone):
    """The scene is at noon; the message names both spans, and to check the zone."""
    path = write(tmp_path, f"mmsi,time,lat,lon\n219000001,{time},57,10\n")
    with pytest.raises(NoMessagesError) as caught:
        read_messages([path], AREA)
    assert "2026-03-14 11:30:00 UTC to 2026-03-14 12:30:00 UTC" in caught.value.message
    assert "those near it are from 2026-03-1" in caught.value.message
    assert "check the zone of its times" in caught.value.hint
    assert ("times have no zone" in caught.value.hint) is not has_zone


def test_times_in_messages():
    assert format_time(NOON) == "2026-03-14 12:00:00 UTC"
    for seconds in (float("inf"), float("nan"), 1e30, -(2.0**63)):
        assert format_time(seconds) == "unknown times"
