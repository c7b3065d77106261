"""Make tracks of ships from AIS messages, and compute where each ship is at the time of its line in a scene."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from pyproj import Geod

from rsft.inference.ais.feeds import AisMessages
from rsft.inference.ais.ship_types import ship_class
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
_TURN_RATE, _ACCELERATION = 4e-4, 3e-4  # radians per second and m/s2, standard deviations over some minutes
_UNKNOWN_SPEED = 4.0  # meters per second


class Tracks(NamedTuple):
    """Messages of ships in order of MMSI and time.

    Attributes:
        table: the messages; columns as in `AisMessages.table`, values that mean "not available" are NaN.
        starts: row of the first message of each ship (S,), and the number of rows (S + 1,).
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

    Repeated messages, messages of stations that are no ships, and positions that the ship cannot have reached are left
    out. An MMSI whose messages are in two places at a time belongs to two ships, which are set aside.
    """
    table, counts = messages.table.copy(), Counter[str]()
    for name, limit in (("sog", 102.3), ("cog", 360.0), ("heading", 360.0)):  # ITU-R M.1371-5, tables 48 and 52
        table[name] = table[name].where((table[name] >= 0) & (table[name] < limit))
    first_digits = table["mmsi"] // 10**7
    has_nine_digits = (table["mmsi"] >= 10**8) & (table["mmsi"] < 10**9)
    is_ship = has_nine_digits & (first_digits.between(20, 79) | (first_digits == 98))
    counts["messages with an MMSI of other than nine digits"] = int((~has_nine_digits).sum())
    counts["messages of stations, aircraft, buoys and handhelds"] = int((has_nine_digits & ~is_ship).sum())
    repeated = ["mmsi", "time", "lat", "lon"]
    unique = table[is_ship].drop_duplicates(repeated).sort_values(["mmsi", "time"], kind="stable")
    counts["repeated messages"] = int(is_ship.sum()) - len(unique)
    unique = unique.reset_index(drop=True)
    kept, shared = np.ones(len(unique), bool), list[int]()
    for rows in _rows_with_jumps(unique):
        inside, is_shared = _follow(unique.loc[rows, ["lon", "lat", "time"]].to_numpy(np.float64))
        kept[rows] = inside & (not is_shared)
        shared += [int(unique["mmsi"][rows[0]])] * is_shared
        counts["messages of an MMSI that two ships use" if is_shared else "messages with an impossible jump"] += int(
            (~kept[rows]).sum()
        )
    notes = []
    if shared:
        listed = ", ".join(map(str, shared[:10])) + (", ..." if len(shared) > 10 else "")
        notes.append(f"set aside, because two ships use the MMSI: {listed}")
    counts["ships that share an MMSI"] = len(shared)
    table = unique[kept].drop_duplicates(["mmsi", "time"]).reset_index(drop=True)
    counts["messages of a ship at one time"] = int(kept.sum()) - len(table)
    mmsi, starts = np.unique(table["mmsi"], return_index=True)
    ships = messages.static.reindex(mmsi).rename_axis("mmsi").reset_index()
    ships["ais_class"] = [
        ship_class(text or "") for text in ships["ship_type"].astype(object).where(ships["ship_type"].notna(), "")
    ]
    for size, (first, second) in {"length": ("bow", "stern"), "width": ("port", "starboard")}.items():
        total = ships[first] + ships[second]
        ships[size] = ships[size].fillna(total.where(total > 0))
    return Tracks(table, np.append(starts, len(table)), ships, counts, notes)


def _rows_with_jumps(table: pd.DataFrame) -> list[Any]:
    """Return the rows of each ship that is too fast between any two messages."""
    lon, lat, time, mmsi = (table[name].to_numpy() for name in ("lon", "lat", "time", "mmsi"))
    meters = EARTH.inv(lon[:-1], lat[:-1], lon[1:], lat[1:])[2]
    is_jump = (mmsi[:-1] == mmsi[1:]) & (np.asarray(meters) > _reach(np.diff(time)))
    return [np.flatnonzero(mmsi == ship) for ship in np.unique(mmsi[:-1][is_jump])]


def _reach(seconds: Any) -> Any:
    return MAX_SPEED * KNOT * seconds + _JUMP_TOLERANCE


def _follow(points: Floats) -> tuple[Any, bool]:
    """Divide messages (N, 3) with lon, lat and time into chains that a ship can follow.

    Returns:
        Which messages (N,) belong to the longest chain, and whether another chain is a second ship.
    """
    chains: list[list[int]] = []
    for row, (lon, lat, time) in enumerate(points):
        ends = points[[chain[-1] for chain in chains]]
        distances = [EARTH.inv(x, y, lon, lat)[2] - _reach(time - before) for x, y, before in ends]
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
        heading: heading in degrees; of moving ships without one, the course. NaN if unknown.
        sigma: standard deviation of the position along any direction in meters, by its motion and its antenna.
        gap: seconds between the messages around the time, or to the nearest one if all lie on one side of it.
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


def locate_ships(tracks: Tracks, time_at: Callable[[Floats, Floats], Floats], start: float) -> ShipStates:
    """Compute where ships are when the radar sees them, which depends on where they are.

    Args:
        tracks: the tracks.
        time_at: longitudes and latitudes (S,) -> times (S,) in seconds since 1970 at which the radar sees the place;
            NaN outside of the scene.
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

    Between two messages at most `HERMITE_GAP` apart that have speed and course, the path is a cubic Hermite curve in
    the plane around the first one; between others it is a great circle with constant speed. Before the first and after
    the last message, the ship keeps speed and course.

    Args:
        tracks: the tracks of S ships.
        times: times (S,) in seconds since 1970.
    """
    lon, lat, time, sog, cog, heading = (
        tracks.table[name].to_numpy(np.float64) for name in ("lon", "lat", "time", "sog", "cog", "heading")
    )
    first, last = tracks.starts[:-1], tracks.starts[1:] - 1
    after = np.array([a + np.searchsorted(time[a : b + 1], t) for a, b, t in zip(first, last, times, strict=True)], int)
    is_between = (after > first) & (after <= last)
    before = np.where(is_between, after - 1, np.clip(after, first, last))
    after = np.where(is_between, after, before)
    gap, elapsed = time[after] - time[before], times - time[before]
    x, y = _plane(lon[before], lat[before], lon[after], lat[after])
    mean_x, mean_y = _mean_velocity(lon, lat, time, first, last, before, after)
    velocity = [
        np.where(np.isfinite(sog[row] * cog[row]), sog[row] * KNOT * turn(np.radians(cog[row])), mean)
        for row in (before, after)
        for turn, mean in ((np.sin, mean_x), (np.cos, mean_y))
    ]
    has_velocity = np.isfinite(sog[before] * cog[before] * sog[after] * cog[after])
    is_hermite = is_between & (gap <= HERMITE_GAP) & has_velocity
    u = np.where(is_between, elapsed / np.where(gap > 0, gap, 1), 0)
    path = [
        _hermite(u, gap, end, v0, v1) for end, v0, v1 in ((x, velocity[0], velocity[2]), (y, velocity[1], velocity[3]))
    ]
    east, north = (
        np.where(is_hermite, curve, np.where(is_between, u * end, speed * elapsed))
        for (curve, _), end, speed in zip(path, (x, y), velocity[:2], strict=True)
    )
    vx, vy = (
        np.where(is_hermite, slope, np.where(is_between, end / np.where(gap > 0, gap, 1), speed))
        for (_, slope), end, speed in zip(path, (x, y), velocity[:2], strict=True)
    )
    nearest = np.where(u < 0.5, before, after)
    speed, course = np.hypot(vx, vy), np.degrees(np.arctan2(vx, vy)) % 360
    own_heading = np.where(np.isfinite(heading[nearest]), heading[nearest], np.where(speed > _STOPPED, course, np.nan))
    ahead, right, antenna_sigma = _antenna(tracks.ships, own_heading)
    turn = np.radians(np.nan_to_num(own_heading))
    east, north = (
        east + ahead * np.sin(turn) + right * np.cos(turn), north + ahead * np.cos(turn) - right * np.sin(turn)
    )  # fmt: skip
    lon, lat, _ = EARTH.fwd(lon[before], lat[before], np.degrees(np.arctan2(east, north)), np.hypot(east, north))
    is_known = np.isfinite(mean_x) & ((sog[before] >= 0) | (first < last))
    motion_sigma = _motion_sigma(np.where(is_between, gap, 0), np.abs(elapsed), speed, is_hermite, is_known)
    sigma = np.hypot(antenna_sigma, motion_sigma)
    method = np.where(is_hermite, "hermite", np.where(is_between, "great circle", "extrapolated"))
    gap = np.where(is_between, gap, np.abs(elapsed))
    return ShipStates(np.asarray(lon), np.asarray(lat), speed, course, own_heading, sigma, gap, method)


def _plane(lon0: Floats, lat0: Floats, lon1: Floats, lat1: Floats) -> tuple[Floats, Floats]:
    """Return second places in meters east and north of first ones, in the azimuthal equidistant plane."""
    azimuth, _, meters = EARTH.inv(lon0, lat0, lon1, lat1)
    return np.asarray(meters) * np.sin(np.radians(azimuth)), np.asarray(meters) * np.cos(np.radians(azimuth))


def _mean_velocity(
    lon: Floats, lat: Floats, time: Floats, first: Any, last: Any, before: Any, after: Any
) -> tuple[Floats, Floats]:
    """Return the mean velocity between the two nearest messages (S,), for ships without speed and course; 0 for one."""
    start = np.where(before < after, before, np.maximum(before - 1, first))
    end = np.minimum(start + 1, last)
    x, y = _plane(lon[start], lat[start], lon[end], lat[end])
    seconds = np.where(end > start, time[end] - time[start], 1)
    return x / seconds, y / seconds


def _hermite(u: Floats, gap: Floats, end: Floats, v0: Floats, v1: Floats) -> tuple[Floats, Floats]:
    """Return place and speed at the fraction u of a gap in seconds, on the cubic from 0 with v0 to `end` with v1."""
    m0, m1, seconds = v0 * gap, v1 * gap, np.where(gap > 0, gap, 1)
    place = (u**3 - 2 * u**2 + u) * m0 + (3 * u**2 - 2 * u**3) * end + (u**3 - u**2) * m1
    slope = (3 * u**2 - 4 * u + 1) * m0 + 6 * (u - u**2) * end + (3 * u**2 - 2 * u) * m1
    return place, slope / seconds


def _antenna(ships: pd.DataFrame, heading: Floats) -> tuple[Floats, Floats, Floats]:
    """Return how far the middle of a ship is ahead and to the right of its antenna, and what is left uncertain.

    The distances A to D of ITU-R M.1371-5 are those from the antenna to bow, stern, port and starboard.
    """
    bow, stern, port, starboard = (ships[name].to_numpy(np.float64) for name in ("bow", "stern", "port", "starboard"))
    is_known = (bow + stern > 0) & np.isfinite(heading)
    ahead, right = np.where(is_known, (bow - stern) / 2, 0), np.where(is_known, (starboard - port) / 2, 0)
    length = ships["length"].fillna(_UNKNOWN_LENGTH).to_numpy(np.float64)
    return ahead, np.nan_to_num(right), np.where(is_known, 0, _ANTENNA_SIGMA * length)


def _motion_sigma(gap: Floats, elapsed: Floats, speed: Floats, is_hermite: Any, is_known: Any) -> Floats:
    """Return the standard deviation in meters (S,) of a position between messages, or behind the last one.

    An unknown acceleration a displaces a ship by a u (gap - u) / 2 between two positions, and by a u^2 / 2 behind one.
    With the velocities at both ends only its change counts, which is a quarter of it in the simulated traffic.
    """
    acceleration = _ACCELERATION + _TURN_RATE * speed
    between = acceleration * np.abs(elapsed * (gap - elapsed)) / 2 * np.where(is_hermite, 0.25, 1)
    behind = np.hypot(_SPEED_SIGMA * elapsed, acceleration * elapsed**2 / 2)
    return np.where(gap > 0, between, np.where(is_known, behind, _UNKNOWN_SPEED * elapsed))
