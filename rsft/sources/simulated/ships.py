"""The geometry of simulated ships: a hull outline and boxes on its deck, drawn at random a class.

Sizes follow the usual ranges of each trade; the parts are those that tell the classes apart from above.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

CLASSES = ("cargo", "container", "tanker", "dredger", "fishing", "passenger", "tug", "patrol")
PARTS = ("hatch", "house", "container", "pipe", "manifold", "hopper", "crane", "mast", "funnel", "gear", "deck")

_OUTLINE_POINTS = 12  # a taper and side


@dataclass(frozen=True)
class Part:
    """A box that stands on deck, in metres; parts may overlap, the higher one then covers the lower.

    Attributes:
        x: centre along the keel from midships, bow positive.
        y: centre across, starboard positive.
        length, width: along and across the keel.
        height: of the top above the deck.
        kind: one of PARTS.
    """

    x: float
    y: float
    length: float
    width: float
    height: float
    kind: str


@dataclass(frozen=True)
class Ship:
    """A ship, in metres.

    Attributes:
        freeboard: height of the deck above the water.
        bow, stern: fractions of the length over which the hull tapers to the bow and to the transom.
    """

    kind: str
    length: float
    beam: float
    freeboard: float
    bow: float
    stern: float
    parts: tuple[Part, ...]

    def half_beam(self, x: float | NDArray[np.float64]) -> NDArray[np.float64]:
        """Half the hull's width at `x`: full amidships, 0 at the bow, 0.72 of it at the transom."""
        x = np.asarray(x, np.float64)
        ahead = np.clip((0.5 - x / self.length) / self.bow, 0, 1)
        astern = np.clip((0.5 + x / self.length) / self.stern, 0, 1)
        return self.beam / 2 * (1 - (1 - ahead) ** 2) * (1 - 0.28 * (1 - astern) ** 2)

    def outline(self) -> NDArray[np.float64]:
        """The hull as a closed polygon (N, 2) of (x, y), first the starboard side from stern to bow."""
        half = self.length / 2
        astern = np.linspace(-half, -half + self.stern * self.length, _OUTLINE_POINTS)
        ahead = half - self.bow * self.length * np.linspace(1, 0, _OUTLINE_POINTS) ** 1.5
        x = np.concatenate([astern, ahead])
        starboard = np.stack([x, self.half_beam(x)], axis=1)
        return np.concatenate([starboard, starboard[::-1] * (1, -1)])


@dataclass(frozen=True)
class _Range:
    """What a class of ships measures: length (log-uniform), length / beam, freeboard / beam, tapers."""

    length: tuple[float, float]
    slenderness: tuple[float, float]
    freeboard: tuple[float, float]
    bow: tuple[float, float]
    stern: tuple[float, float]


SIZES = {
    "cargo": _Range((60, 300), (5.6, 7.4), (0.15, 0.35), (0.10, 0.2), (0.05, 0.15)),
    "container": _Range((100, 400), (6.0, 8.0), (0.2, 0.35), (0.18, 0.3), (0.05, 0.15)),
    "tanker": _Range((60, 340), (5.4, 6.8), (0.1, 0.3), (0.08, 0.15), (0.08, 0.2)),
    "dredger": _Range((50, 180), (4.4, 5.8), (0.08, 0.2), (0.08, 0.18), (0.05, 0.12)),
    "fishing": _Range((15, 60), (3.2, 4.8), (0.15, 0.35), (0.3, 0.5), (0.1, 0.25)),
    "passenger": _Range((30, 330), (4.6, 8.5), (0.2, 0.4), (0.2, 0.4), (0.05, 0.15)),
    "tug": _Range((18, 40), (2.4, 3.4), (0.12, 0.25), (0.25, 0.4), (0.15, 0.35)),
    "patrol": _Range((25, 160), (6.2, 9.0), (0.2, 0.4), (0.4, 0.6), (0.1, 0.3)),
}


def draw_ship(kind: str, rng: np.random.Generator) -> Ship:
    """A random ship of `kind`, one of CLASSES; every part lies inside the outline."""
    ranges = SIZES[kind]
    length = float(np.exp(rng.uniform(*np.log(ranges.length))))
    beam = length / rng.uniform(*ranges.slenderness)
    freeboard = beam * rng.uniform(*ranges.freeboard)
    hull = Ship(kind, length, beam, freeboard, rng.uniform(*ranges.bow), rng.uniform(*ranges.stern), ())
    parts = _inside(hull, _FURNISH[kind](hull, rng))
    return replace(hull, parts=tuple(sorted(parts, key=lambda part: part.height)))


