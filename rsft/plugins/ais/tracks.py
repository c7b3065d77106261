"""Make tracks of ships from AIS messages, and compute where each ship is at the time of its line in a scene."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from pyproj import Geod

from rsft.plugins.ais.feeds import AisMessages
from rsft.plugins.ais.ship_types import ship_class
from rsft.types import Floats

EARTH = Geod(ellps="WGS84")
KNOT = 1852 / 3600
"""Meters per second."""

MAX_SPEED = 60.0
"""Speed in knots that no ship exceeds between two messages."""
HERMITE_GAP = 600.0
"""Longest gap in seconds that is interpolated with speeds and courses."""

_JUMP_TOLERANCE = 300.0  # meters; positions and times of messages are not exact
_MESSAGES_OF_A_SHIP = 3  # as many messages elsewhere are another ship with this MMSI
_ANTENNA_SIGMA = 0.2  # of the length: the antenna lies anywhere along the ship
_UNKNOWN_LENGTH = 100.0  # meters
_SPEED_SIGMA = 0.15  # meters per second; AIS rounds to 0.1 knots and smooths
_STOPPED = 0.5  # meters per second below which a course means nothing
_TURN_RATE = 4e-4
_ACCELERATION = (
    3e-4  # radians per second and m/s2, standard deviations over some minutes
)
_UNKNOWN_SPEED = 4.0  # meters per second


class Tracks(NamedTuple):
    """Messages of ships in order of MMSI and time.

    Attributes:
        table: the messages; columns as in `AisMessages.table`, values that mean "not
            available" are NaN.
        starts: row of the first message of each ship (S,), and the number of rows (S +
            1,).
        ships: MMSI, ais_class, sizes and texts, one row per ship (S).
        counts: number of messages and ships by what became of them.
        notes: remarks for the reader.
    """

    table: pd.DataFrame
    starts: Any
    ships: pd.DataFrame
    counts: Counter[str]
    notes: list[str]


def make_tracks(messages: AisMessages) -> Tracks:
    """Clean messages and group them by ship.

    Repeated messages, messages of stations that are no ships, and positions that the
    ship cannot have reached are left out. An MMSI whose messages are in two places at a
    time belongs to two ships, which are set aside.
    """
    table = messages.table.copy()
    counts = Counter[str]()
    for name, limit in (
        ("sog", 102.3),
        ("cog", 360.0),
        ("heading", 360.0),
    ):  # ITU-R M.1371-5, tables 48 and 52
        table[name] = table[name].where((table[name] >= 0) & (table[name] < limit))
    first_digits = table["mmsi"] // 10**7
    has_nine_digits = (table["mmsi"] >= 10**8) & (table["mmsi"] < 10**9)
    is_ship = has_nine_digits & (first_digits.between(20, 79) | (first_digits == 98))
    counts["messages with an MMSI of other than nine digits"] = int(
        (~has_nine_digits).sum()
    )
    counts["messages of stations, aircraft, buoys and handhelds"] = int(
        (has_nine_digits & ~is_ship).sum()
    )
    repeated = ["mmsi", "time", "lat", "lon"]
    unique = (
        table[is_ship]
        .drop_duplicates(repeated)
        .sort_values(["mmsi", "time"], kind="stable")
    )
    counts["repeated messages"] = int(is_ship.sum()) - len(unique)
    unique = unique.reset_index(drop=True)
    kept = np.ones(len(unique), bool)
    shared = list[int]()
    for rows in _rows_with_jumps(unique):
        inside, is_shared = _follow(
            unique.loc[rows, ["lon", "lat", "time"]].to_numpy(np.float64)
        )
        kept[rows] = inside & (not is_shared)
        shared += [int(unique["mmsi"][rows[0]])] * is_shared
        counts[
            (
                "messages of an MMSI that two ships use"
                if is_shared
                else "messages with an impossible jump"
            )
        ] += int((~kept[rows]).sum())
    notes = []
    if shared:
        listed = ", ".join(map(str, shared[:10])) + (
            ", ..." if len(shared) > 10 else ""
        )
        notes.append(f"set aside, because two ships use the MMSI: {listed}")
    counts["ships that share an MMSI"] = len(shared)
    table = unique[kept].drop_duplicates(["mmsi", "time"]).reset_index(drop=True)
    counts["messages of a ship at one time"] = int(kept.sum()) - len(table)
    mmsi, starts = np.unique(table["mmsi"], return_index=True)
    ships = messages.static.reindex(mmsi).rename_axis("mmsi").reset_index()
    ships["ais_class"] = [
        ship_class(text or "")
        for text in (
            ships["ship_type"].astype(object).where(ships["ship_type"].notna(), "")
        )
    ]
    for size, (first, second) in {
        "length": ("bow", "stern"),
        "width": ("port", "starboard"),
    }.items():
        total = ships[first] + ships[second]
        ships[size] = ships[size].fillna(total.where(total > 0))
    return Tracks(table, np.append(starts, len(table)), ships, counts, notes)


def _rows_with_jumps(table: pd.DataFrame) -> list[Any]:
    """Return the rows of each ship that is too fast between any two messages."""
    lon = table["lon"].to_numpy()
    lat = table["lat"].to_numpy()
    time = table["time"].to_numpy()
    mmsi = table["mmsi"].to_numpy()
    meters = EARTH.inv(lon[:-1], lat[:-1], lon[1:], lat[1:])[2]
    is_jump = (mmsi[:-1] == mmsi[1:]) & (np.asarray(meters) > _reach(np.diff(time)))
    return [np.flatnonzero(mmsi == ship) for ship in np.unique(mmsi[:-1][is_jump])]


def _reach(seconds: Any) -> Any:
    return MAX_SPEED * KNOT * seconds + _JUMP_TOLERANCE


def _follow(points: Floats) -> tuple[Any, bool]:
    """Divide messages (N, 3) with lon, lat and time into chains that a ship can follow.

    Returns:
        Which messages (N,) belong to the longest chain, and whether another chain is a
        second ship.
    """
    chains: list[list[int]] = []
    for row, (lon, lat, time) in enumerate(points):
        ends = points[[chain[-1] for chain in chains]]
        distances = [
            EARTH.inv(x, y, lon, lat)[2] - _reach(time - before)
            for x, y, before in ends
        ]
        if distances and min(distances) <= 0:
            chains[int(np.argmin(distances))].append(row)
        else:
            chains.append([row])
    chains.sort(key=len, reverse=True)
    is_second_ship = len(chains[1]) >= min(_MESSAGES_OF_A_SHIP, len(chains[0]))
    return np.isin(np.arange(len(points)), chains[0]), is_second_ship


class ShipStates(NamedTuple):
    """Ships at one time each; arrays (S,).

    Attributes:
        lon, lat: position of the middle of the ship in degrees.
        speed: speed over ground in meters per second.
        course: course over ground in degrees.
        heading: heading in degrees; of moving ships without one, the course. NaN if
            unknown.
        sigma: standard deviation of the position along any direction in meters, by its
            motion and its antenna.
        gap: seconds between the messages around the time, or to the nearest one if all
            lie on one side of it.
        method: "hermite", "great circle" or "extrapolated".
    """

    lon: Floats
    lat: Floats
    speed: Floats
    course: Floats
    heading: Floats
    sigma: Floats
    gap: Floats
    method: Any


def locate_ships(
    tracks: Tracks, time_at: Callable[[Floats, Floats], Floats], start: float
) -> ShipStates:
    """Compute where ships are when the radar sees them, which depends on where they are.

    Args:
        tracks: the tracks.
        time_at: longitudes and latitudes (S,) -> times (S,) in seconds since 1970 at
            which the radar sees the place; NaN outside of the scene.
        start: time to begin with.

    Returns:
        The states. Two steps suffice: the radar is a thousand times faster than a ship.
    """
    times = np.full(len(tracks.ships), start)
    for _ in range(2):
        states = states_at(tracks, times)
        seen = time_at(states.lon, states.lat)
        times = np.where(np.isfinite(seen), seen, times)
    return states_at(tracks, times)


def states_at(tracks: Tracks, times: Floats) -> ShipStates:
    """Compute the state of each ship at a time of its own.

    Between two messages at most `HERMITE_GAP` apart that have speed and course, the
    path is a cubic Hermite curve in the plane around the first one; between others it
    is a great circle with constant speed. Before the first and after the last message,
    the ship keeps speed and course.

    Args:
        tracks: the tracks of S ships.
        times: times (S,) in seconds since 1970.
    """
    columns = ["lon", "lat", "time", "sog", "cog", "heading"]
    lon, lat, time, sog, cog, heading = tracks.table[columns].to_numpy(np.float64).T
    first, last = tracks.starts[:-1], tracks.starts[1:] - 1
    after = np.array(
        [
            a + np.searchsorted(time[a : b + 1], t)
            for a, b, t in zip(first, last, times, strict=True)
        ],
        int,
    )
    is_between = (after > first) & (after <= last)
    before = np.where(is_between, after - 1, np.clip(after, first, last))
    after = np.where(is_between, after, before)
    gap = time[after] - time[before]
    elapsed = times - time[before]
    neighbor = np.where(is_between, before, np.maximum(before - 1, first))
    next_one = np.minimum(neighbor + 1, last)
    mean = _path(lon, lat, neighbor, next_one) / np.where(
        neighbor < next_one, time[next_one] - time[neighbor], 1
    )
    sent = np.where(np.isfinite(sog * cog), sog * KNOT * _direction(cog), np.nan)
    is_hermite = (
        is_between & (gap <= HERMITE_GAP) & np.isfinite(sent[before] * sent[after])
    )
    v0 = np.where(np.isfinite(sent[before]), sent[before], mean)
    v1 = np.where(np.isfinite(sent[after]), sent[after], mean)
    straight = np.where(is_between, mean, v0)
    seconds = np.where(is_between, gap, elapsed)
    u = elapsed / np.where(seconds == 0, 1, seconds)
    v0, v1 = np.where(
        is_hermite, (v0, v1), straight
    )  # with equal velocities, the cubic is a straight line
    offset = seconds * (
        (u**3 - 2 * u**2 + u) * v0
        + (3 * u**2 - 2 * u**3) * straight
        + (u**3 - u**2) * v1
    )
    slope = (
        (3 * u**2 - 4 * u + 1) * v0
        + 6 * (u - u**2) * straight
        + (3 * u**2 - 2 * u) * v1
    )
    nearest = np.where(u < 0.5, before, after)
    speed = np.abs(slope)
    course = np.degrees(np.angle(slope)) % 360
    own_heading = np.where(
        np.isfinite(heading[nearest]),
        heading[nearest],
        np.where(speed > _STOPPED, course, np.nan),
    )
    middle, antenna_sigma = _middle(tracks.ships, own_heading)
    azimuth = np.degrees(np.angle(offset + middle))
    meters = np.abs(offset + middle)
    lon, lat, _ = EARTH.fwd(lon[before], lat[before], azimuth, meters)
    is_known = np.isfinite(mean) & ((sog[before] >= 0) | (first < last))
    motion_sigma = _motion_sigma(
        np.where(is_between, gap, 0), np.abs(elapsed), speed, is_hermite, is_known
    )
    method = np.select(
        [is_hermite, is_between], ["hermite", "great circle"], "extrapolated"
    )
    sigma = np.hypot(antenna_sigma, motion_sigma)
    return ShipStates(
        np.asarray(lon),
        np.asarray(lat),
        speed,
        course,
        own_heading,
        sigma,
        np.abs(seconds),
        method,
    )


def _direction(degrees: Floats) -> Any:
    """Return directions as complex numbers: north is 1, east is i."""
    return np.exp(1j * np.radians(degrees))


def _path(lon: Floats, lat: Floats, start: Any, end: Any) -> Any:
    """Return the way between rows in meters as complex numbers, in the azimuthal equidistant plane of the first row."""
    azimuth, _, meters = EARTH.inv(lon[start], lat[start], lon[end], lat[end])
    return meters * _direction(azimuth)


def _middle(ships: pd.DataFrame, heading: Floats) -> tuple[Any, Floats]:
    """Return the way from the antenna to the middle of each ship as complex numbers, and what is left uncertain.

    The distances A to D of ITU-R M.1371-5 are those from the antenna to bow, stern,
    port and starboard.
    """
    bow, stern, port, starboard = (
        ships[["bow", "stern", "port", "starboard"]].to_numpy(np.float64).T
    )
    is_known = (bow + stern > 0) & np.isfinite(heading)
    way = ((bow - stern) / 2 + 1j * np.nan_to_num((starboard - port) / 2)) * _direction(
        heading
    )
    length = ships["length"].fillna(_UNKNOWN_LENGTH).to_numpy(np.float64)
    return np.where(is_known, way, 0), np.where(is_known, 0, _ANTENNA_SIGMA * length)


def _motion_sigma(
    gap: Floats, elapsed: Floats, speed: Floats, is_hermite: Any, is_known: Any
) -> Floats:
    """Return the standard deviation in meters (S,) of a position between messages, or behind the last one.

    An unknown acceleration a displaces a ship by a u (gap - u) / 2 between two
    positions, and by a u^2 / 2 behind one. With the velocities at both ends only its
    change counts, which is a quarter of it in the simulated traffic.
    """
    acceleration = _ACCELERATION + _TURN_RATE * speed
    between = (
        acceleration
        * np.abs(elapsed * (gap - elapsed))
        / 2
        * np.where(is_hermite, 0.25, 1)
    )
    behind = np.hypot(_SPEED_SIGMA * elapsed, acceleration * elapsed**2 / 2)
    return np.where(
        gap > 0, between, np.where(is_known, behind, _UNKNOWN_SPEED * elapsed)
    )
