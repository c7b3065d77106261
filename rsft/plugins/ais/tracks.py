"""Make tracks of ships from AIS messages, and compute where each ship is at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from rsft.errors import RequestError
from rsft.plugins.ais.feeds import AisMessages
from rsft.plugins.ais.ship_types import ship_class
from rsft.plugins.ais.speeds import check_speeds
from rsft.plugins.ais.units import EARTH, KNOT
from rsft.types import Floats

MAX_SPEED = 60.0
"""Speed in knots that no ship exceeds between two messages."""
HERMITE_GAP = 600.0
"""Longest gap in seconds that is interpolated with speeds and courses."""

_COLUMNS = ["lon", "lat", "time", "sog", "cog", "heading"]
_SIZES = ["bow", "stern", "port", "starboard", "length"]
_LIMITS = {"sog": 102.3, "cog": 360.0, "heading": 360.0}
"""Values that mean "not available": ITU-R M.1371-5, tables 48 and 52."""

_FAULTS = [
    "messages with an MMSI of other than nine digits",
    "messages of stations, aircraft, buoys and handhelds",
    "repeated messages",
]
_SHARED = "messages of an MMSI that two ships use"
_JUMP = "messages with an impossible jump"
_JUMP_TOLERANCE = 300.0  # meters; positions and times of messages are not exact
_MESSAGES_OF_A_SHIP = 3  # as many messages elsewhere are another ship with this MMSI
_ANTENNA_SIGMA = 0.2  # of the length: the antenna lies anywhere along the ship
_UNKNOWN_LENGTH = 100.0  # meters
_SPEED_SIGMA = 0.15  # meters per second; AIS rounds to 0.1 knots and smooths
_STOPPED = 0.5  # meters per second below which a course means nothing
_TURN_RATE = 4e-4  # radians per second, standard deviation over some minutes
_ACCELERATION = 3e-4  # m/s2, standard deviation over some minutes
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

    Raises:
        RequestError: the speeds are not knots, or no MMSI has nine digits.
    """
    table = messages.table
    is_short = ~table["mmsi"].between(10**8, 10**9 - 1)
    if is_short.all():
        numbers = ", ".join(map(str, table["mmsi"].unique()[:3]))
        raise RequestError(
            f"no AIS message has an MMSI of nine digits, but {numbers}",
            messages.location,
            "give the original messages, whose MMSI are not shortened, hashed or those"
            " of the IMO",
        )
    first_digits = table["mmsi"] // 10**7
    is_ship = first_digits.between(20, 79) | (first_digits == 98)
    is_repeated = table.duplicated(["mmsi", "time", "lat", "lon"])
    faults = np.select([is_short, ~is_ship, is_repeated], _FAULTS, "")
    counts = Counter(faults.tolist())
    table = table[faults == ""]
    table = table.sort_values(["mmsi", "time"], kind="stable", ignore_index=True)
    jumps = _find_jumps(table)
    shared = table["mmsi"][jumps == _SHARED].unique().tolist()
    counts.update(jumps)
    table = table[jumps == ""]
    is_second = table.duplicated(["mmsi", "time"])
    table = table[~is_second]
    counts["messages of a ship at one time"] = int(is_second.sum())
    counts["ships that share an MMSI"] = len(shared)
    del counts[""]
    check_speeds(table, messages.location)
    for name, limit in _LIMITS.items():
        is_available = table[name].between(0, limit, inclusive="left")
        table[name] = table[name].where(is_available)
    notes = []
    if shared:
        listed = ", ".join(map(str, shared[:10]))
        dots = ", ..." if len(shared) > 10 else ""
        notes = [f"set aside, because two ships use the MMSI: {listed}{dots}"]
    mmsi, starts = np.unique(table["mmsi"], return_index=True)
    ships = _describe_ships(messages.static.reindex(mmsi))
    table = table.reset_index(drop=True)
    return Tracks(table, np.append(starts, len(table)), ships, counts, notes)


def _describe_ships(static: pd.DataFrame) -> pd.DataFrame:
    """Return the ships with their class, and with sizes by the place of the antenna."""
    ships = static.rename_axis("mmsi").reset_index()
    ships["ais_class"] = ships["ship_type"].astype(object).fillna("").map(ship_class)
    length = ships["bow"] + ships["stern"]
    width = ships["port"] + ships["starboard"]
    ships["length"] = ships["length"].fillna(length.where(length > 0))
    ships["width"] = ships["width"].fillna(width.where(width > 0))
    return ships


def _find_jumps(table: pd.DataFrame) -> pd.Series[str]:
    """Return what is wrong with each message of a ship that is too fast; "" if nothing.

    Only ships with a jump between any two messages are followed.
    """
    lon, lat, time, mmsi = table[["lon", "lat", "time", "mmsi"]].to_numpy(np.float64).T
    meters = EARTH.inv(lon[:-1], lat[:-1], lon[1:], lat[1:])[2]
    is_jump = (np.diff(mmsi) == 0) & (np.asarray(meters) > _reach(np.diff(time)))
    points = np.column_stack([lon, lat, time])
    faults = np.full(len(table), "", object)
    for ship in np.unique(mmsi[:-1][is_jump]):
        rows = np.flatnonzero(mmsi == ship)
        is_followed, is_shared = _follow(points[rows])
        faults[rows[~is_followed]] = _JUMP
        if is_shared:
            faults[rows] = _SHARED
    return pd.Series(faults, table.index)


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
    """

    lon: Floats
    lat: Floats
    speed: Floats
    course: Floats
    heading: Floats
    sigma: Floats
    gap: Floats


def locate_ships(
    tracks: Tracks, time_at: Callable[[Floats, Floats], Floats], start: float
) -> ShipStates:
    """Compute where ships are at the time at which the radar sees each of them.

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
    messages: Any = tracks.table[_COLUMNS].astype(np.float64).to_records(index=False)
    ships: Any = tracks.ships[_SIZES].astype(np.float64).to_records(index=False)
    rows = []
    bounds = zip(tracks.starts[:-1], tracks.starts[1:], strict=True)
    for ship, (first, end), time in zip(ships, bounds, times, strict=True):
        sent = messages[first:end]
        after = int(np.searchsorted(sent.time, time))
        if 0 < after < len(sent):
            path = _interpolate(sent[after - 1], sent[after], time)
        elif after:
            path = _extrapolate(sent[-1], sent[-2:], time)
        else:
            path = _extrapolate(sent[0], sent[:2], time)
        rows.append(_make_state(path, ship))
    columns = zip(*rows, strict=True) if rows else [()] * len(ShipStates._fields)
    return ShipStates(*map(np.array, columns))


