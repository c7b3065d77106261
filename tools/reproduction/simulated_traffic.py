"""Measure `rsft ais match` on simulated traffic with known truth: precision and recall of the matches.

    python -m tools.reproduction.simulated_traffic

A scene of 100 x 80 km has the geometry of a descending Sentinel-1 IW image, and no
pixels. Ships sail with up to 20 knots, wander, and turn by 20 to 60 degrees once in 20
minutes on average; 15 % are at anchor. 10 % send no AIS, 2 % share the MMSI of another
ship, and 20 % of the messages are repeated. Objects are the ships where the radar shows
them, with 15 m of noise, 0.25 m/s of waves along the range, and errors of length (15 %)
and heading (8 degrees). 8 % of the ships are missed, and as many false objects as 15 %
of the ships are added. In a harbor, 40 % of the ships lie in three crowds with a radius
of 1.5 km.

Precision is the share of correct ones among the matches, recall the share of the
detected ships with AIS that are matched correctly. Ambiguous objects are no matches.
"""

import argparse
from collections import Counter
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from pyproj import CRS
from rasterio.transform import Affine

from rsft.data.imagery.products.product import Product, RadarMotion
from rsft.plugins.ais.displacement import Acquisition
from rsft.plugins.ais.feed_files import TEXTS
from rsft.plugins.ais.feeds import AisMessages
from rsft.plugins.ais.match import AMBIGUOUS, match_tracks
from rsft.plugins.ais.matching import GATE, Objects
from rsft.plugins.ais.tracks import Tracks, locate_ships, make_tracks
from rsft.plugins.ais.units import EARTH, KNOT
from rsft.scenes.georeference import Georeference
from rsft.scenes.locators import MATCHED
from rsft.types import Floats
from tools.errors import explained_errors

PIXEL = 10.0
ROWS = 10_000
COLS = 8_000  # meters; lines along the flight direction
HEADING = 193.5
VELOCITY = 7590.0
BEAM_SPEED = 6800.0  # degrees; meters per second
START = 1_611_026_213.0  # 2021-01-19 03:16:53 UTC
STEP = 5.0
SPAN = 1800.0  # seconds: of the simulation, and before and after the scene
GAPS = (1, 5, 10, 20)
COUNTS = (50, 200, 500)
SEEDS = 3


def slant_range(rows: Floats, cols: Floats) -> Floats:
    """Return the distance from the radar in meters."""
    return np.asarray(800_000 + 6.0 * np.asarray(cols))


def incidence(rows: Floats, cols: Floats) -> Floats:
    """Return the incidence angle in degrees."""
    return np.asarray(30 + 6 * np.asarray(cols) / COLS)


def make_acquisition(velocity: float = VELOCITY) -> Acquisition:
    """Return the geometry of the scene; the library takes `velocity` as the speed of the platform."""
    plane = CRS.from_proj4("+proj=aeqd +lat_0=55 +lon_0=3 +ellps=WGS84")
    flight = np.radians(HEADING)
    look = np.radians(HEADING + 90)
    affine = Affine(
        PIXEL * np.sin(look), PIXEL * np.sin(flight), 0, PIXEL * np.cos(look), PIXEL * np.cos(flight), 0
    )  # fmt: skip
    motion = RadarMotion(
        lambda rows, cols: np.asarray(rows) * PIXEL / BEAM_SPEED, slant_range, velocity
    )
    scene: Any = SimpleNamespace(product=Product(motion=motion, incidence=incidence))
    end = START + ROWS * PIXEL / BEAM_SPEED
    return Acquisition(
        Georeference("simulated", plane.to_wkt(), affine=tuple(affine)[:6]),
        START,
        end,
        scene,
        "simulated",
    )


