"""Random positions of ships in an image, which neither overlap nor lie on land."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.random import Generator as Rng

from rsft.plugins.demo.radar import Pose, Shore, rotation
from rsft.plugins.demo.ships import Ship, sample_ship
from rsft.types import Floats

_TRIES = 40  # per ship, to find a free position
_CLEARANCE = 8.0  # meters between ships in a harbor


def sample_coast(rng: Rng, side: float) -> Shore:
    """Draw a natural coast with bays, whose land covers about a fifth of an image.

    Args:
        rng: source of randomness.
        side: side of the image in meters.
    """
    shares = (rng.uniform(0.7, 1.1), rng.uniform(0.25, 0.4), rng.uniform(0.08, 0.14))
    wavelengths = side * np.array(shares)
    amplitudes = wavelengths * rng.uniform(0.04, 0.1, 3)
    phases = rng.uniform(0, 2 * np.pi, 3)
    bends = np.stack([amplitudes, wavelengths, phases], axis=1).tolist()
    angle = float(rng.uniform(0, 2 * np.pi))
    offset = float(rng.uniform(0.25, 0.32) * side)
    return Shore(angle, offset, tuple(map(tuple, bends)))


def place_ships(
    kinds: Sequence[str],
    shore: Shore | None,
    side: float | tuple[float, float],
    rng: Rng,
    clearance: float = _CLEARANCE,
) -> dict[int, Pose]:
    """Draw ships at random positions; if the image has a quay, half of them are moored.

    Args:
        kinds: class of each ship.
        shore: the shore; None for open water.
        side: side of the image in meters, or its sides along x and y; ship centers lie
            inside.
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
            pose = _sample_pose(ship, shore, sides, rng)
            if _is_free(pose, shore, sides, poses.values(), clearance):
                poses[index] = pose
                break
    return poses


def _sample_pose(ship: Ship, shore: Shore | None, sides: Floats, rng: Rng) -> Pose:
    if shore is not None and shore.has_quay and rng.random() < 0.5:
        berth = shore.offset - ship.beam / 2 - rng.uniform(1, 15)
        along = rng.uniform(-0.5, 0.5) * sides.max()
        center = shore.to_image_frame(np.array([along, berth]))
        heading = shore.angle + rng.choice([-1, 1]) * np.pi / 2
    else:
        center = rng.uniform(-0.5, 0.5, 2) * sides
        heading = rng.uniform(0, 2 * np.pi)
    x, y = center.tolist()
    return Pose(ship, x, y, float(heading))


def _is_free(
    pose: Pose,
    shore: Shore | None,
    sides: Floats,
    others: Iterable[Pose],
    clearance: float,
) -> bool:
    """Return whether a ship lies in the image, on water and away from the others."""
    if (np.abs([pose.x, pose.y]) > sides / 2).any():
        return False
    if shore is not None:
        gap = 0 if shore.has_quay else clearance
        if shore.distance_inland(*pose.bounding_box().T).max() > -gap:
            return False
    return all(
        _are_separated(pose, other, clearance)
        and _are_separated(other, pose, clearance)
        for other in others
    )


def _are_separated(pose: Pose, other: Pose, clearance: float) -> bool:
    """Return whether an axis of `pose` separates the two boxes."""
    corners = other.bounding_box() - (pose.x, pose.y)
    offset = corners @ rotation(-pose.heading)
    half = np.array([pose.ship.length, pose.ship.beam]) / 2 + clearance
    return bool(np.any((offset.min(axis=0) > half) | (offset.max(axis=0) < -half)))


def outline_deck(pose: Pose, tan_incidence: float) -> Floats:
    """Return the box around the deck, as it appears and annotators outline it.

    Args:
        pose: the ship in the image.
        tan_incidence: tangent of the incidence angle of the sensor.

    Returns:
        The corners (4, 2) in meters of the image frame.
    """
    return pose.bounding_box() - (pose.ship.freeboard / tan_incidence, 0)
