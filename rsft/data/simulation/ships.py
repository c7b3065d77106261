"""Random ships by class; their sizes follow the usual ranges of each trade."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from rsft.data.simulation import fittings
from rsft.data.simulation.geometry import DECK_OBJECT_KINDS, DeckObject, Ship

__all__ = ["DECK_OBJECT_KINDS", "SHIP_CLASSES", "SHIP_KINDS", "DeckObject", "Ship", "sample_ship"]

Range = tuple[float, float]


@dataclass(frozen=True)
class ShipClass:
    """Ranges of sizes of a class of ships, and its layout on deck.

    Attributes:
        length: length in meters, drawn log-uniformly.
        slenderness: length over beam.
        freeboard: freeboard over beam.
        bow: taper of the bow, as a fraction of the length.
        stern: taper of the stern, as a fraction of the length.
        deck_layout: draws the objects on the deck of a hull.
    """

    length: Range
    slenderness: Range
    freeboard: Range
    bow: Range
    stern: Range
    deck_layout: Callable[[Ship, np.random.Generator], list[DeckObject]]


SHIP_CLASSES = {
    "cargo": ShipClass((60, 300), (5.6, 7.4), (0.15, 0.35), (0.10, 0.2), (0.05, 0.15), fittings.cargo_deck),
    "container": ShipClass((100, 400), (6.0, 8.0), (0.2, 0.35), (0.18, 0.3), (0.05, 0.15), fittings.container_deck),
    "tanker": ShipClass((60, 340), (5.4, 6.8), (0.1, 0.3), (0.08, 0.15), (0.08, 0.2), fittings.tanker_deck),
    "dredger": ShipClass((50, 180), (4.4, 5.8), (0.08, 0.2), (0.08, 0.18), (0.05, 0.12), fittings.dredger_deck),
    "fishing": ShipClass((15, 60), (3.2, 4.8), (0.15, 0.35), (0.3, 0.5), (0.1, 0.25), fittings.fishing_deck),
    "passenger": ShipClass((30, 330), (4.6, 8.5), (0.2, 0.4), (0.2, 0.4), (0.05, 0.15), fittings.passenger_deck),
    "tug": ShipClass((18, 40), (2.4, 3.4), (0.12, 0.25), (0.25, 0.4), (0.15, 0.35), fittings.tug_deck),
    "patrol": ShipClass((25, 160), (6.2, 9.0), (0.2, 0.4), (0.4, 0.6), (0.1, 0.3), fittings.patrol_deck),
}
SHIP_KINDS = tuple(SHIP_CLASSES)


def sample_ship(kind: str, rng: np.random.Generator) -> Ship:
    """Draw a random ship.

    Args:
        kind: one of SHIP_KINDS.
        rng: source of randomness.

    Returns:
        The ship; all its deck objects lie inside its outline, sorted by height.
    """
    ranges = SHIP_CLASSES[kind]
    length = float(np.exp(rng.uniform(*np.log(ranges.length))))
    beam = length / rng.uniform(*ranges.slenderness)
    freeboard = beam * rng.uniform(*ranges.freeboard)
    hull = Ship(kind, length, beam, freeboard, rng.uniform(*ranges.bow), rng.uniform(*ranges.stern), ())
    deck_objects = _fit_into_hull(hull, ranges.deck_layout(hull, rng))
    return replace(hull, deck_objects=tuple(sorted(deck_objects, key=lambda box: box.height)))


def _fit_into_hull(hull: Ship, deck_objects: list[DeckObject]) -> list[DeckObject]:
    """Shift and narrow boxes until they lie within the hull."""
    x, y, half, width = np.array([(box.x, box.y, box.length / 2, box.width) for box in deck_objects]).T
    x = np.clip(x, half - hull.length / 2, 0.46 * hull.length - half)
    room = 0.98 * hull.half_beam(np.stack([x - half, x + half])).min(axis=0)
    width = np.minimum(width, 2 * room)
    y = np.clip(y, width / 2 - room, room - width / 2)
    fitted = zip(deck_objects, x.tolist(), y.tolist(), width.tolist(), strict=True)
    return [replace(box, x=x, y=y, width=width) for box, x, y, width in fitted]
