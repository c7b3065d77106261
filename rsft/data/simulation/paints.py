"""Colors of simulated ships."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rsft.data.simulation.ships import Ship

Paints = dict[str, NDArray[np.float64]]
"""Colors (N, 3) of the hull, the deck and each kind of deck object: R, G, B in 0-255."""

_CONTAINER_PAINTS = 5  # per ship
_PALETTES = {
    "hull": ((40, 40, 45), (120, 35, 30), (30, 60, 120), (200, 200, 200), (30, 90, 70), (110, 115, 120)),
    "deck": ((125, 55, 45), (60, 100, 75), (110, 112, 115), (50, 80, 120), (165, 120, 85), (90, 80, 75), (60, 65, 70)),
    "hatch": ((125, 60, 50), (70, 110, 80), (130, 130, 130), (200, 195, 180), (70, 90, 125), (165, 90, 50)),
    "container": ((160, 60, 45), (40, 80, 140), (60, 120, 80), (210, 210, 205), (215, 120, 40), (110, 60, 50)),
    "house": ((235, 235, 230), (215, 210, 195), (190, 195, 200)),
    "funnel": ((200, 60, 50), (40, 60, 130), (30, 30, 35), (225, 170, 50), (60, 110, 80)),
    "crane": ((225, 200, 90), (210, 210, 205), (110, 115, 120), (200, 100, 50)),
    "pipe": ((190, 190, 185), (120, 115, 110), (150, 70, 55)),
    "manifold": ((200, 195, 185), (140, 130, 120), (90, 90, 90)),
    "hopper": ((140, 115, 80), (80, 70, 60), (60, 80, 85), (35, 40, 45)),
    "mast": ((225, 225, 220), (90, 90, 95), (200, 160, 60)),
    "gear": ((215, 110, 50), (200, 200, 195), (60, 100, 120), (120, 115, 105), (225, 190, 70)),
}
_PAINTS = {kind: np.array(palette, np.float64) for kind, palette in _PALETTES.items()}
_WARSHIP_GRAYS = np.array([[105, 112, 118], [135, 140, 145], [160, 165, 168]], np.float64)


def sample_paints(ship: Ship, rng: np.random.Generator) -> Paints:
    """Draw the colors of a ship: one color per kind of deck object, but several for containers.

    Args:
        ship: the ship.
        rng: source of randomness.

    Returns:
        Colors by kind.
    """
    fading = rng.uniform(0.85, 1.15, (len(_PAINTS), _CONTAINER_PAINTS, 3)) * rng.uniform(0.7, 1.15)
    choices = rng.random((len(_PAINTS), _CONTAINER_PAINTS))
    paints = {}
    for kind, fade, choice in zip(_PAINTS, fading, choices, strict=True):
        count = _CONTAINER_PAINTS if kind == "container" else 1
        palette = _PAINTS[kind]
        paints[kind] = palette[(choice[:count] * len(palette)).astype(int)] * fade[:count]
    if ship.kind == "patrol" and rng.random() < 0.7:
        gray = _WARSHIP_GRAYS[rng.integers(len(_WARSHIP_GRAYS))]
        paints = {kind: gray[None] * rng.uniform(0.8, 1.15) for kind in paints}
    return paints
