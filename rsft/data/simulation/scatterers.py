"""Simulated ships as radar sees them: clouds of scatterers on decks, at walls and in corners.

The image frame is ground range x to the right, away from the radar, and azimuth y downward, in metres. A point at
height z appears at x - z / tan(incidence) (layover) and hides the ground up to z tan(incidence) behind it (shadow).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rsft.data.simulation.clutter import Shore
from rsft.data.simulation.geometry import UNIT_BOX, Ship, box_corners, fill_polygon

Points = NDArray[np.float64]
Values = NDArray[np.float64]

_DENSITY = 2.0  # scatterers a pixel of a rough surface: enough for full speckle
_DIHEDRAL_WIDTH = 3.0  # exponent of the cosine to the wall's normal: a hull flashes when seen broadside

# dB over a square metre of calm sea: a surface a square metre, the foot of a wall a metre along and up, a corner
_GAINS = {
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
_QUAY_GAIN = 22.0


@dataclass(frozen=True)
class Pose:
    """A ship in the image: midships at (x, y) metres from the centre, bow toward `heading` (radians from +x to +y)."""

    ship: Ship
    x: float
    y: float
    heading: float

    def to_image_frame(self, points: Points) -> Points:
        """Ship coordinates (..., 2) -> image frame (..., 2)."""
        cos, sin = np.cos(self.heading), np.sin(self.heading)
        return np.asarray(points @ np.array([[cos, sin], [-sin, cos]]) + (self.x, self.y))

    def bounding_box(self) -> Points:
        """The corners of the rotated box, bow to port first, clockwise in the image (4, 2)."""
        half = np.array([self.ship.length, self.ship.beam]) / 2
        return self.to_image_frame(np.array([[1, -1], [1, 1], [-1, 1], [-1, -1]]) * half)


@dataclass(frozen=True)
class Scatterers:
    """Scatterers (N,): ground position and height in metres, mean power, and 1 where it is one steady point, else 0."""

    x: Values
    y: Values
    z: Values
    rcs: Values
    nonfluctuating: Values

    @classmethod
    def from_groups(cls, groups: Sequence[Values]) -> Scatterers:
        """From columns x, y, z, power, steady: arrays (5, N)."""
        return cls(*np.concatenate([np.empty((5, 0)), *groups], axis=1))

    def to_array(self) -> Values:
        """The reverse of `of`: (5, N)."""
        return np.stack([self.x, self.y, self.z, self.rcs, self.nonfluctuating])


def sample_ship_scatterers(pose: Pose, cell: float, rng: np.random.Generator) -> Values:
    """All scatterers of a ship, hidden ones too, as columns (5, N); `cell` is the area of a pixel in square metres."""
    ship, parts = pose.ship, pose.ship.deck_objects
    boxes = np.array([(part.x, part.y, part.length, part.width) for part in parts]).reshape(-1, 4)
    tops = np.array([ship.freeboard + part.height for part in parts])
    gains = np.array([_GAINS[part.kind] for part in parts]).reshape(-1, 3)
    corners = pose.to_image_frame(box_corners(parts))
    hull = pose.to_image_frame(ship.outline())[None]
    groups = [
        _deck(pose, cell, rng),
        _tops(pose, boxes, tops, gains[:, 0], cell, rng),
        _walls(hull, np.zeros(1), np.array([ship.freeboard]), np.array([_GAINS["hull"][1]]), cell, rng),
        _walls(corners, np.full(len(parts), ship.freeboard), tops, gains[:, 1], cell, rng),
        _corners(corners, tops, gains[:, 2], rng),
    ]
    echoes = np.concatenate(groups, axis=1)
    echoes[3] *= 10 ** rng.uniform(-0.4, 0.4)
    return echoes


def sample_shore_scatterers(shore: Shore, reach: float, cell: float, rng: np.random.Generator) -> Values:
    """Scatterers of a built-up shore as columns (5, N): the quay's wall, and buildings in rows along it.

    Args:
        reach: half the side of the image in metres.
    """
    along = np.array([-np.sin(shore.angle), np.cos(shore.angle)])
    inward = np.array([np.cos(shore.angle), np.sin(shore.angle)])
    ends = shore.offset * inward + 1.5 * reach * np.array([[-1], [1]]) * along
    quay = np.concatenate([ends, ends[::-1] + 30 * inward])[None]
    groups = [_walls(quay, np.zeros(1), np.full(1, 3.0), np.full(1, _QUAY_GAIN), cell, rng)]
    count = int(rng.integers(0, 1 + int(reach / 6)))
    extent = np.stack([rng.uniform(15, 70, count), rng.uniform(10, 30, count)], axis=1)
    inland = (rng.integers(0, 8, count) + 0.7) * 45 + shore.offset
    centres = rng.uniform(-1.5, 1.5, (count, 1)) * reach * along + inland[:, None] * inward
    corners = centres[:, None] + UNIT_BOX * extent[:, None] @ np.stack([along, inward])
    height = rng.uniform(5, 25, count)
    groups.append(_walls(corners, np.zeros(count), height, rng.uniform(12, 24, count), cell, rng))
    groups.append(_corners(corners, height, rng.uniform(24, 36, count), rng))
    return np.concatenate(groups, axis=1)


def height_map(poses: list[Pose], size: int, spacing: tuple[float, float]) -> Values:
    """Height over water (size, size) of what stands in each pixel."""
    relief = np.zeros((size, size), np.float32)
    for pose in poses:
        shapes = [(pose.ship.outline(), pose.ship.freeboard)]
        bases = box_corners(pose.ship.deck_objects)
        shapes += [
            (base, pose.ship.freeboard + part.height) for base, part in zip(bases, pose.ship.deck_objects, strict=True)
        ]
        for base, height in shapes:
            fill_polygon(relief, pose.to_image_frame(base) / spacing[::-1] + (size - 1) / 2, height)
    return relief.astype(np.float64)


def _deck(pose: Pose, cell: float, rng: np.random.Generator) -> Values:
    ship = pose.ship
    count = max(16, int(_DENSITY * ship.length * ship.beam / cell))
    x = rng.uniform(-0.5, 0.5, count) * ship.length
    width = 2 * ship.half_beam(x)
    place = pose.to_image_frame(np.stack([x, rng.uniform(-0.5, 0.5, count) * width], axis=1))
    power = _linear(_GAINS["hull"][0]) * width * ship.length / count
    return np.stack([*place.T, np.full(count, ship.freeboard), power, np.zeros(count)])


def _tops(pose: Pose, boxes: Values, tops: Values, gains: Values, cell: float, rng: np.random.Generator) -> Values:
    area = boxes[:, 2] * boxes[:, 3]
    counts = np.maximum(4, _DENSITY * area / cell).astype(int)
    which = np.repeat(np.arange(len(boxes)), counts)
    inside = boxes[which, :2] + rng.uniform(-0.5, 0.5, (len(which), 2)) * boxes[which, 2:]
    place = pose.to_image_frame(inside)
    power = (_linear(gains) * area / counts)[which]
    return np.stack([*place.T, tops[which], power, np.zeros(len(which))])


def _walls(base: Points, low: Values, high: Values, gains: Values, cell: float, rng: np.random.Generator) -> Values:
    """Walls that face the radar, on polygons (P, K, 2): half their echoes come from the foot, half from up the wall."""
    along = np.roll(base, -1, axis=1) - base
    length = np.hypot(*np.moveaxis(along, -1, 0))
    normal = along[..., ::-1] * (1, -1) / np.maximum(length, 1e-9)[..., None]
    outward = base + along / 2 - base.mean(axis=1, keepdims=True)
    normal *= np.sign((normal * outward).sum(axis=-1, keepdims=True))
    facing = np.maximum(0, -normal[..., 0]) ** _DIHEDRAL_WIDTH
    counts = np.where(facing > 1e-3, np.maximum(2, 2 * _DENSITY * length / np.sqrt(cell)), 0).astype(int)
    power = _linear(gains[:, None]) * length * (high - low)[:, None] * facing / np.maximum(counts, 1)
    polygon, wall = (np.repeat(index, counts.ravel()) for index in np.indices(counts.shape).reshape(2, -1))
    place = base[polygon, wall] + rng.uniform(0, 1, (len(wall), 1)) * along[polygon, wall]
    up = rng.uniform(0, 1, len(wall)) * (rng.random(len(wall)) < 0.5)
    z = low[polygon] + up * (high - low)[polygon]
    return np.stack([*place.T, z, power[polygon, wall], np.zeros(len(wall))])


def _corners(corners: Points, tops: Values, gains: Values, rng: np.random.Generator) -> Values:
    """One strong point a part, at one of its corners."""
    count = len(corners)
    place = corners[np.arange(count), rng.integers(0, 4, count)]
    power = _linear(gains + rng.normal(0, _CORNER_SPREAD_DB, count))
    return np.stack([*place.T, tops * rng.uniform(0.6, 1, count), power, np.ones(count)])


def _linear(decibel: Values | float) -> Values:
    return np.asarray(10 ** (np.asarray(decibel) / 10))
