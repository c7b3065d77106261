"""Geometry of simulated ships: a hull, and boxes on its deck."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from rsft.types import Floats

DECK_OBJECT_KINDS = (
    "hatch", "house", "container", "pipe", "manifold", "hopper", "crane", "mast", "funnel", "gear", "deck"
)  # fmt: skip
"""Kinds of objects on deck."""

UNIT_BOX = np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]])
"""Corners (4, 2) of a square with side 1, in turn."""

FRACTION_BITS = 4
"""Fractional bits of polygon corners, so that edges can lie between pixels."""

_OUTLINE_POINTS = 12  # per taper and side


@dataclass(frozen=True)
class DeckObject:
    """A box on deck, in meters. Boxes may overlap; a higher box covers a lower one.

    Attributes:
        x: center along the keel, from midships toward the bow.
        y: center across the keel, toward starboard.
        length: extent along the keel.
        width: extent across the keel.
        height: height of the top above the deck.
        kind: one of DECK_OBJECT_KINDS.
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
        kind: class of the ship, such as "cargo".
        length: length over all.
        beam: largest width.
        freeboard: height of the deck above the water.
        bow: fraction of the length over which the hull tapers to the bow.
        stern: fraction of the length over which the hull tapers to the transom.
        deck_objects: boxes on the deck.
    """

    kind: str
    length: float
    beam: float
    freeboard: float
    bow: float
    stern: float
    deck_objects: tuple[DeckObject, ...]

    def half_beam(self, x: float | Floats) -> Floats:
        """Return half the width of the hull: full amidships, 0 at the bow, 72 % of it at the transom.

        Args:
            x: positions along the keel in meters, from midships toward the bow.

        Returns:
            Meters, in the shape of `x`.
        """
        x = np.asarray(x, np.float64)
        ahead = np.clip((0.5 - x / self.length) / self.bow, 0, 1)
        astern = np.clip((0.5 + x / self.length) / self.stern, 0, 1)
        return self.beam / 2 * (1 - (1 - ahead) ** 2) * (1 - 0.28 * (1 - astern) ** 2)

    def outline(self) -> Floats:
        """Return the hull as a closed polygon (N, 2) of (x, y), beginning with the starboard side from stern to bow."""
        half = self.length / 2
        astern = np.linspace(-half, -half + self.stern * self.length, _OUTLINE_POINTS)
        ahead = half - self.bow * self.length * np.linspace(1, 0, _OUTLINE_POINTS) ** 1.5
        x = np.concatenate([astern, ahead])
        starboard = np.stack([x, self.half_beam(x)], axis=1)
        return np.concatenate([starboard, starboard[::-1] * (1, -1)])


def box_corners(deck_objects: Sequence[DeckObject]) -> Floats:
    """Return the corners of the boxes on deck.

    Args:
        deck_objects: N boxes.

    Returns:
        Corners (N, 4, 2) in ship coordinates.
    """
    boxes = np.array([(box.x, box.y, box.length, box.width) for box in deck_objects]).reshape(-1, 1, 4)
    return np.asarray(boxes[..., :2] + UNIT_BOX * boxes[..., 2:])


def fill_polygon(image: NDArray[np.float32], points: Floats, value: float) -> None:
    """Fill a convex polygon in an image, in place.

    Args:
        image: image (H, W).
        points: corners (N, 2) of the polygon, (x, y) in pixels.
        value: new value of the pixels.
    """
    fixed = np.rint(points * (1 << FRACTION_BITS)).astype(np.int32)
    cv2.fillConvexPoly(image, fixed, value, shift=FRACTION_BITS)