def _inside(hull: Ship, parts: list[Part]) -> list[Part]:
    """Shift and narrow parts until they lie within the hull."""
    x, y, half, width = np.array([(part.x, part.y, part.length / 2, part.width) for part in parts]).T
    x = np.clip(x, half - hull.length / 2, 0.46 * hull.length - half)
    room = 0.98 * hull.half_beam(np.stack([x - half, x + half])).min(axis=0)
    width = np.minimum(width, 2 * room)
    y = np.clip(y, width / 2 - room, room - width / 2)
    places = zip(parts, x.tolist(), y.tolist(), width.tolist(), strict=True)
    return [replace(part, x=x, y=y, width=width) for part, x, y, width in places]


def _house(hull: Ship, rng: np.random.Generator, x: float, length: float) -> list[Part]:
    """A deck house with a bridge that spans the ship, a funnel and a mast."""
    storeys = 2.8 * np.clip(np.rint(hull.length / 28 + rng.uniform(0, 2)), 1, 8)
    width = hull.beam * rng.uniform(0.6, 0.9)
    behind = x - length * rng.uniform(0.25, 0.75)
    return [
        Part(x, 0, length, width, storeys, "house"),
        Part(x + length * 0.3, 0, length * 0.3, hull.beam * rng.uniform(0.8, 1), storeys + 2.8, "house"),
        Part(behind, 0, length * 0.3, width * rng.uniform(0.2, 0.45), storeys * 1.15 + 2.8, "funnel"),
        Part(x + length * 0.2, 0, length * 0.08, length * 0.08, storeys + 8, "mast"),
    ]


def _forecastle(hull: Ship) -> list[Part]:
    length = hull.bow * hull.length * 0.6
    x = 0.46 * hull.length - length / 2
    size = hull.beam * 0.06
    return [Part(x, 0, length, hull.beam, hull.beam * 0.1, "deck"), Part(x, 0, size, size, hull.beam * 0.4, "mast")]


def _hold(hull: Ship, house: float) -> tuple[float, float]:
    """Where cargo is carried, with an aft house that takes the fraction `house`: (aft end, fore end)."""
    return hull.length * (house + 0.06 - 0.5), hull.length * (0.46 - 0.6 * hull.bow)


def _cargo(hull: Ship, rng: np.random.Generator) -> list[Part]:
    house = rng.uniform(0.09, 0.16)
    aft, fore = _hold(hull, house)
    parts = _forecastle(hull) + _house(hull, rng, hull.length * (house / 2 + 0.03 - 0.5), hull.length * house)
    count = int(rng.integers(2, 5 + int(hull.length / 60)))
    pitch = (fore - aft) / count
    length, width, height = pitch * rng.uniform(0.6, 0.88), hull.beam * rng.uniform(0.45, 0.75), rng.uniform(1, 3)
    side = rng.choice([0, 0, -0.35, 0.35])
    geared = rng.random() < 0.5
    for index in range(count):
        x = aft + (index + 0.5) * pitch
        parts.append(Part(x, 0, length, width, height, "hatch"))
        if geared and index:
            post = hull.beam * 0.1
            y = hull.beam * side
            jib = pitch * rng.uniform(0.6, 0.95)
            parts.append(Part(x - pitch / 2, y, post, post, hull.beam * 0.6, "crane"))
            parts.append(Part(x - pitch / 2 + jib / 2, y, jib, post * 0.4, hull.beam * 0.35, "crane"))
    return parts


def _container(hull: Ship, rng: np.random.Generator) -> list[Part]:
    house = min(0.12, 16 / hull.length)
    centre = rng.uniform(-0.42, -0.3) if rng.random() < 0.6 else rng.uniform(0.1, 0.2)
    parts = _forecastle(hull) + _house(hull, rng, hull.length * centre, hull.length * house)
    pitch = rng.uniform(13.4, 14.6)  # a forty-foot bay and its lashing gap
    load, tiers = rng.uniform(0.5, 1), int(rng.integers(2, 4 + int(hull.length / 90)))
    for x in np.arange(-0.46 * hull.length + pitch / 2, 0.46 * hull.length - 0.6 * hull.bow * hull.length, pitch):
        if abs(x - hull.length * centre) < (hull.length * house + pitch) / 2 or rng.random() > load:
            continue
        blocks = int(rng.integers(1, 4))
        room = 1.9 * float(hull.half_beam(np.array([x - 6.1, x + 6.1])).min())
        for block in range(blocks):
            height = 2.6 * float(rng.integers(max(1, tiers - 2), tiers + 1))
            y = room * ((block + 0.5) / blocks - 0.5)
            parts.append(Part(float(x), y, 12.2, room / blocks, height, "container"))
    return parts