def sail(
    rng: np.random.Generator, count: int, is_harbor: bool
) -> tuple[Floats, Floats, Floats, Floats]:
    """Return rows and columns in pixels, speeds in m/s and courses in degrees (N, T) at all times of the simulation."""
    times = int(2 * SPAN / STEP) + 1
    center = rng.uniform((0, 0), (ROWS, COLS), (count, 2))
    speed = rng.uniform(3, 20, count) * KNOT
    still = rng.random(count) < 0.15
    if is_harbor:
        crowded = rng.random(count) < 0.4
        harbors = rng.uniform((1000, 1000), (ROWS - 1000, COLS - 1000), (3, 2))
        radius = 150 * np.sqrt(rng.random(count))
        angle = rng.uniform(0, 2 * np.pi, count)
        offset = np.column_stack([radius * np.cos(angle), radius * np.sin(angle)])
        center = np.where(
            crowded[:, None], harbors[rng.integers(0, 3, count)] + offset, center
        )
        still |= crowded & (rng.random(count) < 0.8)
        speed = np.where(crowded, rng.uniform(0.5, 8, count) * KNOT, speed)
    speed = np.where(still, rng.uniform(0, 0.1, count), speed)
    course = rng.uniform(0, 360, count)
    rate = np.zeros(count)
    left = np.zeros(count)
    speeds = np.empty((count, times))
    courses = np.empty((count, times))
    for number in range(times):
        rate = 0.95 * rate + rng.normal(0, 0.003, count)  # degrees per second
        starts = (rng.random(count) < STEP / 1200) & ~still
        left = np.where(
            starts, rng.uniform(20, 60, count) * rng.choice((-1, 1), count), left
        )
        turn = np.clip(left, -0.4 * STEP, 0.4 * STEP)
        left = left - turn
        course = (course + turn + np.where(still, 0, rate * STEP)) % 360
        speed = np.where(
            still, speed, np.clip(speed + rng.normal(0, 0.02, count), 0.2, 20 * KNOT)
        )
        speeds[:, number] = speed
        courses[:, number] = course
    angle = np.radians(courses - HEADING)
    rows = np.cumsum(speeds * np.cos(angle) * STEP / PIXEL, axis=1)
    cols = np.cumsum(speeds * np.sin(angle) * STEP / PIXEL, axis=1)
    middle = times // 2
    return (
        *(x - x[:, [middle]] + center[:, [k]] for k, x in enumerate((rows, cols))),
        speeds,
        courses,
    )  # type: ignore[return-value]


class Fleet(NamedTuple):
    """Ships; arrays (S,), and their paths (S, T) at the times `clock` (T,) in seconds after the first line.

    `bow` is the distance from the antenna to the bow in meters, `truth` the MMSI of
    ships that can be matched, else 0.
    """

    clock: Any
    rows: Floats
    cols: Floats
    speeds: Floats
    courses: Floats
    length: Any
    bow: Any
    mmsi: Any
    has_ais: Any
    truth: Any


def make_fleet(rng: np.random.Generator, count: int, is_harbor: bool) -> Fleet:
    """Draw ships, those without AIS, and those that share an MMSI with the ship before them."""
    rows, cols, speeds, courses = sail(rng, count, is_harbor)
    length = np.clip(rng.lognormal(np.log(110), 0.6, count), 20, 380)
    own = 219_000_000 + 977 * np.arange(count)
    has_ais = rng.random(count) < 0.9
    is_double = rng.random(count) < 0.02
    mmsi = np.where(is_double, np.roll(own, 1), own)
    numbers, senders = np.unique(mmsi[has_ais], return_counts=True)
    is_unique = has_ais & np.isin(mmsi, numbers[senders == 1])
    clock = np.arange(rows.shape[1]) * STEP - SPAN
    bow = length * rng.uniform(0.1, 0.9, count)
    return Fleet(
        clock,
        rows,
        cols,
        speeds,
        courses,
        length,
        bow,
        mmsi,
        has_ais,
        np.where(is_unique, mmsi, 0),
    )


