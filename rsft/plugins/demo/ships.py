"""Random ships by class: a hull, and boxes on its deck.

The boxes tell the classes apart when seen from above.

The sizes follow the usual ranges of each trade. Small cargo ships are as long as large
fishing vessels, so that structure, not size, has to tell the two common classes of the
quick start apart.
"""

from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import cv2
import numpy as np
from numpy.random import Generator as Rng

from rsft.types import Floats, Floats32

_UNIT_BOX = np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]])
"""Corners (4, 2) of a square with side 1, in turn."""

FRACTION_BITS = 4
"""Fractional bits of polygon corners, so that edges can lie between pixels."""

_OUTLINE_POINTS = 12  # per taper and side


class DeckObject(NamedTuple):
    """A box on deck, in meters. Boxes may overlap; a higher box covers a lower one.

    Attributes:
        x: center along the keel, from midships toward the bow.
        y: center across the keel, toward starboard.
        height: height of the top above the deck.
        kind: a kind of object with radar cross sections in `rsft.plugins.demo.radar`.
    """

    x: float
    y: float
    length: float
    width: float
    height: float
    kind: str


@dataclass(frozen=True)
class Ship:
    """A ship, in meters.

    Attributes:
        freeboard: height of the deck above the water.
        bow: fraction of the length over which the hull tapers to the bow.
        stern: fraction of the length over which the hull tapers to the transom.
    """

    kind: str
    length: float
    beam: float
    freeboard: float
    bow: float
    stern: float
    deck_objects: tuple[DeckObject, ...] = ()

    @property
    def boxes(self) -> Floats:
        """Center, length and width (N, 4) of the objects on deck."""
        return np.array([box[:4] for box in self.deck_objects])

    def half_beam(self, x: float | Floats) -> Floats:
        """Return half the width of the hull at `x` from midships.

        It is full there, 0 at the bow, and 72 % at the transom.
        """
        x = np.asarray(x, np.float64)
        ahead = np.clip((0.5 - x / self.length) / self.bow, 0, 1)
        astern = np.clip((0.5 + x / self.length) / self.stern, 0, 1)
        return self.beam / 2 * (1 - (1 - ahead) ** 2) * (1 - 0.28 * (1 - astern) ** 2)

    def half_room(self, x: float, length: float) -> float:
        """Return half the width of the widest box of a length that fits at `x`."""
        ends = np.array([x - length / 2, x + length / 2])
        return float(self.half_beam(ends).min())

    def outline(self) -> Floats:
        """Return the hull as a closed polygon (N, 2) of (x, y).

        It begins with the starboard side from stern to bow.
        """
        half = self.length / 2
        astern = np.linspace(-half, -half + self.stern * self.length, _OUTLINE_POINTS)
        taper = np.linspace(1, 0, _OUTLINE_POINTS) ** 1.5
        ahead = half - self.bow * self.length * taper
        x = np.concatenate([astern, ahead])
        starboard = np.stack([x, self.half_beam(x)], axis=1)
        return np.concatenate([starboard, starboard[::-1] * (1, -1)])


def box_corners(boxes: Floats) -> Floats:
    """Return the corners (N, 4, 2) of boxes (N, 4): center, length and width."""
    return boxes[:, None, :2] + _UNIT_BOX * boxes[:, None, 2:]


def fill_polygon(image: Floats32, points: Floats, value: float) -> None:
    """Fill a convex polygon in an image, in place.

    Args:
        image: the image (H, W).
        points: corners (N, 2), (x, y) in pixels.
        value: the new value of the pixels.
    """
    fixed = np.rint(points * (1 << FRACTION_BITS)).astype(np.int32)
    cv2.fillConvexPoly(image, fixed, value, shift=FRACTION_BITS)


