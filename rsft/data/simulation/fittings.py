"""Deck objects of simulated ships, which tell the classes apart when seen from above."""

from __future__ import annotations

import numpy as np

from rsft.data.simulation.geometry import DeckObject, Ship


def cargo_deck(hull: Ship, rng: np.random.Generator) -> list[DeckObject]:
    """Draw a cargo ship's deck: a row of hatches, a house aft and, on every other ship, cranes between the hatches.

    Args:
        hull: the ship without deck objects.
        rng: source of randomness.

    Returns:
        Boxes on deck, in meters.
    """
    house = rng.uniform(0.09, 0.16)
    aft, fore = _hold(hull, house)
    objects = _forecastle(hull) + _house(hull, rng, hull.length * (house / 2 + 0.03 - 0.5), hull.length * house)
    count = int(rng.integers(2, 5 + int(hull.length / 60)))
    pitch = (fore - aft) / count
    length, width, height = pitch * rng.uniform(0.6, 0.88), hull.beam * rng.uniform(0.45, 0.75), rng.uniform(1, 3)
    side = rng.choice([0, 0, -0.35, 0.35])
    geared = rng.random() < 0.5
    for index in range(count):
        x = aft + (index + 0.5) * pitch
        objects.append(DeckObject(x, 0, length, width, height, "hatch"))
        if geared and index:
            post = hull.beam * 0.1
            y = hull.beam * side
            jib = pitch * rng.uniform(0.6, 0.95)
            objects.append(DeckObject(x - pitch / 2, y, post, post, hull.beam * 0.6, "crane"))
            objects.append(DeckObject(x - pitch / 2 + jib / 2, y, jib, post * 0.4, hull.beam * 0.35, "crane"))
    return objects


def container_deck(hull: Ship, rng: np.random.Generator) -> list[DeckObject]:
    """Draw a container ship's deck: bays of forty-foot containers, a house aft or (on the largest) well forward.

    Args:
        hull: the ship without deck objects.
        rng: source of randomness.

    Returns:
        Boxes on deck, in meters.
    """
    house = min(0.12, 16 / hull.length)
    center = rng.uniform(-0.42, -0.3) if rng.random() < 0.6 else rng.uniform(0.1, 0.2)
    objects = _forecastle(hull) + _house(hull, rng, hull.length * center, hull.length * house)
    pitch = rng.uniform(13.4, 14.6)  # a forty-foot bay and its lashing gap
    load, tiers = rng.uniform(0.5, 1), int(rng.integers(2, 4 + int(hull.length / 90)))
    for x in np.arange(-0.46 * hull.length + pitch / 2, 0.46 * hull.length - 0.6 * hull.bow * hull.length, pitch):
        if abs(x - hull.length * center) < (hull.length * house + pitch) / 2 or rng.random() > load:
            continue
        blocks = int(rng.integers(1, 4))
        room = 1.9 * float(hull.half_beam(np.array([x - 6.1, x + 6.1])).min())
        for block in range(blocks):
            height = 2.6 * float(rng.integers(max(1, tiers - 2), tiers + 1))
            y = room * ((block + 0.5) / blocks - 0.5)
            objects.append(DeckObject(float(x), y, 12.2, room / blocks, height, "container"))
    return objects


def tanker_deck(hull: Ship, rng: np.random.Generator) -> list[DeckObject]:
    """Draw a tanker's deck: pipes along the deck, a manifold across it amidships, and a house aft.

    Args:
        hull: the ship without deck objects.
        rng: source of randomness.

    Returns:
        Boxes on deck, in meters.
    """
    house = rng.uniform(0.1, 0.17)
    aft, fore = _hold(hull, house)
    objects = _forecastle(hull) + _house(hull, rng, hull.length * (house / 2 + 0.03 - 0.5), hull.length * house)
    middle, thick = (aft + fore) / 2 + hull.length * rng.uniform(-0.04, 0.04), max(0.5, hull.beam * 0.03)
    for lane in range(int(rng.integers(1, 4))):
        objects.append(DeckObject((aft + fore) / 2, thick * 2 * lane, fore - aft, thick, 1.5, "pipe"))
    for lane in range(int(rng.integers(1, 4))):
        objects.append(DeckObject(middle + thick * 2.5 * lane, 0, thick, hull.beam * 0.85, 2, "manifold"))
    for side in (-1, 1):
        objects.append(
            DeckObject(middle - thick * 4, side * hull.beam * 0.12, thick * 2, thick * 2, hull.beam * 0.4, "crane")
        )
    tanks = int(rng.integers(3, 7))
    for x in np.linspace(aft, fore, tanks + 2)[1:-1]:
        for side in (-1, 1):
            objects.append(DeckObject(float(x), side * hull.beam * 0.27, thick * 1.5, thick * 1.5, 1.2, "hatch"))
    return objects


