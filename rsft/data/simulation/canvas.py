"""What optical ships are painted on: where they lie in the image, how the light falls, and the truth of each pixel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from rsft.data.simulation.backgrounds import GROUND_TYPES, Float, power_law_noise
from rsft.data.simulation.geometry import DECK_OBJECT_KINDS, FRACTION_BITS, DeckObject, Ship, box_corners
from rsft.data.simulation.paints import Paints, sample_paints

Points = NDArray[np.float64]
Colour = NDArray[np.float64]  # (3,) in 0-255

SURFACES = (*GROUND_TYPES, "hull", *DECK_OBJECT_KINDS)
"""What a pixel can show; a pixel of the truth is a place in it."""
SUPERSAMPLE = 2
"""Canvas pixels along a pixel of the image."""

_CODES = {name: code for code, name in enumerate(SURFACES)}


@dataclass(frozen=True)
class View:
    """How a ship lies in the image and how it is lit; image vectors (x right, y down).

    Attributes:
        origin: where midships lies, in canvas pixels.
        axes: canvas pixels of a metre toward the bow and toward starboard, (2, 2).
        look: shift of a point one metre up, in canvas pixels.
        shadow: shift of the shadow that a point one metre up casts, in canvas pixels.
        ambient: brightness of the shade, 0-1.
    """

    origin: Points
    axes: Points
    relief_displacement: Points
    shadow_displacement: Points
    ambient: float

    def to_canvas(self, points: Points) -> Points:
        """Ship coordinates (..., 2) in metres -> canvas pixels (..., 2)."""
        return self.origin + points @ self.axes


class Canvas:
    """The supersampled image, how much light falls, and the truth: height in metres and place in SURFACES."""

    def __init__(self, image: Float, ground: Float, view: View) -> None:
        self.image, self.view = image, view
        self.illumination = np.ones(image.shape[:2], np.float32)
        self.ground_truth = np.stack([np.zeros_like(ground), ground], axis=2)

    def fill_convex_hull(self, layer: Float, points: Points, value: float | NDArray[np.floating]) -> None:
        """Fill the convex hull of canvas points (N, 2)."""
        fixed = (points * (1 << FRACTION_BITS)).astype(np.int32)
        colour = (value,) if isinstance(value, float) else value.tolist()
        cv2.fillConvexPoly(layer, cv2.convexHull(fixed), colour, shift=FRACTION_BITS)

    def draw_prism(self, kind: str, base: Points, low: float, high: float, wall: Colour, top: Colour) -> None:
        """A prism on a base (N, 2) of canvas points, from `low` to `high` metres over the water."""
        roof = base + high * self.view.relief_displacement
        body = np.concatenate([base + low * self.view.relief_displacement, roof])
        self.fill_convex_hull(self.image, body, wall)
        self.fill_convex_hull(self.image, roof, top)
        self.fill_convex_hull(self.illumination, body, 1.0)
        self.fill_convex_hull(self.ground_truth, body, np.array([high, _CODES[kind]]))

    def cast_shadow(self, base: Points, ground_height: float, rise: float) -> None:
        """The shadow that a prism `rise` metres high casts on a plane at `ground_height`."""
        foot = base + ground_height * self.view.relief_displacement
        self.fill_convex_hull(
            self.illumination, np.concatenate([foot, foot + rise * self.view.shadow_displacement]), self.view.ambient
        )

    def draw_deck_objects(self, parts: Sequence[DeckObject], bases: Points, plane: float, paints: Paints) -> None:
        """Boxes on bases (P, 4, 2) that stand on a plane; a kind with several paints takes them in turn."""
        for index, (part, base) in enumerate(zip(parts, bases, strict=True)):
            self.cast_shadow(base, plane, part.height)
            colours = paints[part.kind]
            colour = colours[index % len(colours)]
            self.draw_prism(part.kind, base, plane, plane + part.height, colour * 0.7, colour)

    def draw_ship(self, ship: Ship, rng: np.random.Generator) -> None:
        """Shadows on the water, the hull, its deck, then every part from low to high."""
        paints = sample_paints(ship, rng)
        outline, bases = self.view.to_canvas(ship.outline()), self.view.to_canvas(box_corners(ship.deck_objects))
        self.cast_shadow(outline, 0, ship.freeboard)
        for part, base in zip(ship.deck_objects, bases, strict=True):
            self.cast_shadow(base, 0, ship.freeboard + part.height)
        self.draw_prism("hull", outline, 0, ship.freeboard, paints["hull"][0], paints["deck"][0])
        self.draw_deck_objects(ship.deck_objects, bases, ship.freeboard, paints)
        weather = 1 + power_law_noise(rng, len(self.image), int(rng.integers(3))) * np.float32(rng.uniform(0, 0.12))
        weather[self.ground_truth[..., 0] == 0] = 1
        self.image *= weather[..., None]

    def shaded_image(self) -> Float:
        """The image under its light."""
        return np.asarray(self.image * self.illumination[..., None], np.float32)


def sample_view(ship: Ship, rng: np.random.Generator, size: int, spacing: float, heading: float) -> View:
    """A place near the middle of an image of `size` pixels, a nearly vertical look, and a sun or an overcast sky."""
    scale = SUPERSAMPLE / spacing
    bow = np.array([np.sin(heading), -np.cos(heading)])
    starboard = np.array([np.cos(heading), np.sin(heading)])
    margin = np.maximum(0.5 - 0.45 * ship.length / spacing / size * np.abs(bow), 0.06)  # keeps the hull in sight
    origin = (0.5 + rng.uniform(-1, 1, 2) * margin * rng.uniform(0, 0.7)) * size * SUPERSAMPLE
    tilt = np.tan(np.deg2rad(rng.uniform(0, 30) if rng.random() < 0.5 else 3))
    length = 1 / np.tan(np.deg2rad(rng.uniform(25, 80)))
    azimuths = rng.uniform(0, 2 * np.pi, 2)
    look, shadow = scale * np.stack([np.cos(azimuths), np.sin(azimuths)], 1) * ((tilt,), (length,))
    ambient = rng.uniform(0.3, 0.6) if rng.random() < 0.85 else 0.95  # overcast: hardly any shadow
    return View(origin, scale * np.stack([bow, starboard]), look, shadow, ambient)