def send(
    rng: np.random.Generator, fleet: Fleet, gap: float, acquisition: Acquisition
) -> AisMessages:
    """Return the messages of the ships, one in `gap` seconds from each, at the places of their antennas."""
    parts = []
    for i in np.flatnonzero(fleet.has_ais):
        times = np.arange(rng.uniform(0, gap), 2 * SPAN, gap) - SPAN
        k = np.searchsorted(fleet.clock, times).clip(0, len(fleet.clock) - 1)
        heading = fleet.courses[i, k] + rng.normal(0, 1, len(times))
        ahead = np.radians(heading - HEADING)
        offset = (fleet.length[i] / 2 - fleet.bow[i]) / PIXEL
        row = fleet.rows[i, k] + offset * np.cos(ahead) + rng.normal(0, 0.5, len(times))
        col = fleet.cols[i, k] + offset * np.sin(ahead) + rng.normal(0, 0.5, len(times))
        part = {
            "time": START + fleet.clock[k],
            "sog": fleet.speeds[i, k],
            "cog": fleet.courses[i, k],
            "heading": heading,
        }
        parts.append(
            pd.DataFrame(part | {"row": row, "col": col, "mmsi": fleet.mmsi[i]})
        )
    table = pd.concat(parts, ignore_index=True)
    table["sog"] = (
        (table["sog"] / KNOT + rng.normal(0, 0.1, len(table))).clip(0).round(1)
    )
    table["cog"] = (table["cog"] + rng.normal(0, 1, len(table))).round(1) % 360
    table["heading"] = table["heading"].round() % 360
    table[["lon", "lat"]] = acquisition.georeference.pixels_to_lonlat(
        table["row"], table["col"]
    )
    table = pd.concat(
        [table, table.sample(frac=0.2, random_state=int(rng.integers(2**31)))],
        ignore_index=True,
    )
    has_size = rng.random(len(fleet.mmsi)) < 0.9
    has_antenna = has_size & (rng.random(len(fleet.mmsi)) < 0.8)
    static = pd.DataFrame(
        {"mmsi": fleet.mmsi, "length": np.where(has_size, fleet.length.round(), np.nan)}
    )
    distances = {
        "bow": fleet.bow,
        "stern": fleet.length - fleet.bow,
        "port": 10.0,
        "starboard": 10.0,
    }
    known = {
        name: np.where(has_antenna, np.asarray(x), np.nan)
        for name, x in distances.items()
    }
    static = static.assign(width=20.0, **known, **dict.fromkeys(TEXTS))
    return AisMessages(table, static.groupby("mmsi").first(), Counter(), [])


