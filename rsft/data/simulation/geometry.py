"""The geometry of simulated ships: a hull and boxes on its deck."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

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
"""The kinds of boxes."""
UNIT_BOX = np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]])
"""Its corners, in turn."""

FRACTION_BITS = 4
"""Of the corners of polygons, so that edges fall between pixels."""

_OUTLINE_POINTS = 12  # a taper and side


@dataclass(frozen=True)
class DeckObject:
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
    deck_objects: tuple[DeckObject, ...]

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


def box_corners(parts: Sequence[DeckObject]) -> NDArray[np.float64]:
    """The four corners of each part, (P, 4, 2) in ship coordinates."""
    boxes = np.array([(part.x, part.y, part.length, part.width) for part in parts]).reshape(-1, 1, 4)
    return np.asarray(boxes[..., :2] + UNIT_BOX * boxes[..., 2:])


def fill_polygon(image: NDArray[np.float32], points: NDArray[np.float64], value: float) -> None:
    """Give the pixels of an image (H, W) in a convex polygon (N, 2) of (x, y) a value."""
    fixed = np.rint(points * (1 << FRACTION_BITS)).astype(np.int32)
    cv2.fillConvexPoly(image, fixed, value, shift=FRACTION_BITS)