def dredger_deck(hull: Ship, rng: np.random.Generator) -> list[DeckObject]:
    """Draw a dredger's deck: an open hopper amidships, gantries across it, and suction pipes along the sides.

    Args:
        hull: the ship without deck objects.
        rng: source of randomness.

    Returns:
        Boxes on deck, in meters.
    """
    house, sign = rng.uniform(0.12, 0.2), rng.choice([-1, 1], p=[0.65, 0.35])
    objects = _house(
        hull, rng, sign * hull.length * (0.44 - house / 2 - 0.5 * hull.bow * (sign > 0)), hull.length * house
    )
    length, width = hull.length * rng.uniform(0.36, 0.52), hull.beam * rng.uniform(0.5, 0.72)
    x = -sign * hull.length * rng.uniform(0.0, 0.06)
    objects.append(DeckObject(x, 0, length, width, rng.uniform(0.5, 2), "hopper"))
    thin = max(0.8, hull.beam * 0.06)
    for gantry in np.linspace(x - length / 2, x + length / 2, int(rng.integers(2, 5))):
        objects.append(DeckObject(float(gantry), 0, thin, hull.beam * 0.95, hull.beam * rng.uniform(0.25, 0.5), "gear"))
    pipe = hull.length * rng.uniform(0.35, 0.5)
    for side in (-1, 1) if rng.random() < 0.5 else (int(rng.choice([-1, 1])),):
        objects.append(DeckObject(x, side * hull.beam * 0.45, pipe, thin, 2, "pipe"))
    objects.append(DeckObject(x, 0, length, thin * 0.6, 3, "pipe"))
    objects.append(DeckObject(x - sign * length * 0.55, hull.beam * 0.2, thin * 2, thin * 2, hull.beam * 0.6, "crane"))
    return objects


def fishing_deck(hull: Ship, rng: np.random.Generator) -> list[DeckObject]:
    """Draw a fishing vessel's deck: a large house forward or aft, a gantry, a mast and fishing gear.

    Args:
        hull: the ship without deck objects.
        rng: source of randomness.

    Returns:
        Boxes on deck, in meters.
    """
    forward = rng.random() < 0.55
    house = rng.uniform(0.2, 0.32)
    x = hull.length * (rng.uniform(0.05, 0.18) if forward else rng.uniform(-0.32, -0.2))
    objects = _house(hull, rng, x, hull.length * house)
    thin = max(0.3, hull.beam * 0.07)
    gantry = -0.46 if forward else -0.1 + rng.uniform(0, 0.2)
    objects.append(DeckObject(hull.length * gantry, 0, thin, hull.beam * 0.8, hull.beam * 0.7, "gear"))
    objects.append(DeckObject(x + hull.length * (-0.26 if forward else 0.3), 0, thin, thin, hull.beam * 1.1, "mast"))
    work = hull.length * (-0.25 if forward else 0.15)
    for _ in range(int(rng.integers(2, 5))):
        gear = work + hull.length * rng.uniform(-0.12, 0.12)
        size = hull.beam * rng.uniform(0.12, 0.3)
        objects.append(DeckObject(gear, hull.beam * rng.uniform(-0.3, 0.3), size, size, rng.uniform(0.5, 1.5), "gear"))
    objects.append(DeckObject(work, 0, hull.length * 0.08, hull.beam * 0.3, 0.6, "hatch"))
    return objects


def passenger_deck(hull: Ship, rng: np.random.Generator) -> list[DeckObject]:
    """Draw a passenger ship's deck: several decks over most of the length, and boats along both sides.

    Args:
        hull: the ship without deck objects.
        rng: source of randomness.

    Returns:
        Boxes on deck, in meters.
    """
    length, width = hull.length * rng.uniform(0.74, 0.86), hull.beam * rng.uniform(0.84, 0.96)
    x, deck_height = hull.length * rng.uniform(-0.07, -0.04), min(2.8, hull.beam * 0.2)
    objects: list[DeckObject] = []
    for tier in range(int(rng.integers(1, 3)) + int(hull.length / 80)):
        objects.append(DeckObject(x, 0, length, width, deck_height * (2 + tier), "house"))
        length, width, x = length * rng.uniform(0.8, 0.95), width * rng.uniform(0.8, 0.97), x - length * 0.02
    top = objects[-1].height
    for _ in range(int(rng.integers(1, 3))):
        funnel = x + length * rng.uniform(-0.35, 0.1)
        objects.append(DeckObject(funnel, 0, hull.length * 0.05, hull.beam * 0.25, top + hull.beam * 0.35, "funnel"))
    objects.append(DeckObject(x + length * 0.38, 0, hull.length * 0.01, hull.beam * 0.3, top + hull.beam * 0.4, "mast"))
    boats = int(rng.integers(3, 9))
    for boat in np.linspace(-0.3, 0.25, boats) * hull.length:
        for side in (-1, 1):
            size = 0.3 * hull.length / boats
            objects.append(
                DeckObject(float(boat), side * hull.beam * 0.45, size, hull.beam * 0.08, deck_height * 2.5, "gear")
            )
    return objects


