"""Simulated harbors: positions of many ships that neither overlap nor lie on land."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rsft.data.simulation.clutter import Shore
from rsft.data.simulation.scatterers import Pose
from rsft.data.simulation.ships import sample_ship
from rsft.types import Floats

_TRIES = 40  # per ship, to find a free position
_CLEARANCE = 8.0  # meters between ships in a harbor


def sample_shore(rng: np.random.Generator, side: float) -> Shore:
    """Draw a shore whose land covers up to a third of the image.

    Args:
        rng: source of randomness.
        side: side of the image in meters.

    Returns:
        The shore.
    """
    return Shore(float(rng.uniform(0, 2 * np.pi)), float(rng.uniform(0.15, 0.45) * side))


def sample_coast(rng: np.random.Generator, side: float) -> Shore:
    """Draw a natural coast with bays, whose land covers about a fifth of the image.

    Args:
        rng: source of randomness.
        side: side of the image in meters.

    Returns:
        The coast.
    """
    wavelengths = side * np.array([rng.uniform(0.7, 1.1), rng.uniform(0.25, 0.4), rng.uniform(0.08, 0.14)])
    amplitudes = wavelengths * rng.uniform(0.04, 0.1, 3)
    bends = zip(amplitudes.tolist(), wavelengths.tolist(), rng.uniform(0, 2 * np.pi, 3).tolist(), strict=True)
    return Shore(float(rng.uniform(0, 2 * np.pi)), float(rng.uniform(0.25, 0.32) * side), tuple(bends))


def place_ships(
    kinds: Sequence[str],
    shore: Shore | None,
    side: float | tuple[float, float],
    rng: np.random.Generator,
    clearance: float = _CLEARANCE,
) -> dict[int, Pose]:
    """Draw ships at random positions; if the image has a quay, half of them are moored.

    Args:
        kinds: class of each ship.
        shore: the shore; None for open water.
        side: side of the image in meters, or its sides along x and y; ship centers lie inside.
        rng: source of randomness.
        clearance: smallest distance between ships, and from a natural coast, in meters.

    Returns:
        Poses by index into `kinds`. A ship without a free position is left out.
    """
    poses: dict[int, Pose] = {}
    sides = np.broadcast_to(side, 2)
    for index, kind in enumerate(kinds):
        ship = sample_ship(kind, rng)
        for _ in range(_TRIES):
            if shore is not None and shore.has_quay and rng.random() < 0.5:
                berth = shore.offset - ship.beam / 2 - rng.uniform(1, 15)
                along = rng.uniform(-0.5, 0.5) * sides.max()
                x = berth * np.cos(shore.angle) - along * np.sin(shore.angle)
                y = berth * np.sin(shore.angle) + along * np.cos(shore.angle)
                heading = shore.angle + rng.choice([-1, 1]) * np.pi / 2
            else:
                x, y = rng.uniform(-0.5, 0.5, 2) * sides
                heading = rng.uniform(0, 2 * np.pi)
            pose = Pose(ship, float(x), float(y), float(heading))
            if _fits(pose, list(poses.values()), shore, sides, clearance):
                poses[index] = pose
                break
    return poses


def _fits(pose: Pose, others: list[Pose], shore: Shore | None, sides: Floats, clearance: float) -> bool:
    """Return True if a ship lies in the image, on water and apart from other ships."""
    if (abs(np.array([pose.x, pose.y])) > sides / 2).any():
        return False
    if shore is not None:
        gap = 0 if shore.has_quay else clearance
        if shore.distance_inland(*pose.bounding_box().T).max() > -gap:
            return False
    return all(_separated(pose, other, clearance) and _separated(other, pose, clearance) for other in others)


def _separated(pose: Pose, other: Pose, clearance: float) -> bool:
    """Return True if an axis of `pose` separates the two boxes."""
    cos, sin = np.cos(pose.heading), np.sin(pose.heading)
    offset = (other.bounding_box() - (pose.x, pose.y)) @ np.array([[cos, -sin], [sin, cos]])
    half = np.array([pose.ship.length, pose.ship.beam]) / 2 + clearance
    return bool(np.any((offset.min(axis=0) > half) | (offset.max(axis=0) < -half)))