def show(
    rng: np.random.Generator, fleet: Fleet, acquisition: Acquisition
) -> tuple[Objects, Any]:
    """Return the objects that the radar shows, and the MMSI of each one, 0 for those without a match."""
    count = len(fleet.mmsi)
    seen = fleet.rows[:, len(fleet.clock) // 2] * PIXEL / BEAM_SPEED
    row = np.array(
        [np.interp(t, fleet.clock, x) for t, x in zip(seen, fleet.rows, strict=True)]
    )
    col = np.array(
        [np.interp(t, fleet.clock, x) for t, x in zip(seen, fleet.cols, strict=True)]
    )
    speed = np.array(
        [np.interp(t, fleet.clock, x) for t, x in zip(seen, fleet.speeds, strict=True)]
    )
    course = fleet.courses[
        np.arange(count),
        np.searchsorted(fleet.clock, seen).clip(0, len(fleet.clock) - 1),
    ]
    away = (
        speed
        * np.sin(np.radians(course - HEADING))
        * np.sin(np.radians(incidence(row, col)))
    )
    row = (
        row
        - slant_range(row, col) / VELOCITY * (away + rng.normal(0, 0.25, count)) / PIXEL
    )
    is_seen = (
        (rng.random(count) < 0.92) & (row > 0) & (row < ROWS) & (col > 0) & (col < COLS)
    )
    real = int(is_seen.sum())
    false = round(0.15 * count)
    places = np.column_stack([row, col])[is_seen] + rng.normal(0, 1.5, (real, 2))
    places = np.concatenate([places, rng.uniform((0, 0), (ROWS, COLS), (false, 2))])
    length = fleet.length[is_seen] * np.exp(rng.normal(0, 0.15, real))
    length = np.append(length, np.clip(rng.lognormal(np.log(60), 0.6, false), 15, 300))
    heading = (
        np.append(course[is_seen] + rng.normal(0, 8, real), rng.uniform(0, 360, false))
        % 180
    )
    lon, lat = acquisition.georeference.pixels_to_lonlat(*places.T).T
    objects = Objects(lon, lat, length, np.where(length > 60, heading, np.nan))
    return objects, np.append(fleet.truth[is_seen], np.zeros(false, int))


def nearest(acquisition: Acquisition, tracks: Tracks, objects: Objects) -> Any:
    """Return the MMSI of the ship that is nearest to each object, 0 without one within the gate."""
    states = locate_ships(
        tracks, acquisition.time_at, (acquisition.start + acquisition.end) / 2
    )
    view = acquisition.view(states)
    lon0, lon1 = (x.ravel() for x in np.meshgrid(view.lon, objects.lon))
    lat0, lat1 = (x.ravel() for x in np.meshgrid(view.lat, objects.lat))
    meters = np.asarray(EARTH.inv(lon0, lat0, lon1, lat1)[2]).reshape(
        len(objects.lon), -1
    )
    best = meters.argmin(axis=1)
    inside = meters.min(axis=1) <= GATE * np.hypot(view.along, view.across)[
        best
    ] / np.sqrt(2)
    return np.where(inside, tracks.ships["mmsi"].to_numpy()[best], 0)


def measure(count: int, gap: int, is_harbor: bool, seeds: int) -> list[str]:
    """Return the cells of a row in %: precision, recall, ambiguous objects; precision and recall of three variants."""
    acquisition = make_acquisition()
    geometries = {
        "full": acquisition,
        "unknown": Acquisition(
            acquisition.georeference, START, acquisition.end, None, ""
        ),
        "ignored": make_acquisition(velocity=1e12),  # displaces nothing
    }
    # matches, correct ones, ships
    tallies = {name: np.zeros(3, int) for name in (*geometries, "nearest")}
    ambiguous = total = 0
    for seed in range(seeds):
        rng = np.random.default_rng((seed, count, gap, is_harbor))
        fleet = make_fleet(rng, count, is_harbor)
        tracks = make_tracks(send(rng, fleet, 60.0 * gap, acquisition))
        objects, truth = show(rng, fleet, acquisition)
        area = ROWS * COLS * PIXEL**2
        answers = {"nearest": nearest(acquisition, tracks, objects)}
        for name, geometry in geometries.items():
            table = match_tracks(geometry, tracks, objects, area).objects
            answers[name] = (
                table["mmsi"]
                .where(table["status"] == MATCHED)
                .fillna(0)
                .to_numpy(np.int64)
            )
            if name == "full":
                ambiguous = ambiguous + int((table["status"] == AMBIGUOUS).sum())
                total = total + len(table)
        for name, answer in answers.items():
            correct = (answer == truth) & (answer > 0)
            tallies[name] += [
                int((answer > 0).sum()),
                int(correct.sum()),
                int((truth > 0).sum()),
            ]
    (made, right, ships), *others = tallies.values()
    shares = [100 * right / made, 100 * right / ships, 100 * ambiguous / total]
    return [f"{x:.1f}" for x in shares] + [
        f"{100 * x[1] / x[0]:.1f}, {100 * x[1] / x[2]:.1f}" for x in others
    ]


def main(arguments: list[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--seeds", type=int, default=SEEDS, help="simulations of each row (%(default)s)"
    )
    parser.add_argument(
        "--counts", type=int, nargs="+", default=COUNTS, help="numbers of ships"
    )
    parser.add_argument(
        "--gaps",
        type=int,
        nargs="+",
        default=GAPS,
        help="minutes between two messages of a ship",
    )
    options = parser.parse_args(arguments)
    variants = ("radar motion unknown", "shift ignored", "nearest ship")
    print(
        "| sea | ships | gap, min | precision | recall | ambiguous |"
        f" {' | '.join(variants)} |"
    )
    print("|---|" + "---:|" * 8)
    for is_harbor in (False, True):
        for count in options.counts:
            for gap in options.gaps:
                cells = measure(count, gap, is_harbor, options.seeds)
                print(
                    "|",
                    " | ".join(
                        [
                            "harbors" if is_harbor else "open",
                            str(count),
                            str(gap),
                            *cells,
                        ]
                    ),
                    "|",
                    flush=True,
                )


if __name__ == "__main__":
    with explained_errors():
        main()
