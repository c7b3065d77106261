"""Simulated ships as an optical sensor sees them from above: sun, shadows, wake, quay, haze, blur and noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from rsft.sources.simulated.backgrounds import GROUNDS, Float, land, noise, sea, soil
from rsft.sources.simulated.ships import PARTS, Part, Ship

Points = NDArray[np.float64]
Colour = NDArray[np.float64]  # (3,) in 0-255
Paints = dict[str, NDArray[np.float64]]  # colours (P, 3) of each kind of part

SURFACES = (*GROUNDS, "hull", *PARTS)

_SUPERSAMPLE = 2
_CODES = {name: code for code, name in enumerate(SURFACES)}
_FRACTION_BITS = 4  # of polygon corners, so that edges fall between pixels

_CONTAINER_PAINTS = 5  # on one ship

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
_HAZE, _CLOUD = np.array([150, 165, 185], np.float32), np.float32(235)
_WARSHIP_GREYS = np.array([[105, 112, 118], [135, 140, 145], [160, 165, 168]], np.float64)


@dataclass(frozen=True)
class _View:
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
    look: Points
    shadow: Points
    ambient: float

    def place(self, points: Points) -> Points:
        """Ship coordinates (..., 2) in metres -> canvas pixels (..., 2)."""
        return self.origin + points @ self.axes


def render_optical(
    ship: Ship | None,
    rng: np.random.Generator,
    size: int = 64,
    spacing: float | None = None,
    heading: float | None = None,
) -> NDArray[np.uint8]:
    """A chip (size, size, 3) with `ship` on water, at a quay or aground, or without any ship.

    Args:
        spacing: metres a pixel; drawn so that the ship spans 15 to 95 % of the chip where None.
        heading: of the bow, radians clockwise from up; uniformly random where None.
    """
    return render_scene(ship, rng, size, spacing, heading).image


class Scene(NamedTuple):
    """An image and what it shows.

    Attributes:
        image: (size, size, 3) bytes.
        relief: (size, size), height over water in beams of the ship; 0 beside the ship.
        surfaces: (size, size), places in SURFACES.
    """

    image: NDArray[np.uint8]
    relief: Float
    surfaces: NDArray[np.uint8]


def render_scene(
    ship: Ship | None,
    rng: np.random.Generator,
    size: int = 64,
    spacing: float | None = None,
    heading: float | None = None,
) -> Scene:
    """As `render_optical`, with the truth of every pixel."""
    if ship is None:
        image, ground = _scenery(rng, size * _SUPERSAMPLE)
        return Scene(_expose(image, rng, size), np.zeros((size, size), np.float32), _sample(ground))
    if spacing is None:
        spacing = ship.length / (size * np.exp(rng.uniform(np.log(0.15), np.log(0.95))))
    if heading is None:
        heading = rng.uniform(0, 2 * np.pi)
    view = _draw_view(ship, rng, size, spacing, heading)
    canvas = _Canvas(*_surroundings(ship, view, rng, size * _SUPERSAMPLE), view)
    if rng.random() < 0.2:
        _moor(canvas, ship, rng)
    canvas.paint_ship(ship, rng)
    relief = cv2.resize(canvas.truth[..., 0], (size, size), interpolation=cv2.INTER_AREA) / np.float32(ship.beam)
    return Scene(_expose(canvas.lit(), rng, size), relief, _sample(canvas.truth[..., 1]))


def _sample(codes: Float) -> NDArray[np.uint8]:
    return codes[::_SUPERSAMPLE, ::_SUPERSAMPLE].astype(np.uint8)


class _Canvas:
    """The supersampled image, how much light falls, and the truth: height in metres and place in SURFACES."""

    def __init__(self, image: Float, ground: Float, view: _View) -> None:
        self.image, self.view = image, view
        self.light = np.ones(image.shape[:2], np.float32)
        self.truth = np.stack([np.zeros_like(ground), ground], axis=2)

    def fill(self, layer: Float, points: Points, value: float | NDArray[np.floating]) -> None:
        """Fill the convex hull of canvas points (N, 2)."""
        fixed = (points * (1 << _FRACTION_BITS)).astype(np.int32)
        colour = (value,) if isinstance(value, float) else value.tolist()
        cv2.fillConvexPoly(layer, cv2.convexHull(fixed), colour, shift=_FRACTION_BITS)

    def block(self, kind: str, base: Points, low: float, high: float, wall: Colour, top: Colour) -> None:
        """A prism on a base (N, 2) of canvas points, from `low` to `high` metres over the water."""
        roof = base + high * self.view.look
        body = np.concatenate([base + low * self.view.look, roof])
        self.fill(self.image, body, wall)
        self.fill(self.image, roof, top)
        self.fill(self.light, body, 1.0)
        self.fill(self.truth, body, np.array([high, _CODES[kind]]))

    def shade(self, base: Points, ground_height: float, rise: float) -> None:
        """The shadow that a prism `rise` metres high casts on a plane at `ground_height`."""
        foot = base + ground_height * self.view.look
        self.fill(self.light, np.concatenate([foot, foot + rise * self.view.shadow]), self.view.ambient)

    def paint_parts(self, parts: tuple[Part, ...], bases: Points, plane: float, paints: Paints) -> None:
        """Boxes on bases (P, 4, 2) that stand on a plane; a kind with several paints takes them in turn."""
        for index, (part, base) in enumerate(zip(parts, bases, strict=True)):
            self.shade(base, plane, part.height)
            colours = paints[part.kind]
            colour = colours[index % len(colours)]
            self.block(part.kind, base, plane, plane + part.height, colour * 0.7, colour)

    def paint_ship(self, ship: Ship, rng: np.random.Generator) -> None:
        """Shadows on the water, the hull, its deck, then every part from low to high."""
        paints = _draw_paints(ship, rng)
        outline, bases = self.view.place(ship.outline()), self.view.place(_corners(ship.parts))
        self.shade(outline, 0, ship.freeboard)
        for part, base in zip(ship.parts, bases, strict=True):
            self.shade(base, 0, ship.freeboard + part.height)
        self.block("hull", outline, 0, ship.freeboard, paints["hull"][0], paints["deck"][0])
        self.paint_parts(ship.parts, bases, ship.freeboard, paints)
        weather = 1 + noise(rng, len(self.image), int(rng.integers(3))) * np.float32(rng.uniform(0, 0.12))
        weather[self.truth[..., 0] == 0] = 1
        self.image *= weather[..., None]

    def lit(self) -> Float:
        """The image under its light."""
        return np.asarray(self.image * self.light[..., None], np.float32)


def _corners(parts: tuple[Part, ...]) -> Points:
    """The four corners of each part, (P, 4, 2) in ship coordinates."""
    signs = np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]])
    boxes = np.array([(part.x, part.y, part.length, part.width) for part in parts]).reshape(-1, 1, 4)
    return np.asarray(signs * boxes[..., 2:] + boxes[..., :2])


def _draw_view(ship: Ship, rng: np.random.Generator, size: int, spacing: float, heading: float) -> _View:
    scale = _SUPERSAMPLE / spacing
    bow = np.array([np.sin(heading), -np.cos(heading)])
    starboard = np.array([np.cos(heading), np.sin(heading)])
    margin = np.maximum(0.5 - 0.45 * ship.length / spacing / size * np.abs(bow), 0.06)  # keeps the hull in sight
    origin = (0.5 + rng.uniform(-1, 1, 2) * margin * rng.uniform(0, 0.7)) * size * _SUPERSAMPLE
    tilt = np.tan(np.deg2rad(rng.uniform(0, 30) if rng.random() < 0.5 else 3))
    length = 1 / np.tan(np.deg2rad(rng.uniform(25, 80)))
    azimuths = rng.uniform(0, 2 * np.pi, 2)
    look, shadow = scale * np.stack([np.cos(azimuths), np.sin(azimuths)], 1) * ((tilt,), (length,))
    ambient = rng.uniform(0.3, 0.6) if rng.random() < 0.85 else 0.95  # overcast: hardly any shadow
    return _View(origin, scale * np.stack([bow, starboard]), look, shadow, ambient)


def _draw_paints(ship: Ship, rng: np.random.Generator) -> Paints:
    """One paint a kind of part and ship, but containers in many."""
    worn = rng.uniform(0.85, 1.15, (len(_PAINTS), _CONTAINER_PAINTS, 3)) * rng.uniform(0.7, 1.15)
    choice = rng.random((len(_PAINTS), _CONTAINER_PAINTS))
    paints = {}
    for kind, fade, chosen in zip(_PAINTS, worn, choice, strict=True):
        count = _CONTAINER_PAINTS if kind == "container" else 1
        palette = _PAINTS[kind]
        paints[kind] = palette[(chosen[:count] * len(palette)).astype(int)] * fade[:count]
    if ship.kind == "patrol" and rng.random() < 0.7:
        grey = _WARSHIP_GREYS[rng.integers(len(_WARSHIP_GREYS))]
        paints = {kind: grey[None] * rng.uniform(0.8, 1.15) for kind in paints}
    return paints


def _scenery(rng: np.random.Generator, side: int) -> tuple[Float, Float]:
    """No ship: land, open water, or a shore between the two; with the place in SURFACES of every pixel."""
    where = rng.random()
    water, flat = sea(rng, side), np.zeros((side, side), np.float32)
    if where < 0.25:
        return water, flat
    ashore, code = land(rng, side)
    shore = np.ones_like(flat, bool) if where < 0.75 else noise(rng, side, 4, rng.uniform(0.3, 1)) > rng.uniform(-1, 1)
    return np.where(shore[..., None], ashore, water), np.where(shore, np.float32(code), flat)


def _surroundings(ship: Ship, view: _View, rng: np.random.Generator, side: int) -> tuple[Float, Float]:
    """Water around a ship, or now and then land: in dock or on a beach."""
    if rng.random() < 0.08:
        image, code = land(rng, side)
        return image, np.full((side, side), code, np.float32)
    image = sea(rng, side)
    if rng.random() < 0.4:
        _add_wake(image, ship, view, rng)
    return image, np.zeros((side, side), np.float32)


def _add_wake(image: Float, ship: Ship, view: _View, rng: np.random.Generator) -> None:
    """Turbulent wake astern, and at times the two arms of the Kelvin wake."""
    side, half = len(image), ship.beam / 2
    foam = np.zeros((side, side), np.float32)
    stern, end = -ship.length / 2, -ship.length * rng.uniform(0.8, 3)
    spread = half * rng.uniform(1, 2)
    shapes = [np.array([[stern, -half], [stern, half], [end, spread], [end, -spread]])]
    if rng.random() < 0.5:
        bow, reach = ship.length / 2, ship.length * rng.uniform(0.6, 2)
        for sign in (-1, 1):
            arm = sign * reach * np.tan(np.deg2rad(rng.uniform(10, 19.5)))
            shapes.append(np.array([[bow, 0], [bow - reach, arm], [bow - reach, arm * 0.82]]))
    for shape in shapes:
        fixed = np.rint(view.place(shape) * (1 << _FRACTION_BITS)).astype(np.int32)
        cv2.fillConvexPoly(foam, fixed, 1.0, shift=_FRACTION_BITS)
    foam = cv2.GaussianBlur(foam, (0, 0), rng.uniform(1, 3)) * (0.6 + 0.3 * noise(rng, side, 1))
    image += (np.clip(foam, 0, 1) * rng.uniform(20, 140))[..., None]


def _moor(canvas: _Canvas, ship: Ship, rng: np.random.Generator) -> None:
    """A quay along one side of the ship, with sheds, stacks and cranes on it."""
    side = rng.choice([-1, 1])
    edge, reach, height = ship.beam * rng.uniform(0.53, 0.8), ship.length * 3, ship.freeboard * rng.uniform(0.2, 0.8)
    corners = np.array([[-reach, edge], [reach, edge], [reach, reach], [-reach, reach]]) * (1, side)
    base = canvas.view.place(corners) + height * canvas.view.look
    mask = np.zeros_like(canvas.light)
    canvas.fill(mask, base, 1.0)
    canvas.truth[mask > 0, 1] = _CODES["soil"]
    canvas.image[mask > 0] = soil(rng, len(mask))[mask > 0]
    sheds = []
    for _ in range(int(rng.integers(0, 9))):
        length, width = ship.beam * rng.uniform(0.3, 3), ship.beam * rng.uniform(0.2, 0.8)
        x, y = ship.length * rng.uniform(-0.8, 0.8), edge + width / 2 + ship.beam * rng.uniform(0.1, 2)
        kind = ("house", "container", "crane", "hatch")[rng.integers(4)]
        sheds.append(Part(x, side * y, length, width, ship.beam * rng.uniform(0.1, 0.6), kind))
    bases = canvas.view.place(_corners(tuple(sheds)))
    canvas.paint_parts(tuple(sheds), bases, height, _draw_paints(ship, rng))
    canvas.truth[..., 0] = 0  # only the ship counts


def _expose(image: Float, rng: np.random.Generator, size: int) -> NDArray[np.uint8]:
    """Haze, clouds, the sensor's blur, sampling and noise: (S, S, 3) -> (size, size, 3) bytes."""
    veil, gain = rng.uniform(0, 0.35) * (rng.random() < 0.6), rng.uniform(0.7, 1.3)
    image = image * np.float32((1 - veil) * gain) + _HAZE * np.float32(veil)
    if rng.random() < 0.1:
        cloud = np.clip(noise(rng, len(image), 4, rng.uniform(0.5, 2)) * 0.5, 0, 0.85)[..., None]
        image += (_CLOUD - image) * cloud
    blurred = cv2.GaussianBlur(image, (0, 0), _SUPERSAMPLE * rng.uniform(0.3, 1.0))
    sampled = np.asarray(cv2.resize(blurred, (size, size), interpolation=cv2.INTER_AREA), np.float32)
    read, shot = np.float32(rng.uniform(0, 5)), np.float32(rng.uniform(0, 0.4))
    grain = rng.standard_normal(sampled.shape, np.float32)
    sampled += grain * np.sqrt(read**2 + shot**2 * np.maximum(sampled, 0))
    return np.clip(np.rint(sampled), 0, 255).astype(np.uint8)
