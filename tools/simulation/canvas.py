"""Canvas of simulated optical images: view geometry, colors, illumination, and the ground truth of each pixel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from rsft.plugins.demo.ships import FRACTION_BITS, DeckObject, Ship, box_corners
from rsft.types import Floats
from tools.simulation.backgrounds import GROUND_TYPES, Float, power_law_noise
from tools.simulation.ships import DECK_OBJECT_KINDS

Color = NDArray[np.float64]
"""R, G, B (3,) in 0-255."""

SURFACES = (*GROUND_TYPES, "hull", *DECK_OBJECT_KINDS)
"""Surface types; the codes of the ground truth are positions in it."""
SUPERSAMPLE = 2
"""Canvas pixels per image pixel and axis."""

_CODES = {name: code for code, name in enumerate(SURFACES)}


Paints = dict[str, NDArray[np.float64]]
"""Colors (N, 3) of the hull, the deck and each kind of deck object: R, G, B in
0-255."""

_CONTAINER_PAINTS = 5  # per ship
_PALETTES = {
    "hull": (
        (40, 40, 45),
        (120, 35, 30),
        (30, 60, 120),
        (200, 200, 200),
        (30, 90, 70),
        (110, 115, 120),
    ),
    "deck": (
        (125, 55, 45),
        (60, 100, 75),
        (110, 112, 115),
        (50, 80, 120),
        (165, 120, 85),
        (90, 80, 75),
        (60, 65, 70),
    ),
    "hatch": (
        (125, 60, 50),
        (70, 110, 80),
        (130, 130, 130),
        (200, 195, 180),
        (70, 90, 125),
        (165, 90, 50),
    ),
    "container": (
        (160, 60, 45),
        (40, 80, 140),
        (60, 120, 80),
        (210, 210, 205),
        (215, 120, 40),
        (110, 60, 50),
    ),
    "house": ((235, 235, 230), (215, 210, 195), (190, 195, 200)),
    "funnel": (
        (200, 60, 50),
        (40, 60, 130),
        (30, 30, 35),
        (225, 170, 50),
        (60, 110, 80),
    ),
    "crane": ((225, 200, 90), (210, 210, 205), (110, 115, 120), (200, 100, 50)),
    "pipe": ((190, 190, 185), (120, 115, 110), (150, 70, 55)),
    "manifold": ((200, 195, 185), (140, 130, 120), (90, 90, 90)),
    "hopper": ((140, 115, 80), (80, 70, 60), (60, 80, 85), (35, 40, 45)),
    "mast": ((225, 225, 220), (90, 90, 95), (200, 160, 60)),
    "gear": (
        (215, 110, 50),
        (200, 200, 195),
        (60, 100, 120),
        (120, 115, 105),
        (225, 190, 70),
    ),
}
_PAINTS = {kind: np.array(palette, np.float64) for kind, palette in _PALETTES.items()}
_WARSHIP_GRAYS = np.array(
    [[105, 112, 118], [135, 140, 145], [160, 165, 168]], np.float64
)


@dataclass(frozen=True)
class View:
    """Position and illumination of a ship in the image; image vectors are (x right, y down).

    Attributes:
        origin: midships, in canvas pixels (2,).
        axes: canvas pixels per meter toward the bow and toward starboard (2, 2).
        relief_displacement: shift of a point per meter of height, in canvas pixels
            (2,).
        shadow_displacement: shift of a shadow per meter of height, in canvas pixels
            (2,).
        ambient: brightness in the shade, 0-1.
    """

    origin: Floats
    axes: Floats
    relief_displacement: Floats
    shadow_displacement: Floats
    ambient: float

    def to_canvas(self, points: Floats) -> Floats:
        """Transform ship coordinates to the canvas.

        Args:
            points: (..., 2) meters toward the bow and toward starboard.

        Returns:
            (..., 2) canvas pixels.
        """
        return self.origin + points @ self.axes


class Canvas:
    """Supersampled image with illumination and ground truth.

    Args:
        image: background (S, S, 3), 0-255.
        ground: surface codes of the background (S, S).
        view: position and illumination of the ship.

    Attributes:
        illumination: factor of the brightness of each pixel (S, S).
        ground_truth: height in meters, and index in SURFACES (S, S, 2).
    """

    def __init__(self, image: Float, ground: Float, view: View) -> None:
        self.image = image
        self.view = view
        self.illumination = np.ones(image.shape[:2], np.float32)
        self.ground_truth = np.stack([np.zeros_like(ground), ground], axis=2)

    def fill_convex_hull(
        self, layer: Float, points: Floats, value: float | NDArray[np.floating]
    ) -> None:
        """Fill the convex hull of points.

        Args:
            layer: array (S, S) or (S, S, C), changed in place.
            points: canvas points (N, 2).
            value: new value (C,) of the pixels.
        """
        fixed = (points * (1 << FRACTION_BITS)).astype(np.int32)
        color = (value,) if isinstance(value, float) else value.tolist()
        cv2.fillConvexPoly(layer, cv2.convexHull(fixed), color, shift=FRACTION_BITS)

    def draw_prism(
        self, kind: str, base: Floats, low: float, high: float, wall: Color, top: Color
    ) -> None:
        """Draw a prism.

        Args:
            kind: its surface type, one of SURFACES.
            base: canvas points (N, 2) of its base at height 0.
            low: height of its bottom in meters above the water.
            high: height of its top in meters above the water.
            wall: color of its walls.
            top: color of its top.
        """
        roof = base + high * self.view.relief_displacement
        body = np.concatenate([base + low * self.view.relief_displacement, roof])
        self.fill_convex_hull(self.image, body, wall)
        self.fill_convex_hull(self.image, roof, top)
        self.fill_convex_hull(self.illumination, body, 1.0)
        self.fill_convex_hull(self.ground_truth, body, np.array([high, _CODES[kind]]))

    def cast_shadow(self, base: Floats, ground_height: float, rise: float) -> None:
        """Draw the shadow of a prism on a horizontal plane.

        Args:
            base: canvas points (N, 2) of the base of the prism at height 0.
            ground_height: height of the plane in meters above the water.
            rise: height of the prism in meters above the plane.
        """
        foot = base + ground_height * self.view.relief_displacement
        self.fill_convex_hull(
            self.illumination,
            np.concatenate([foot, foot + rise * self.view.shadow_displacement]),
            self.view.ambient,
        )

    def draw_deck_objects(
        self,
        deck_objects: Sequence[DeckObject],
        bases: Floats,
        plane: float,
        paints: Paints,
    ) -> None:
        """Draw boxes with their shadows; a kind with several colors takes them in turn.

        Args:
            deck_objects: P boxes.
            bases: canvas points (P, 4, 2) of their bases at height 0.
            plane: height of the plane under them in meters above the water.
            paints: colors by kind.
        """
        for index, (box, base) in enumerate(zip(deck_objects, bases, strict=True)):
            self.cast_shadow(base, plane, box.height)
            colors = paints[box.kind]
            color = colors[index % len(colors)]
            self.draw_prism(
                box.kind, base, plane, plane + box.height, color * 0.7, color
            )

    def draw_ship(self, ship: Ship, rng: np.random.Generator) -> None:
        """Draw the shadows on the water, the hull, its deck, and all boxes from low to high.

        Args:
            ship: the ship.
            rng: source of randomness.
        """
        paints = sample_paints(ship, rng)
        outline = self.view.to_canvas(ship.outline())
        bases = self.view.to_canvas(box_corners(ship.boxes))
        self.cast_shadow(outline, 0, ship.freeboard)
        for box, base in zip(ship.deck_objects, bases, strict=True):
            self.cast_shadow(base, 0, ship.freeboard + box.height)
        self.draw_prism(
            "hull", outline, 0, ship.freeboard, paints["hull"][0], paints["deck"][0]
        )
        self.draw_deck_objects(ship.deck_objects, bases, ship.freeboard, paints)
        weather = 1 + power_law_noise(
            rng, len(self.image), int(rng.integers(3))
        ) * np.float32(rng.uniform(0, 0.12))
        weather[self.ground_truth[..., 0] == 0] = 1
        self.image *= weather[..., None]

    def shaded_image(self) -> Float:
        """Return the illuminated image (S, S, 3)."""
        return np.asarray(self.image * self.illumination[..., None], np.float32)


def sample_view(
    ship: Ship, rng: np.random.Generator, size: int, spacing: float, heading: float
) -> View:
    """Draw a view: the ship near the image center, a nearly vertical line of sight, and sunshine or an overcast sky.

    Args:
        ship: the ship.
        rng: source of randomness.
        size: side of the image in pixels.
        spacing: meters per pixel.
        heading: direction of the bow, in radians clockwise from up.

    Returns:
        The view.
    """
    scale = SUPERSAMPLE / spacing
    bow = np.array([np.sin(heading), -np.cos(heading)])
    starboard = np.array([np.cos(heading), np.sin(heading)])
    # keeps the hull in the image
    margin = np.maximum(0.5 - 0.45 * ship.length / spacing / size * np.abs(bow), 0.06)
    origin = (
        (0.5 + rng.uniform(-1, 1, 2) * margin * rng.uniform(0, 0.7))
        * size
        * SUPERSAMPLE
    )
    tilt = np.tan(np.deg2rad(rng.uniform(0, 30) if rng.random() < 0.5 else 3))
    length = 1 / np.tan(np.deg2rad(rng.uniform(25, 80)))
    azimuths = rng.uniform(0, 2 * np.pi, 2)
    relief, shadow = (
        scale * np.stack([np.cos(azimuths), np.sin(azimuths)], 1) * ((tilt,), (length,))
    )
    # overcast: faint shadows
    ambient = rng.uniform(0.3, 0.6) if rng.random() < 0.85 else 0.95
    return View(origin, scale * np.stack([bow, starboard]), relief, shadow, ambient)


def sample_paints(ship: Ship, rng: np.random.Generator) -> Paints:
    """Draw the colors of a ship: one color per kind of deck object, but several for containers.

    Args:
        ship: the ship.
        rng: source of randomness.

    Returns:
        Colors by kind.
    """
    fading = rng.uniform(
        0.85, 1.15, (len(_PAINTS), _CONTAINER_PAINTS, 3)
    ) * rng.uniform(0.7, 1.15)
    choices = rng.random((len(_PAINTS), _CONTAINER_PAINTS))
    paints = {}
    for kind, fade, choice in zip(_PAINTS, fading, choices, strict=True):
        count = _CONTAINER_PAINTS if kind == "container" else 1
        palette = _PAINTS[kind]
        paints[kind] = (
            palette[(choice[:count] * len(palette)).astype(int)] * fade[:count]
        )
    if ship.kind == "patrol" and rng.random() < 0.7:
        gray = _WARSHIP_GRAYS[rng.integers(len(_WARSHIP_GRAYS))]
        paints = {kind: gray[None] * rng.uniform(0.8, 1.15) for kind in paints}
    return paints
