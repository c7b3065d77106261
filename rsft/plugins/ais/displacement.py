"""When and from where a radar sees a place, and how far it displaces ships that move.

A synthetic-aperture radar puts a target on the line where its range rate is zero (zero
Doppler). A target that moves away with the range velocity v_r > 0 at the slant range R
has the range history

    R(t) = R + v_r t + V_e^2 t^2 / (2 R),    V_e^2 = V V_g,

with the speed V of the platform in its orbit and the speed V_g of its beam on the
ground (Cumming and Wong 2005, "Digital Processing of Synthetic Aperture Radar Data",
section 4.3). Its minimum is at t = -R v_r / (V V_g), during which the beam moves by V_g
t on the ground. So the target appears displaced along the flight direction by

    shift = -R v_r / V

(Raney 1971, "Synthetic aperture imaging radar and moving targets", IEEE Transactions on
Aerospace and Electronic Systems 7, 499-505): backward if it moves away from the radar,
forward if it comes nearer. A ship that moves with the speed v on the course c has

    v_r = v sin(incidence) cos(c - look),    look = flight direction + 90 degrees for a
    radar that looks to the right.
"""

from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
import pandas as pd

from rsft.data.imagery import rasters
from rsft.data.imagery.products.product import RadarMotion
from rsft.errors import RequestError
from rsft.plugins.ais.message_times import format_time
from rsft.plugins.ais.tracks import ShipStates
from rsft.plugins.ais.units import EARTH
from rsft.scenes.georeference import (
    Georeference,
    ignore_georeference_warnings,
)
from rsft.scenes.raster import RasterScene
from rsft.types import Floats
from rsft.utils.cell.client import in_cell

SHIFT_SIGMA = 45.0
"""Standard deviation of an unknown displacement along any direction, in meters per m/s
of speed. It is R sin(incidence) / (2 V), because the directions of radar and ship are
independent; this is the largest of Sentinel-1."""

POSITION_SIGMA = 20.0
"""Standard deviation of the place of an object in meters: georeference of the scene,
center of the object, GNSS."""

_RANGE_SPEED_SIGMA = (
    0.3  # meters per second; waves move a ship, and speed and course are not exact
)
_TIME_TAGS = (
    "ACQUISITION_START_UTC",
    "ACQUISITIONDATETIME",
    "ACQUISITION_DATETIME",
    "ACQUISITION_TIME",
)
_STEP = 50.0  # rows; the flight direction is measured over this distance to both sides
_NO_TIME = (
    "give the time of the acquisition in UTC to rsft ais match, such as --time"
    " 2021-01-19T03:16:53Z, or store it: rio edit-info FILE --tag"
    " ACQUISITION_DATETIME=2021-01-19T03:16:53Z"
)


def azimuth_shift(
    speed: Floats,
    course: Floats,
    flight: Floats,
    incidence: Floats,
    slant_range: Floats,
    motion: RadarMotion,
) -> Floats:
    """Return the displacement (N,) of ships along the flight direction in meters.

    Args:
        speed: speeds of the ships (N,) in meters per second.
        course: their courses (N,) in degrees.
        flight: flight directions (N,) in degrees.
        incidence: incidence angles (N,) in degrees.
        slant_range: distances (N,) from the radar in meters.
        motion: speed and look side of the radar.

    Returns:
        Displacements (N,); positive along the flight.

    Example:
        A ship that sails to the west moves away from a descending radar:

        >>> motion = RadarMotion(None, None, 7600.0)
        >>> float(azimuth_shift(10.0, 270.0, 180.0, 30.0, 760_000.0, motion).round(6))
        -500.0
    """
    look = flight + (90 if motion.looks_right else -90)
    range_velocity = (
        speed * np.sin(np.radians(incidence)) * np.cos(np.radians(course - look))
    )
    return -slant_range * range_velocity / motion.velocity


class RadarView(NamedTuple):
    """Ships as the radar shows them; arrays (S,).

    Attributes:
        lon, lat: where a ship appears.
        shift: its displacement along the flight direction in meters; 0 if it cannot be
            computed.
        flight: flight direction in degrees; 0 if it is unknown.
        along, across: standard deviations of the place in meters, along and across the
            flight direction.
    """

    lon: Floats
    lat: Floats
    shift: Floats
    flight: Floats
    along: Floats
    across: Floats