def tug_deck(hull: Ship, rng: np.random.Generator) -> list[DeckObject]:
    """Draw a tug's deck: a house forward of midships, two funnels side by side behind it, and a towing winch.

    Args:
        hull: the ship without deck objects.
        rng: source of randomness.

    Returns:
        Boxes on deck, in meters.
    """
    house = rng.uniform(0.26, 0.38)
    x = hull.length * rng.uniform(0.04, 0.12)
    objects = _house(hull, rng, x, hull.length * house)[:2]
    objects.append(DeckObject(x, 0, hull.length * 0.03, hull.length * 0.03, hull.beam * 1.2, "mast"))
    for side in (-1, 1):
        size = hull.beam * 0.12
        objects.append(
            DeckObject(x - hull.length * house * 0.4, side * hull.beam * 0.22, size, size, hull.beam * 0.7, "funnel")
        )
    winch = hull.beam * rng.uniform(0.2, 0.35)
    objects.append(DeckObject(-0.18 * hull.length, 0, winch, winch * 1.2, 2, "gear"))
    objects.append(DeckObject(0.36 * hull.length, 0, winch * 0.6, winch, 1.5, "gear"))
    return objects


def patrol_deck(hull: Ship, rng: np.random.Generator) -> list[DeckObject]:
    """Draw a patrol vessel's deck: a stepped house, a tall mast, a gun and boats; a flight deck on larger ones.

    Args:
        hull: the ship without deck objects.
        rng: source of randomness.

    Returns:
        Boxes on deck, in meters.
    """
    house = rng.uniform(0.28, 0.42)
    x = hull.length * rng.uniform(-0.04, 0.04)
    deck_height = max(2.2, hull.beam * 0.25)
    front = x + hull.length * house * 0.3
    objects = [
        DeckObject(x, 0, hull.length * house, hull.beam * rng.uniform(0.65, 0.9), deck_height, "house"),
        DeckObject(front, 0, hull.length * house * 0.4, hull.beam * 0.6, deck_height * 2, "house"),
        DeckObject(front, 0, hull.beam * 0.15, hull.beam * 0.15, deck_height * 4.5, "mast"),
        DeckObject(x - hull.length * house * 0.25, 0, hull.length * 0.05, hull.beam * 0.3, deck_height * 2, "funnel"),
        DeckObject(0.32 * hull.length, 0, hull.beam * 0.2, hull.beam * 0.2, deck_height * 0.8, "gear"),
    ]
    if hull.length > 45:
        objects.append(DeckObject(-0.37 * hull.length, 0, hull.length * 0.2, hull.beam * 0.8, 0.3, "deck"))
    for side in (-1, 1):
        boat = hull.length * 0.07
        objects.append(
            DeckObject(x - hull.length * house * 0.3, side * hull.beam * 0.4, boat, boat * 0.3, deck_height, "gear")
        )
    return objects


def _house(hull: Ship, rng: np.random.Generator, x: float, length: float) -> list[DeckObject]:
    """Draw a deck house, a bridge across the ship, a funnel and a mast."""
    height = 2.8 * np.clip(np.rint(hull.length / 28 + rng.uniform(0, 2)), 1, 8)
    width = hull.beam * rng.uniform(0.6, 0.9)
    behind = x - length * rng.uniform(0.25, 0.75)
    return [
        DeckObject(x, 0, length, width, height, "house"),
        DeckObject(x + length * 0.3, 0, length * 0.3, hull.beam * rng.uniform(0.8, 1), height + 2.8, "house"),
        DeckObject(behind, 0, length * 0.3, width * rng.uniform(0.2, 0.45), height * 1.15 + 2.8, "funnel"),
        DeckObject(x + length * 0.2, 0, length * 0.08, length * 0.08, height + 8, "mast"),
    ]


def _forecastle(hull: Ship) -> list[DeckObject]:
    """Return the raised foredeck and its mast."""
    length = hull.bow * hull.length * 0.6
    x = 0.46 * hull.length - length / 2
    size = hull.beam * 0.06
    return [
        DeckObject(x, 0, length, hull.beam, hull.beam * 0.1, "deck"),
        DeckObject(x, 0, size, size, hull.beam * 0.4, "mast"),
    ]


def _hold(hull: Ship, house: float) -> tuple[float, float]:
    """Return the aft and fore end of the cargo space; the house behind it takes the fraction `house` of the length."""
    return hull.length * (house + 0.06 - 0.5), hull.length * (0.46 - 0.6 * hull.bow)