def sample_ship(kind: str, rng: Rng) -> Ship:
    """Draw a random ship of a kind of SHIP_CLASSES.

    Returns:
        The ship; all its deck objects lie inside its outline, sorted by height.
    """
    ranges = SHIP_CLASSES[kind]
    length = float(np.exp(rng.uniform(*np.log(ranges.length))))
    beam = length / rng.uniform(*ranges.slenderness)
    freeboard = beam * rng.uniform(*ranges.freeboard)
    bow = rng.uniform(*ranges.bow)
    hull = Ship(kind, length, beam, freeboard, bow, rng.uniform(*ranges.stern))
    boxes = [_fit_box(box, hull) for box in ranges.deck_layout(hull, rng)]
    return replace(hull, deck_objects=tuple(sorted(boxes, key=lambda box: box.height)))


def _fit_box(box: DeckObject, hull: Ship) -> DeckObject:
    """Shift and narrow a box until it lies within the hull."""
    half = box.length / 2
    x = np.clip(box.x, half - hull.length / 2, 0.46 * hull.length - half)
    room = 0.98 * hull.half_room(x, box.length)
    width = min(box.width, 2 * room)
    y = np.clip(box.y, width / 2 - room, room - width / 2)
    return box._replace(x=x, y=y, width=width)


Range = tuple[float, float]


def cargo(hull: Ship, rng: Rng) -> Iterator[DeckObject]:
    """A row of hatches and a house aft; on every other ship, cranes between hatches."""
    beam = hull.beam
    aft, fore = yield from _house_aft(hull, rng, 0.09, 0.16)
    count = int(rng.integers(2, 5 + int(hull.length / 60)))
    pitch = (fore - aft) / count
    length = pitch * rng.uniform(0.6, 0.78)
    width = beam * rng.uniform(0.6, 0.8)
    height = rng.uniform(1, 3)
    y = beam * rng.choice([0, 0, -0.35, 0.35])
    for index in range(count):
        yield DeckObject(aft + (index + 0.5) * pitch, 0, length, width, height, "hatch")
    if rng.random() < 0.5:
        post = beam * 0.1
        for gap in range(1, count):
            x = aft + gap * pitch
            jib = pitch * rng.uniform(0.6, 0.95)
            yield DeckObject(x, y, post, post, beam * 0.6, "crane")
            yield DeckObject(x + jib / 2, y, jib, post * 0.4, beam * 0.35, "crane")


def container(hull: Ship, rng: Rng) -> Iterator[DeckObject]:
    """Bays of forty-foot containers, a house aft or (on the largest) well forward."""
    ship_length = hull.length
    house = ship_length * min(0.12, 16 / ship_length)
    is_aft = rng.random() < 0.6
    share = rng.uniform(-0.42, -0.3) if is_aft else rng.uniform(0.1, 0.2)
    center = ship_length * share
    yield from _forecastle(hull)
    yield from deck_house(hull, rng, center, house)
    pitch = rng.uniform(13.4, 14.6)  # a forty-foot bay and its lashing gap
    load = rng.uniform(0.5, 1)
    tiers = int(rng.integers(2, 4 + int(ship_length / 90)))
    aft = -0.46 * ship_length + pitch / 2
    fore = 0.46 * ship_length - 0.6 * hull.bow * ship_length
    for x in np.arange(aft, fore, pitch):
        if abs(x - center) < (house + pitch) / 2 or rng.random() > load:
            continue
        blocks = int(rng.integers(1, 4))
        width = 1.9 * hull.half_room(x, 12.2) / blocks
        for block in range(blocks):
            height = 2.6 * float(rng.integers(max(1, tiers - 2), tiers + 1))
            y = width * (block + 0.5 - blocks / 2)
            yield DeckObject(x, y, 12.2, width, height, "container")