@dataclass(frozen=True)
class Acquisition:
    """When and from where the radar saw each place of a scene.

    Attributes:
        georeference: georeference of the scene.
        start, end: times of the first and the last line in seconds since 1970.
        scene: the scene, if its product says the azimuth times of its lines; None for
            one time.
        note: where the times come from.
    """

    georeference: Georeference
    start: float
    end: float
    scene: RasterScene | None
    note: str

    @classmethod
    def of(cls, scene: RasterScene, time: str | None = None) -> Self:
        """Find the times of a scene.

        Args:
            scene: the scene.
            time: time of the acquisition that the user gives; it replaces that of the
                file.

        Raises:
            RequestError: the scene has no georeference or no time, or a time is not ISO
                8601.
        """
        georeference = scene.georeference
        if georeference is None:
            raise RequestError(
                "the scene has no georeference, so AIS positions cannot be found in it",
                scene.path,
                "give a product with ground control points or a geotransform",
            )
        product = scene.product
        source = "the product"
        times = [product.acquired, product.finished]
        if time is not None:
            source = "--time"
            times = [time]
        elif product.acquired is None:
            tag, source = _find_time_tag(scene)
            times = [tag]
        seconds = [_parse_time(text, scene.path) for text in times if text]
        start, end = seconds[0], seconds[-1]
        is_timed = time is None and product.acquired is not None
        if is_timed and product.motion and product.incidence:
            note = f"azimuth times of the lines: {format_time(start)} to"
            return cls(georeference, start, end, scene, f"{note} {format_time(end)}")
        middle = (start + end) / 2
        note = f"one time for all lines ({source}): {format_time(middle)}"
        return cls(georeference, middle, middle, None, note)

    def time_at(self, lon: Floats, lat: Floats) -> Floats:
        """Return when the radar saw places (N,) in seconds since 1970.

        NaN where the georeference is not defined.
        """
        if self.scene is None or self.scene.product.motion is None:
            return np.full(len(lon), self.start)
        rows, cols = self.georeference.lonlat_to_pixels(lon, lat).T
        return self.start + self.scene.product.motion.seconds(rows, cols)

    def view(
        self, states: ShipStates, position_sigma: float = POSITION_SIGMA
    ) -> RadarView:
        """Displace ships, see the module.

        Without the motion of the radar, their uncertainty grows instead.
        """
        across = np.hypot(states.sigma, position_sigma)
        product = self.scene.product if self.scene else None
        if product is None or product.motion is None or product.incidence is None:
            sigma = np.hypot(across, SHIFT_SIGMA * states.speed)
            zero = np.zeros(len(states.lon))
            return RadarView(states.lon, states.lat, zero, zero, sigma, sigma)
        motion = product.motion
        rows, cols = self.georeference.lonlat_to_pixels(states.lon, states.lat).T
        flight = self._flight_direction(rows, cols, motion)
        slant_range = motion.slant_range(rows, cols)
        incidence = product.incidence(rows, cols)
        shift = azimuth_shift(
            states.speed, states.course, flight, incidence, slant_range, motion
        )
        lon, lat, _ = EARTH.fwd(states.lon, states.lat, flight, shift)
        along = np.hypot(across, slant_range / motion.velocity * _RANGE_SPEED_SIGMA)
        return RadarView(np.asarray(lon), np.asarray(lat), shift, flight, along, across)

    def _flight_direction(
        self, rows: Floats, cols: Floats, motion: RadarMotion
    ) -> Floats:
        """Return the flight direction (N,) in degrees; lines may be reversed."""
        before, after = rows - _STEP, rows + _STEP
        start = self.georeference.pixels_to_lonlat(before, cols).T
        end = self.georeference.pixels_to_lonlat(after, cols).T
        is_reverse = motion.seconds(after, cols) < motion.seconds(before, cols)
        azimuth = np.asarray(EARTH.inv(*start, *end)[0])
        return np.asarray(azimuth + 180 * is_reverse)


def _parse_time(text: str, location: object) -> float:
    try:
        return pd.to_datetime(text, utc=True).timestamp()
    except ValueError as error:
        raise RequestError(
            f"{text[:60]!r} is not a time", location, _NO_TIME
        ) from error


@in_cell
def _read_tags(name: str) -> dict[str, str]:
    """Return the tags of a raster by their names in upper case."""
    with ignore_georeference_warnings(), rasters.open_raster(name) as file:
        tags = file.tags() | file.tags(ns="IMAGERY")
    return {key.upper(): text.strip() for key, text in tags.items()}


def _find_time_tag(scene: RasterScene) -> tuple[str, str]:
    """Return the time in a tag of the first file of a scene, and the name of the tag.

    Raises:
        RequestError: no tag has a time.
    """
    texts = _read_tags(scene.files[0])
    for name in _TIME_TAGS:
        if texts.get(name):
            return texts[name], f"tag {name}"
    raise RequestError(
        "the scene says no time of its acquisition", scene.path, _NO_TIME
    )
