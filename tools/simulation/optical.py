"""Simulated optical images of ships from above, with shadows, wake, quay, haze, blur and noise."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from rsft.plugins.demo.ships import DeckObject, Ship, box_corners, fill_polygon
from tools.simulation.backgrounds import (
    Float,
    land_texture,
    power_law_noise,
    sea_texture,
    soil_texture,
)
from tools.simulation.canvas import (
    SUPERSAMPLE,
    SURFACES,
    Canvas,
    View,
    sample_paints,
    sample_view,
)

__all__ = ["SURFACES", "SimulatedScene", "render_optical_chip", "render_optical_scene"]

_HAZE = np.array([150, 165, 185], np.float32)
_CLOUD = np.float32(235)


def render_optical_chip(
    ship: Ship | None,
    rng: np.random.Generator,
    size: int = 64,
    spacing: float | None = None,
    heading: float | None = None,
) -> NDArray[np.uint8]:
    """Simulate a chip of a ship on water, at a quay or aground, or a chip without a ship.

    Args:
        ship: the ship; None for an image without a ship.
        rng: source of randomness.
        size: side of the image in pixels.
        spacing: meters per pixel; None to draw it so that the ship spans 15 to 95 % of
            the image.
        heading: direction of the bow, in radians clockwise from up; None to draw it
            uniformly.

    Returns:
        Image (size, size, 3).
    """
    return render_optical_scene(ship, rng, size, spacing, heading).image


class SimulatedScene(NamedTuple):
    """Simulated image with its ground truth.

    Attributes:
        image: bytes (size, size, 3).
        relief: height above the water in beams of the ship (size, size); 0 outside the
            ship.
        surfaces: indices in SURFACES (size, size).
    """

    image: NDArray[np.uint8]
    relief: Float
    surfaces: NDArray[np.uint8]


def render_optical_scene(
    ship: Ship | None,
    rng: np.random.Generator,
    size: int = 64,
    spacing: float | None = None,
    heading: float | None = None,
) -> SimulatedScene:
    """Simulate a chip like `render_optical_chip`, and its ground truth.

    Args:
        ship: the ship; None for an image without a ship.
        rng: source of randomness.
        size: side of the image in pixels.
        spacing: meters per pixel; None to draw it so that the ship spans 15 to 95 % of
            the image.
        heading: direction of the bow, in radians clockwise from up; None to draw it
            uniformly.

    Returns:
        Image, height and surface type of every pixel.
    """
    if ship is None:
        image, ground = _background(rng, size * SUPERSAMPLE)
        return SimulatedScene(
            _expose(image, rng, size),
            np.zeros((size, size), np.float32),
            _sample(ground),
        )
    if spacing is None:
        spacing = ship.length / (size * np.exp(rng.uniform(np.log(0.15), np.log(0.95))))
    if heading is None:
        heading = rng.uniform(0, 2 * np.pi)
    view = sample_view(ship, rng, size, spacing, heading)
    canvas = Canvas(*_ship_background(ship, view, rng, size * SUPERSAMPLE), view)
    if rng.random() < 0.2:
        _draw_quay(canvas, ship, rng)
    canvas.draw_ship(ship, rng)
    relief = cv2.resize(
        canvas.ground_truth[..., 0], (size, size), interpolation=cv2.INTER_AREA
    ) / np.float32(ship.beam)
    return SimulatedScene(
        _expose(canvas.shaded_image(), rng, size),
        relief,
        _sample(canvas.ground_truth[..., 1]),
    )


def _sample(codes: Float) -> NDArray[np.uint8]:
    return codes[::SUPERSAMPLE, ::SUPERSAMPLE].astype(np.uint8)


def _background(rng: np.random.Generator, side: int) -> tuple[Float, Float]:
    """Draw land, open water, or a shore between them; return the image and the surface codes."""
    choice = rng.random()
    water = sea_texture(rng, side)
    flat = np.zeros((side, side), np.float32)
    if choice < 0.25:
        return water, flat
    ground, code = land_texture(rng, side)
    if choice < 0.75:
        shore = np.ones_like(flat, bool)
    else:
        shore = power_law_noise(rng, side, 4, rng.uniform(0.3, 1)) > rng.uniform(-1, 1)
    return np.where(shore[..., None], ground, water), np.where(
        shore, np.float32(code), flat
    )


def _ship_background(
    ship: Ship, view: View, rng: np.random.Generator, side: int
) -> tuple[Float, Float]:
    """Draw the surroundings of a ship: water, or land in 8 % of the images; return image and surface codes."""
    if rng.random() < 0.08:
        image, code = land_texture(rng, side)
        return image, np.full((side, side), code, np.float32)
    image = sea_texture(rng, side)
    if rng.random() < 0.4:
        _add_wake(image, ship, view, rng)
    return image, np.zeros((side, side), np.float32)


def _add_wake(image: Float, ship: Ship, view: View, rng: np.random.Generator) -> None:
    """Add the turbulent wake, and in half of the images the two arms of the Kelvin wake."""
    side = len(image)
    half = ship.beam / 2
    foam = np.zeros((side, side), np.float32)
    stern = -ship.length / 2
    end = -ship.length * rng.uniform(0.8, 3)
    spread = half * rng.uniform(1, 2)
    shapes = [np.array([[stern, -half], [stern, half], [end, spread], [end, -spread]])]
    if rng.random() < 0.5:
        bow = ship.length / 2
        reach = ship.length * rng.uniform(0.6, 2)
        for sign in (-1, 1):
            arm = sign * reach * np.tan(np.deg2rad(rng.uniform(10, 19.5)))
            shapes.append(
                np.array([[bow, 0], [bow - reach, arm], [bow - reach, arm * 0.82]])
            )
    for shape in shapes:
        fill_polygon(foam, view.to_canvas(shape), 1.0)
    foam = cv2.GaussianBlur(foam, (0, 0), rng.uniform(1, 3)) * (
        0.6 + 0.3 * power_law_noise(rng, side, 1)
    )
    image += (np.clip(foam, 0, 1) * rng.uniform(20, 140))[..., None]


def _draw_quay(canvas: Canvas, ship: Ship, rng: np.random.Generator) -> None:
    """Draw a quay along one side of the ship, with sheds, containers and cranes."""
    side = rng.choice([-1, 1])
    edge = ship.beam * rng.uniform(0.53, 0.8)
    reach = ship.length * 3
    height = ship.freeboard * rng.uniform(0.2, 0.8)
    corners = np.array(
        [[-reach, edge], [reach, edge], [reach, reach], [-reach, reach]]
    ) * (1, side)
    base = canvas.view.to_canvas(corners) + height * canvas.view.relief_displacement
    mask = np.zeros_like(canvas.illumination)
    canvas.fill_convex_hull(mask, base, 1.0)
    canvas.ground_truth[mask > 0, 1] = SURFACES.index("soil")
    canvas.image[mask > 0] = soil_texture(rng, len(mask))[mask > 0]
    sheds = []
    for _ in range(int(rng.integers(0, 9))):
        length = ship.beam * rng.uniform(0.3, 3)
        width = ship.beam * rng.uniform(0.2, 0.8)
        x = ship.length * rng.uniform(-0.8, 0.8)
        y = edge + width / 2 + ship.beam * rng.uniform(0.1, 2)
        kind = ("house", "container", "crane", "hatch")[rng.integers(4)]
        sheds.append(
            DeckObject(
                x, side * y, length, width, ship.beam * rng.uniform(0.1, 0.6), kind
            )
        )
    boxes = np.array([shed[:4] for shed in sheds]).reshape(-1, 4)
    bases = canvas.view.to_canvas(box_corners(boxes))
    canvas.draw_deck_objects(sheds, bases, height, sample_paints(ship, rng))
    canvas.ground_truth[..., 0] = 0  # the relief contains the ship only


def _expose(image: Float, rng: np.random.Generator, size: int) -> NDArray[np.uint8]:
    """Apply haze, clouds, blur, sampling and noise to an image (S, S, 3); return bytes (size, size, 3)."""
    veil = rng.uniform(0, 0.35) * (rng.random() < 0.6)
    gain = rng.uniform(0.7, 1.3)
    image = image * np.float32((1 - veil) * gain) + _HAZE * np.float32(veil)
    if rng.random() < 0.1:
        cloud = np.clip(
            power_law_noise(rng, len(image), 4, rng.uniform(0.5, 2)) * 0.5, 0, 0.85
        )[..., None]
        image += (_CLOUD - image) * cloud
    blurred = cv2.GaussianBlur(image, (0, 0), SUPERSAMPLE * rng.uniform(0.3, 1.0))
    sampled = np.asarray(
        cv2.resize(blurred, (size, size), interpolation=cv2.INTER_AREA), np.float32
    )
    read = np.float32(rng.uniform(0, 5))
    shot = np.float32(rng.uniform(0, 0.4))
    grain = rng.standard_normal(sampled.shape, np.float32)
    sampled += grain * np.sqrt(read**2 + shot**2 * np.maximum(sampled, 0))
    return np.clip(np.rint(sampled), 0, 255).astype(np.uint8)
