"""Simulated harbors: positions of many ships that neither overlap nor lie on land."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rsft.data.simulation.clutter import Shore
from rsft.data.simulation.scatterers import Pose
from rsft.data.simulation.ships import sample_ship

_TRIES = 40  # per ship, to find a free position
_CLEARANCE = 8.0  # meters between ships


def sample_shore(rng: np.random.Generator, side: float) -> Shore:
    """Draw a shore whose land covers up to a third of the image.

    Args:
        rng: source of randomness.
        side: side of the image in meters.

    Returns:
        The shore.
    """
    return Shore(float(rng.uniform(0, 2 * np.pi)), float(rng.uniform(0.15, 0.45) * side))


def place_ships(kinds: Sequence[str], shore: Shore | None, side: float, rng: np.random.Generator) -> dict[int, Pose]:
    """Draw ships at random positions; if the image has land, half of them are moored.

    Args:
        kinds: class of each ship.
        shore: the shore; None for open water.
        side: side of the image in meters; ship centers lie inside.
        rng: source of randomness.

    Returns:
        Poses by index into `kinds`. A ship without a free position is left out.
    """
    poses: dict[int, Pose] = {}
    for index, kind in enumerate(kinds):
        ship = sample_ship(kind, rng)
        for _ in range(_TRIES):
            if shore is not None and rng.random() < 0.5:
                berth = shore.offset - ship.beam / 2 - rng.uniform(1, 15)
                along = rng.uniform(-0.5, 0.5) * side
                x = berth * np.cos(shore.angle) - along * np.sin(shore.angle)
                y = berth * np.sin(shore.angle) + along * np.cos(shore.angle)
                heading = shore.angle + rng.choice([-1, 1]) * np.pi / 2
            else:
                x, y = rng.uniform(-0.5, 0.5, 2) * side
                heading = rng.uniform(0, 2 * np.pi)
            pose = Pose(ship, float(x), float(y), float(heading))
            if _fits(pose, list(poses.values()), shore, side):
                poses[index] = pose
                break
    return poses


def _fits(pose: Pose, others: list[Pose], shore: Shore | None, side: float) -> bool:
    """Return True if a ship lies in the image, on water and apart from other ships."""
    if max(abs(pose.x), abs(pose.y)) > side / 2:
        return False
    if shore is not None and shore.distance_inland(*pose.bounding_box().T).max() > 0:
        return False
    return all(_separated(pose, other) and _separated(other, pose) for other in others)


def _separated(pose: Pose, other: Pose) -> bool:
    """Return True if an axis of `pose` separates the two boxes."""
    cos, sin = np.cos(pose.heading), np.sin(pose.heading)
    offset = (other.bounding_box() - (pose.x, pose.y)) @ np.array([[cos, -sin], [sin, cos]])
    half = np.array([pose.ship.length, pose.ship.beam]) / 2 + _CLEARANCE
    return bool(np.any((offset.min(axis=0) > half) | (offset.max(axis=0) < -half)))
