"""Further classes of simulated ships, beside those of the demonstration."""

from collections.abc import Iterator

import numpy as np
from numpy.random import Generator as Rng

from rsft.plugins.demo.ships import (
    SHIP_CLASSES,
    DeckObject,
    Ship,
    ShipClass,
    deck_house,
)

DECK_OBJECT_KINDS = (
    "hatch",
    "house",
    "container",
    "pipe",
    "manifold",
    "hopper",
    "crane",
    "mast",
    "funnel",
    "gear",
    "deck",
)
"""Kinds of objects on deck."""


def passenger(hull: Ship, rng: Rng) -> Iterator[DeckObject]:
    """Several decks over most of the length, and boats along both sides."""
    beam = hull.beam
    ship_length = hull.length
    length = ship_length * rng.uniform(0.74, 0.86)
    width = beam * rng.uniform(0.84, 0.96)
    x = ship_length * rng.uniform(-0.07, -0.04)
    deck_height = min(2.8, beam * 0.2)
    for tier in range(int(rng.integers(1, 3)) + int(ship_length / 80)):
        top = deck_height * (2 + tier)
        yield DeckObject(x, 0, length, width, top, "house")
        x_of_next = x - length * 0.02
        length *= rng.uniform(0.8, 0.95)
        width *= rng.uniform(0.8, 0.97)
        x = x_of_next
    for _ in range(int(rng.integers(1, 3))):
        funnel = x + length * rng.uniform(-0.35, 0.1)
        yield DeckObject(
            funnel,
            0,
            ship_length * 0.05,
            beam * 0.25,
            top + beam * 0.35,
            "funnel",
        )
    yield DeckObject(
        x + length * 0.38,
        0,
        ship_length * 0.01,
        beam * 0.3,
        top + beam * 0.4,
        "mast",
    )
    boats = int(rng.integers(3, 9))
    size = 0.3 * ship_length / boats
    for boat in np.linspace(-0.3, 0.25, boats) * ship_length:
        for y in (-beam * 0.45, beam * 0.45):
            yield DeckObject(
                float(boat), y, size, beam * 0.08, deck_height * 2.5, "gear"
            )


def tug(hull: Ship, rng: Rng) -> Iterator[DeckObject]:
    """A house forward of midships, two funnels behind it, and a towing winch."""
    beam = hull.beam
    ship_length = hull.length
    house = rng.uniform(0.26, 0.38)
    x = ship_length * rng.uniform(0.04, 0.12)
    yield from deck_house(hull, rng, x, ship_length * house)[:2]
    yield DeckObject(x, 0, ship_length * 0.03, ship_length * 0.03, beam * 1.2, "mast")
    size = beam * 0.12
    for y in (-beam * 0.22, beam * 0.22):
        yield DeckObject(
            x - ship_length * house * 0.4, y, size, size, beam * 0.7, "funnel"
        )
    winch = beam * rng.uniform(0.2, 0.35)
    yield DeckObject(-0.18 * ship_length, 0, winch, winch * 1.2, 2, "gear")
    yield DeckObject(0.36 * ship_length, 0, winch * 0.6, winch, 1.5, "gear")


def patrol(hull: Ship, rng: Rng) -> Iterator[DeckObject]:
    """A stepped house, a tall mast, a gun and boats; a flight deck on larger ones."""
    beam = hull.beam
    ship_length = hull.length
    house = rng.uniform(0.28, 0.42)
    x = ship_length * rng.uniform(-0.04, 0.04)
    deck_height = max(2.2, beam * 0.25)
    front = x + ship_length * house * 0.3
    yield DeckObject(
        x,
        0,
        ship_length * house,
        beam * rng.uniform(0.65, 0.9),
        deck_height,
        "house",
    )
    yield DeckObject(
        front, 0, ship_length * house * 0.4, beam * 0.6, deck_height * 2, "house"
    )
    yield DeckObject(front, 0, beam * 0.15, beam * 0.15, deck_height * 4.5, "mast")
    funnel = x - ship_length * house * 0.25
    yield DeckObject(
        funnel, 0, ship_length * 0.05, beam * 0.3, deck_height * 2, "funnel"
    )
    yield DeckObject(
        0.32 * ship_length,
        0,
        beam * 0.2,
        beam * 0.2,
        deck_height * 0.8,
        "gear",
    )
    if ship_length > 45:
        yield DeckObject(
            -0.37 * ship_length, 0, ship_length * 0.2, beam * 0.8, 0.3, "deck"
        )
    boat = ship_length * 0.07
    for y in (-beam * 0.4, beam * 0.4):
        yield DeckObject(
            x - ship_length * house * 0.3, y, boat, boat * 0.3, deck_height, "gear"
        )


SHIP_CLASSES |= {
    "passenger": ShipClass(
        passenger,
        length=(30, 330),
        slenderness=(4.6, 8.5),
        freeboard=(0.2, 0.4),
        bow=(0.2, 0.4),
        stern=(0.05, 0.15),
    ),
    "tug": ShipClass(
        tug,
        length=(18, 40),
        slenderness=(2.4, 3.4),
        freeboard=(0.12, 0.25),
        bow=(0.25, 0.4),
        stern=(0.15, 0.35),
    ),
    "patrol": ShipClass(
        patrol,
        length=(25, 160),
        slenderness=(6.2, 9.0),
        freeboard=(0.2, 0.4),
        bow=(0.4, 0.6),
        stern=(0.1, 0.3),
    ),
}
SHIP_KINDS = tuple(SHIP_CLASSES)
"""The classes of the demonstration, then those of this module."""