def _tanker(hull: Ship, rng: np.random.Generator) -> list[Part]:
    house = rng.uniform(0.1, 0.17)
    aft, fore = _hold(hull, house)
    parts = _forecastle(hull) + _house(hull, rng, hull.length * (house / 2 + 0.03 - 0.5), hull.length * house)
    middle, thick = (aft + fore) / 2 + hull.length * rng.uniform(-0.04, 0.04), max(0.5, hull.beam * 0.03)
    for lane in range(int(rng.integers(1, 4))):
        parts.append(Part((aft + fore) / 2, thick * 2 * lane, fore - aft, thick, 1.5, "pipe"))
    for lane in range(int(rng.integers(1, 4))):
        parts.append(Part(middle + thick * 2.5 * lane, 0, thick, hull.beam * 0.85, 2, "manifold"))
    for side in (-1, 1):
        parts.append(Part(middle - thick * 4, side * hull.beam * 0.12, thick * 2, thick * 2, hull.beam * 0.4, "crane"))
    tanks = int(rng.integers(3, 7))
    for x in np.linspace(aft, fore, tanks + 2)[1:-1]:
        for side in (-1, 1):
            parts.append(Part(float(x), side * hull.beam * 0.27, thick * 1.5, thick * 1.5, 1.2, "hatch"))
    return parts


def _dredger(hull: Ship, rng: np.random.Generator) -> list[Part]:
    house, sign = rng.uniform(0.12, 0.2), rng.choice([-1, 1], p=[0.65, 0.35])
    parts = _house(
        hull, rng, sign * hull.length * (0.44 - house / 2 - 0.5 * hull.bow * (sign > 0)), hull.length * house
    )
    length, width = hull.length * rng.uniform(0.36, 0.52), hull.beam * rng.uniform(0.5, 0.72)
    x = -sign * hull.length * rng.uniform(0.0, 0.06)
    parts.append(Part(x, 0, length, width, rng.uniform(0.5, 2), "hopper"))
    thin = max(0.8, hull.beam * 0.06)
    for place in np.linspace(x - length / 2, x + length / 2, int(rng.integers(2, 5))):
        parts.append(Part(float(place), 0, thin, hull.beam * 0.95, hull.beam * rng.uniform(0.25, 0.5), "gear"))
    pipe = hull.length * rng.uniform(0.35, 0.5)
    for side in (-1, 1) if rng.random() < 0.5 else (int(rng.choice([-1, 1])),):
        parts.append(Part(x, side * hull.beam * 0.45, pipe, thin, 2, "pipe"))
    parts.append(Part(x, 0, length, thin * 0.6, 3, "pipe"))
    parts.append(Part(x - sign * length * 0.55, hull.beam * 0.2, thin * 2, thin * 2, hull.beam * 0.6, "crane"))
    return parts


def _fishing(hull: Ship, rng: np.random.Generator) -> list[Part]:
    forward = rng.random() < 0.55
    house = rng.uniform(0.2, 0.32)
    x = hull.length * (rng.uniform(0.05, 0.18) if forward else rng.uniform(-0.32, -0.2))
    parts = _house(hull, rng, x, hull.length * house)
    thin = max(0.3, hull.beam * 0.07)
    gantry = -0.46 if forward else -0.1 + rng.uniform(0, 0.2)
    parts.append(Part(hull.length * gantry, 0, thin, hull.beam * 0.8, hull.beam * 0.7, "gear"))
    parts.append(Part(x + hull.length * (-0.26 if forward else 0.3), 0, thin, thin, hull.beam * 1.1, "mast"))
    work = hull.length * (-0.25 if forward else 0.15)
    for _ in range(int(rng.integers(2, 5))):
        where = work + hull.length * rng.uniform(-0.12, 0.12)
        size = hull.beam * rng.uniform(0.12, 0.3)
        parts.append(Part(where, hull.beam * rng.uniform(-0.3, 0.3), size, size, rng.uniform(0.5, 1.5), "gear"))
    parts.append(Part(work, 0, hull.length * 0.08, hull.beam * 0.3, 0.6, "hatch"))
    return parts