class _Path(NamedTuple):
    """Where a ship has sailed at a time.

    Attributes:
        start: message from which it sailed.
        way: way from there in meters, see `_direction`.
        velocity: velocity in meters per second, see `_direction`.
        heading: heading in the nearest message; NaN without one.
        sigma: standard deviation in meters.
        gap: see `ShipStates`.
    """

    start: Any
    way: complex
    velocity: complex
    heading: float
    sigma: float
    gap: float


def _interpolate(before: Any, after: Any, time: float) -> _Path:
    """Return the path between two messages.

    An unknown acceleration a displaces a ship by a t (gap - t) / 2 at the time t. With
    the velocities at both ends only its change counts, which is a quarter of it in the
    simulated traffic.
    """
    gap = after.time - before.time
    elapsed = time - before.time
    u = elapsed / gap
    straight = _path(before, after) / gap
    v0 = _velocity(before)
    v1 = _velocity(after)
    is_hermite = gap <= HERMITE_GAP and bool(np.isfinite(v0 * v1))
    if not is_hermite:  # with equal velocities, the cubic is a straight line
        v0 = straight
        v1 = straight
    way = (u**3 - 2 * u**2 + u) * v0
    way += (3 * u**2 - 2 * u**3) * straight
    way += (u**3 - u**2) * v1
    velocity = (3 * u**2 - 4 * u + 1) * v0
    velocity += 6 * (u - u**2) * straight
    velocity += (3 * u**2 - 2 * u) * v1
    sigma = _acceleration(velocity) * elapsed * (gap - elapsed) / 2
    if is_hermite:
        sigma /= 4
    heading = before.heading if u < 0.5 else after.heading
    return _Path(before, gap * way, velocity, heading, sigma, gap)


def _extrapolate(start: Any, nearest: Any, time: float) -> _Path:
    """Return the path before the first or after the last message, which is `start`.

    Without a velocity in it, that between the nearest two messages counts. An unknown
    acceleration a displaces a ship by a t^2 / 2 after the time t.
    """
    elapsed = time - start.time
    seconds = np.ptp(nearest.time)
    velocity = _velocity(start)
    if not np.isfinite(velocity):
        velocity = _path(nearest[0], nearest[-1]) / (seconds or 1)
    gap = abs(elapsed)
    sigma = _UNKNOWN_SPEED * gap
    if start.sog >= 0 or seconds:
        sigma = np.hypot(_SPEED_SIGMA * gap, _acceleration(velocity) * gap**2 / 2)
    return _Path(start, elapsed * velocity, velocity, start.heading, sigma, gap)


def _make_state(path: _Path, ship: Any) -> tuple[Any, ...]:
    """Return the state of a ship, with the fields of `ShipStates`.

    The distances A to D of ITU-R M.1371-5 are those from the antenna to bow, stern,
    port and starboard.
    """
    speed = abs(path.velocity)
    course = np.degrees(np.angle(path.velocity)) % 360
    heading = path.heading
    if np.isnan(heading) and speed > _STOPPED:
        heading = course
    way = path.way
    antenna_sigma = 0.0
    if ship.bow + ship.stern > 0 and np.isfinite(heading):
        to_starboard = np.nan_to_num((ship.starboard - ship.port) / 2)
        middle = complex((ship.bow - ship.stern) / 2, to_starboard)
        way += middle * _direction(heading)
    else:
        is_known = np.isfinite(ship.length)
        antenna_sigma = _ANTENNA_SIGMA * (ship.length if is_known else _UNKNOWN_LENGTH)
    azimuth = np.degrees(np.angle(way))
    lon, lat, _ = EARTH.fwd(path.start.lon, path.start.lat, azimuth, abs(way))
    sigma = np.hypot(antenna_sigma, path.sigma)
    return lon, lat, speed, course, heading, sigma, path.gap


def _direction(degrees: float) -> complex:
    """Return a direction as complex number: north is 1, east is i."""
    return complex(np.exp(1j * np.radians(degrees)))


def _velocity(message: Any) -> complex:
    """Return the velocity in meters per second; NaN without speed and course."""
    return complex(message.sog * KNOT * _direction(message.cog))


def _path(start: Any, end: Any) -> complex:
    """Return the way between messages in meters, see `_direction`.

    It lies in the azimuthal equidistant plane of the first one.
    """
    azimuth, _, meters = EARTH.inv(start.lon, start.lat, end.lon, end.lat)
    return complex(meters * _direction(azimuth))


def _acceleration(velocity: complex) -> float:
    return _ACCELERATION + _TURN_RATE * abs(velocity)
