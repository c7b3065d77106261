"""Point scatterers of simulated ships and shores: on surfaces, at walls and in corners.

The image frame is ground range x to the right, away from the radar, and azimuth y downward, in meters. A point at
height z appears at x - z / tan(incidence) (layover) and hides the ground up to z tan(incidence) behind it (shadow).
Radar cross sections are relative to that of one square meter of sea.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rsft.data.simulation.clutter import Shore
from rsft.data.simulation.geometry import UNIT_BOX, Ship, box_corners, fill_polygon
from rsft.types import Floats

_DENSITY = 2.0  # scatterers per pixel of a rough surface: enough for fully developed speckle
_DIHEDRAL_WIDTH = 3.0  # exponent of the cosine to the wall's normal: a hull is brightest when seen broadside

# radar cross section in dB: of a surface per square meter, of a wall per square meter, of a corner
_RCS_DB = {
    "hull": (13.0, 21.0, 30.0),
    "deck": (11.0, 14.0, 22.0),
    "hatch": (12.0, 20.0, 30.0),
    "container": (15.0, 18.0, 30.0),
    "house": (17.0, 22.0, 41.0),
    "funnel": (16.0, 18.0, 34.0),
    "crane": (18.0, 20.0, 36.0),
    "pipe": (21.0, 20.0, 27.0),
    "manifold": (22.0, 24.0, 37.0),
    "hopper": (2.0, 23.0, 28.0),
    "mast": (18.0, 12.0, 34.0),
    "gear": (16.0, 20.0, 33.0),
}
_CORNER_SPREAD_DB = 7.0
_QUAY_RCS_DB = 22.0


@dataclass(frozen=True)
class Pose:
    """Position and heading of a ship in the image frame.

    Attributes:
        ship: the ship.
        x: midships along ground range, in meters from the image center.
        y: midships along azimuth, in meters from the image center.
        heading: direction of the bow, in radians from +x to +y.
    """

    ship: Ship
    x: float
    y: float
    heading: float

    def to_image_frame(self, points: Floats) -> Floats:
        """Transform ship coordinates to the image frame.

        Args:
            points: (..., 2) meters along the keel and toward starboard.

        Returns:
            (..., 2) meters in the image frame.
        """
        cos, sin = np.cos(self.heading), np.sin(self.heading)
        return np.asarray(points @ np.array([[cos, sin], [-sin, cos]]) + (self.x, self.y))

    def bounding_box(self) -> Floats:
        """Return the corners (4, 2) of the rotated box around the ship: port bow first, clockwise in the image."""
        half = np.array([self.ship.length, self.ship.beam]) / 2
        return self.to_image_frame(np.array([[1, -1], [1, 1], [-1, 1], [-1, -1]]) * half)


@dataclass(frozen=True)
class Scatterers:
    """N point scatterers.

    Attributes:
        x: ground range in meters (N,).
        y: azimuth in meters (N,).
        z: height in meters (N,).
        rcs: mean radar cross section (N,).
        nonfluctuating: 1 for a single steady point, 0 for a point with Rayleigh fluctuation (N,).
    """

    x: Floats
    y: Floats
    z: Floats
    rcs: Floats
    nonfluctuating: Floats

    @classmethod
    def from_groups(cls, groups: Sequence[Floats]) -> Scatterers:
        """Concatenate groups of scatterers.

        Args:
            groups: arrays (5, N) with rows x, y, z, rcs, nonfluctuating.

        Returns:
            All scatterers.
        """
        return cls(*np.concatenate([np.empty((5, 0)), *groups], axis=1))

    def to_array(self) -> Floats:
        """Return the scatterers as an array (5, N) with rows x, y, z, rcs, nonfluctuating."""
        return np.stack([self.x, self.y, self.z, self.rcs, self.nonfluctuating])


def sample_ship_scatterers(pose: Pose, pixel_area: float, rng: np.random.Generator) -> Floats:
    """Draw all scatterers of a ship, including hidden ones.

    Args:
        pose: the ship in the image frame.
        pixel_area: area of a pixel in square meters.
        rng: source of randomness.

    Returns:
        Array (5, N), see `Scatterers.to_array`.
    """
    ship, deck_objects = pose.ship, pose.ship.deck_objects
    boxes = np.array([(box.x, box.y, box.length, box.width) for box in deck_objects]).reshape(-1, 4)
    tops = np.array([ship.freeboard + box.height for box in deck_objects])
    rcs_db = np.array([_RCS_DB[box.kind] for box in deck_objects]).reshape(-1, 3)
    corners = pose.to_image_frame(box_corners(deck_objects))
    hull = pose.to_image_frame(ship.outline())[None]
    groups = [
        _deck_scatterers(pose, pixel_area, rng),
        _top_scatterers(pose, boxes, tops, rcs_db[:, 0], pixel_area, rng),
        _wall_scatterers(
            hull, np.zeros(1), np.array([ship.freeboard]), np.array([_RCS_DB["hull"][1]]), pixel_area, rng
        ),
        _wall_scatterers(corners, np.full(len(deck_objects), ship.freeboard), tops, rcs_db[:, 1], pixel_area, rng),
        _corner_scatterers(corners, tops, rcs_db[:, 2], rng),
    ]
    scatterers = np.concatenate(groups, axis=1)
    scatterers[3] *= 10 ** rng.uniform(-0.4, 0.4)
    return scatterers


def sample_shore_scatterers(shore: Shore, reach: float, pixel_area: float, rng: np.random.Generator) -> Floats:
    """Draw the scatterers of a built-up shore: the wall of a quay, and rows of buildings along it.

    Args:
        shore: the shore.
        reach: half the side of the image in meters.
        pixel_area: area of a pixel in square meters.
        rng: source of randomness.

    Returns:
        Array (5, N), see `Scatterers.to_array`.
    """
    along = np.array([-np.sin(shore.angle), np.cos(shore.angle)])
    inward = np.array([np.cos(shore.angle), np.sin(shore.angle)])
    ends = shore.offset * inward + 1.5 * reach * np.array([[-1], [1]]) * along
    quay = np.concatenate([ends, ends[::-1] + 30 * inward])[None]
    groups = [_wall_scatterers(quay, np.zeros(1), np.full(1, 3.0), np.full(1, _QUAY_RCS_DB), pixel_area, rng)]
    count = int(rng.integers(0, 1 + int(reach / 6)))
    extent = np.stack([rng.uniform(15, 70, count), rng.uniform(10, 30, count)], axis=1)
    inland = (rng.integers(0, 8, count) + 0.7) * 45 + shore.offset
    centers = rng.uniform(-1.5, 1.5, (count, 1)) * reach * along + inland[:, None] * inward
    corners = centers[:, None] + UNIT_BOX * extent[:, None] @ np.stack([along, inward])
    height = rng.uniform(5, 25, count)
    groups.append(_wall_scatterers(corners, np.zeros(count), height, rng.uniform(12, 24, count), pixel_area, rng))
    groups.append(_corner_scatterers(corners, height, rng.uniform(24, 36, count), rng))
    return np.concatenate(groups, axis=1)


def height_map(poses: list[Pose], size: int, spacing: tuple[float, float]) -> Floats:
    """Return the height of ships in every pixel.

    Args:
        poses: the ships.
        size: side of the image in pixels.
        spacing: meters per pixel along azimuth and range.

    Returns:
        Meters above the water (size, size).
    """
    relief = np.zeros((size, size), np.float32)
    for pose in poses:
        shapes = [(pose.ship.outline(), pose.ship.freeboard)]
        bases = box_corners(pose.ship.deck_objects)
        boxes = zip(bases, pose.ship.deck_objects, strict=True)
        shapes += [(base, pose.ship.freeboard + box.height) for base, box in boxes]
        for base, height in shapes:
            fill_polygon(relief, pose.to_image_frame(base) / spacing[::-1] + (size - 1) / 2, height)
    return relief.astype(np.float64)


def _deck_scatterers(pose: Pose, pixel_area: float, rng: np.random.Generator) -> Floats:
    """Draw scatterers on the deck, within the outline of the hull."""
    ship = pose.ship
    count = max(16, int(_DENSITY * ship.length * ship.beam / pixel_area))
    x = rng.uniform(-0.5, 0.5, count) * ship.length
    width = 2 * ship.half_beam(x)
    position = pose.to_image_frame(np.stack([x, rng.uniform(-0.5, 0.5, count) * width], axis=1))
    rcs = _from_decibel(_RCS_DB["hull"][0]) * width * ship.length / count
    return np.stack([*position.T, np.full(count, ship.freeboard), rcs, np.zeros(count)])


def _top_scatterers(
    pose: Pose, boxes: Floats, tops: Floats, rcs_db: Floats, pixel_area: float, rng: np.random.Generator
) -> Floats:
    """Draw scatterers on the tops of boxes (P, 4) of x, y, length and width."""
    area = boxes[:, 2] * boxes[:, 3]
    counts = np.maximum(4, _DENSITY * area / pixel_area).astype(int)
    owner = np.repeat(np.arange(len(boxes)), counts)
    inside = boxes[owner, :2] + rng.uniform(-0.5, 0.5, (len(owner), 2)) * boxes[owner, 2:]
    position = pose.to_image_frame(inside)
    rcs = (_from_decibel(rcs_db) * area / counts)[owner]
    return np.stack([*position.T, tops[owner], rcs, np.zeros(len(owner))])


def _wall_scatterers(
    base: Floats, low: Floats, high: Floats, rcs_db: Floats, pixel_area: float, rng: np.random.Generator
) -> Floats:
    """Draw scatterers of walls on polygons (P, K, 2) that face the radar: half at the foot, half higher up."""
    along = np.roll(base, -1, axis=1) - base
    length = np.hypot(*np.moveaxis(along, -1, 0))
    normal = along[..., ::-1] * (1, -1) / np.maximum(length, 1e-9)[..., None]
    outward = base + along / 2 - base.mean(axis=1, keepdims=True)
    normal *= np.sign((normal * outward).sum(axis=-1, keepdims=True))
    facing = np.maximum(0, -normal[..., 0]) ** _DIHEDRAL_WIDTH
    counts = np.where(facing > 1e-3, np.maximum(2, 2 * _DENSITY * length / np.sqrt(pixel_area)), 0).astype(int)
    rcs = _from_decibel(rcs_db[:, None]) * length * (high - low)[:, None] * facing / np.maximum(counts, 1)
    polygon, wall = (np.repeat(index, counts.ravel()) for index in np.indices(counts.shape).reshape(2, -1))
    position = base[polygon, wall] + rng.uniform(0, 1, (len(wall), 1)) * along[polygon, wall]
    up = rng.uniform(0, 1, len(wall)) * (rng.random(len(wall)) < 0.5)
    z = low[polygon] + up * (high - low)[polygon]
    return np.stack([*position.T, z, rcs[polygon, wall], np.zeros(len(wall))])


def _corner_scatterers(corners: Floats, tops: Floats, rcs_db: Floats, rng: np.random.Generator) -> Floats:
    """Draw one strong point per box, at one of its corners."""
    count = len(corners)
    position = corners[np.arange(count), rng.integers(0, 4, count)]
    rcs = _from_decibel(rcs_db + rng.normal(0, _CORNER_SPREAD_DB, count))
    return np.stack([*position.T, tops * rng.uniform(0.6, 1, count), rcs, np.ones(count)])


def _from_decibel(decibel: Floats | float) -> Floats:
    return np.asarray(10 ** (np.asarray(decibel) / 10))