def tanker(hull: Ship, rng: Rng) -> Iterator[DeckObject]:
    """Pipes along the deck, a manifold across it amidships, and a house aft."""
    beam = hull.beam
    aft, fore = yield from _house_aft(hull, rng, 0.1, 0.17)
    middle = (aft + fore) / 2 + hull.length * rng.uniform(-0.04, 0.04)
    thick = max(0.5, beam * 0.03)
    for lane in range(int(rng.integers(1, 4))):
        yield DeckObject(
            (aft + fore) / 2, thick * 2 * lane, fore - aft, thick, 1.5, "pipe"
        )
    for lane in range(int(rng.integers(1, 4))):
        yield DeckObject(
            middle + thick * 2.5 * lane, 0, thick, beam * 0.85, 2, "manifold"
        )
    for y in (-beam * 0.12, beam * 0.12):
        yield DeckObject(
            middle - thick * 4, y, thick * 2, thick * 2, beam * 0.4, "crane"
        )
    for x in np.linspace(aft, fore, int(rng.integers(3, 7)) + 2)[1:-1]:
        for y in (-beam * 0.27, beam * 0.27):
            yield DeckObject(x, y, thick * 1.5, thick * 1.5, 1.2, "hatch")


def dredger(hull: Ship, rng: Rng) -> Iterator[DeckObject]:
    """An open hopper amidships, gantries across it, and suction pipes at the sides."""
    beam = hull.beam
    ship_length = hull.length
    house = rng.uniform(0.12, 0.2)
    sign = rng.choice([-1, 1], p=[0.65, 0.35])
    center = sign * ship_length * (0.44 - house / 2 - 0.5 * hull.bow * (sign > 0))
    yield from deck_house(hull, rng, center, ship_length * house)
    length = ship_length * rng.uniform(0.36, 0.52)
    width = beam * rng.uniform(0.5, 0.72)
    x = -sign * ship_length * rng.uniform(0.0, 0.06)
    yield DeckObject(x, 0, length, width, rng.uniform(0.5, 2), "hopper")
    thin = max(0.8, beam * 0.06)
    for gantry in np.linspace(x - length / 2, x + length / 2, int(rng.integers(2, 5))):
        yield DeckObject(
            gantry,
            0,
            thin,
            beam * 0.95,
            beam * rng.uniform(0.25, 0.5),
            "gear",
        )
    pipe = ship_length * rng.uniform(0.35, 0.5)
    for side in (-1, 1) if rng.random() < 0.5 else (int(rng.choice([-1, 1])),):
        yield DeckObject(x, side * beam * 0.45, pipe, thin, 2, "pipe")
    yield DeckObject(x, 0, length, thin * 0.6, 3, "pipe")
    yield DeckObject(
        x - sign * length * 0.55,
        beam * 0.2,
        thin * 2,
        thin * 2,
        beam * 0.6,
        "crane",
    )


def fishing(hull: Ship, rng: Rng) -> Iterator[DeckObject]:
    """A large house forward or aft, a gantry, a mast and fishing gear."""
    beam = hull.beam
    ship_length = hull.length
    forward = rng.random() < 0.55
    house = rng.uniform(0.2, 0.32)
    x = ship_length * (rng.uniform(0.05, 0.18) if forward else rng.uniform(-0.32, -0.2))
    yield from deck_house(hull, rng, x, ship_length * house)
    thin = max(0.3, beam * 0.07)
    gantry = -0.46 if forward else -0.1 + rng.uniform(0, 0.2)
    yield DeckObject(ship_length * gantry, 0, thin, beam * 0.8, beam * 0.7, "gear")
    yield DeckObject(
        x + ship_length * (-0.26 if forward else 0.3),
        0,
        thin,
        thin,
        beam * 1.1,
        "mast",
    )
    work = ship_length * (-0.25 if forward else 0.15)
    for _ in range(int(rng.integers(2, 5))):
        gear = work + ship_length * rng.uniform(-0.12, 0.12)
        size = beam * rng.uniform(0.12, 0.3)
        yield DeckObject(
            gear,
            beam * rng.uniform(-0.3, 0.3),
            size,
            size,
            rng.uniform(0.5, 1.5),
            "gear",
        )
    yield DeckObject(work, 0, ship_length * 0.08, beam * 0.3, 0.6, "hatch")