def _passenger(hull: Ship, rng: np.random.Generator) -> list[Part]:
    length, width = hull.length * rng.uniform(0.74, 0.86), hull.beam * rng.uniform(0.84, 0.96)
    x, storey = hull.length * rng.uniform(-0.07, -0.04), min(2.8, hull.beam * 0.2)
    parts: list[Part] = []
    for tier in range(int(rng.integers(1, 3)) + int(hull.length / 80)):
        parts.append(Part(x, 0, length, width, storey * (2 + tier), "house"))
        length, width, x = length * rng.uniform(0.8, 0.95), width * rng.uniform(0.8, 0.97), x - length * 0.02
    top = parts[-1].height
    for _ in range(int(rng.integers(1, 3))):
        place = x + length * rng.uniform(-0.35, 0.1)
        parts.append(Part(place, 0, hull.length * 0.05, hull.beam * 0.25, top + hull.beam * 0.35, "funnel"))
    parts.append(Part(x + length * 0.38, 0, hull.length * 0.01, hull.beam * 0.3, top + hull.beam * 0.4, "mast"))
    boats = int(rng.integers(3, 9))
    for place in np.linspace(-0.3, 0.25, boats) * hull.length:
        for side in (-1, 1):
            size = 0.3 * hull.length / boats
            parts.append(Part(float(place), side * hull.beam * 0.45, size, hull.beam * 0.08, storey * 2.5, "gear"))
    return parts


def _tug(hull: Ship, rng: np.random.Generator) -> list[Part]:
    house = rng.uniform(0.26, 0.38)
    x = hull.length * rng.uniform(0.04, 0.12)
    parts = _house(hull, rng, x, hull.length * house)[:2]
    parts.append(Part(x, 0, hull.length * 0.03, hull.length * 0.03, hull.beam * 1.2, "mast"))
    for side in (-1, 1):
        size = hull.beam * 0.12
        parts.append(
            Part(x - hull.length * house * 0.4, side * hull.beam * 0.22, size, size, hull.beam * 0.7, "funnel")
        )
    winch = hull.beam * rng.uniform(0.2, 0.35)
    parts.append(Part(-0.18 * hull.length, 0, winch, winch * 1.2, 2, "gear"))
    parts.append(Part(0.36 * hull.length, 0, winch * 0.6, winch, 1.5, "gear"))
    return parts


def _patrol(hull: Ship, rng: np.random.Generator) -> list[Part]:
    house = rng.uniform(0.28, 0.42)
    x = hull.length * rng.uniform(-0.04, 0.04)
    storey = max(2.2, hull.beam * 0.25)
    front = x + hull.length * house * 0.3
    parts = [
        Part(x, 0, hull.length * house, hull.beam * rng.uniform(0.65, 0.9), storey, "house"),
        Part(front, 0, hull.length * house * 0.4, hull.beam * 0.6, storey * 2, "house"),
        Part(front, 0, hull.beam * 0.15, hull.beam * 0.15, storey * 4.5, "mast"),
        Part(x - hull.length * house * 0.25, 0, hull.length * 0.05, hull.beam * 0.3, storey * 2, "funnel"),
        Part(0.32 * hull.length, 0, hull.beam * 0.2, hull.beam * 0.2, storey * 0.8, "gear"),
    ]
    if hull.length > 45:
        parts.append(Part(-0.37 * hull.length, 0, hull.length * 0.2, hull.beam * 0.8, 0.3, "deck"))
    for side in (-1, 1):
        boat = hull.length * 0.07
        parts.append(Part(x - hull.length * house * 0.3, side * hull.beam * 0.4, boat, boat * 0.3, storey, "gear"))
    return parts


_FURNISH: dict[str, Callable[[Ship, np.random.Generator], list[Part]]] = {
    "cargo": _cargo,
    "container": _container,
    "tanker": _tanker,
    "dredger": _dredger,
    "fishing": _fishing,
    "passenger": _passenger,
    "tug": _tug,
    "patrol": _patrol,
}