def _house_aft(
    hull: Ship, rng: Rng, shortest: float, longest: float
) -> Generator[DeckObject, None, Range]:
    """Draw a forecastle and a house aft.

    Returns:
        The aft and fore end of the cargo space between them.
    """
    house = rng.uniform(shortest, longest)
    yield from _forecastle(hull)
    yield from deck_house(
        hull, rng, hull.length * (house / 2 + 0.03 - 0.5), hull.length * house
    )
    return hull.length * (house + 0.06 - 0.5), hull.length * (0.46 - 0.6 * hull.bow)


def deck_house(hull: Ship, rng: Rng, x: float, length: float) -> list[DeckObject]:
    """Draw a deck house, a bridge across the ship, a funnel and a mast."""
    height = 2.8 * np.clip(np.rint(hull.length / 28 + rng.uniform(0, 2)), 1, 8)
    width = hull.beam * rng.uniform(0.6, 0.9)
    behind = x - length * rng.uniform(0.25, 0.75)
    return [
        DeckObject(x, 0, length, width, height, "house"),
        DeckObject(
            x + length * 0.3,
            0,
            length * 0.3,
            hull.beam * rng.uniform(0.8, 1),
            height + 2.8,
            "house",
        ),
        DeckObject(
            behind,
            0,
            length * 0.3,
            width * rng.uniform(0.2, 0.45),
            height * 1.15 + 2.8,
            "funnel",
        ),
        DeckObject(
            x + length * 0.2, 0, length * 0.08, length * 0.08, height + 8, "mast"
        ),
    ]


def _forecastle(hull: Ship) -> list[DeckObject]:
    """Return the raised foredeck and its mast."""
    length = hull.bow * hull.length * 0.6
    size = hull.beam * 0.06
    x = 0.46 * hull.length - length / 2
    foredeck = DeckObject(x, 0, length, hull.beam, hull.beam * 0.1, "deck")
    return [foredeck, DeckObject(x, 0, size, size, hull.beam * 0.4, "mast")]


@dataclass(frozen=True)
class ShipClass:
    """A class of ships, with ranges of their sizes.

    Attributes:
        deck_layout: draws the objects on deck.
        length: length in meters, drawn log-uniformly.
        slenderness: length over beam.
        freeboard: freeboard over beam.
        bow: taper of the bow, as a fraction of the length.
        stern: taper of the stern, as a fraction of the length.
    """

    deck_layout: Callable[[Ship, Rng], Iterable[DeckObject]]
    length: Range
    slenderness: Range
    freeboard: Range
    bow: Range
    stern: Range


SHIP_CLASSES = {
    "cargo": ShipClass(
        cargo,
        length=(40, 160),
        slenderness=(4.6, 7.0),
        freeboard=(0.15, 0.35),
        bow=(0.10, 0.2),
        stern=(0.05, 0.15),
    ),
    "container": ShipClass(
        container,
        length=(90, 200),
        slenderness=(6.0, 8.0),
        freeboard=(0.2, 0.35),
        bow=(0.18, 0.3),
        stern=(0.05, 0.15),
    ),
    "tanker": ShipClass(
        tanker,
        length=(105, 215),
        slenderness=(5.4, 6.8),
        freeboard=(0.1, 0.3),
        bow=(0.08, 0.15),
        stern=(0.08, 0.2),
    ),
    "dredger": ShipClass(
        dredger,
        length=(65, 150),
        slenderness=(4.2, 5.4),
        freeboard=(0.08, 0.2),
        bow=(0.08, 0.18),
        stern=(0.05, 0.12),
    ),
    "fishing": ShipClass(
        fishing,
        length=(32, 85),
        slenderness=(4.0, 6.0),
        freeboard=(0.15, 0.35),
        bow=(0.3, 0.5),
        stern=(0.1, 0.25),
    ),
}
