"""What lies around a simulated ship in an optical image: sea, fields, woods, roofs, bare ground.

Textures are views, turned, scaled and shifted, of a few periodic noise fields that are made once.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]

GROUND_TYPES = ("water", "soil", "woods", "fields", "roofs")

_SIDE = 512
_SLOPES = (0.6, 1.0, 1.4, 1.8, 2.4)  # of the amplitude spectrum, from grainy to cloudy
_WATERS = np.array([[8, 30, 65], [20, 75, 100], [35, 75, 60], [95, 90, 70], [85, 95, 105]])  # clear to turbid
_SEAS = (8.0, 14.0, 24.0, 40.0)  # dominant wavelength in texels


@lru_cache(maxsize=1)
def _bank() -> tuple[list[Float], list[Float]]:
    """Periodic fields of zero mean and unit variance: power-law noise, and wind seas running along x."""
    rng = np.random.default_rng(20)
    fy, fx = np.meshgrid(np.fft.fftfreq(_SIDE), np.fft.fftfreq(_SIDE), indexing="ij")
    frequency = np.hypot(fx, fy)
    frequency[0, 0] = np.inf
    angle = np.arctan2(fy, fx)
    spectra = [frequency**-slope for slope in _SLOPES]
    for wavelength in _SEAS:
        ratio = frequency * wavelength
        # Pierson-Moskowitz peak in wavenumber, energy spread as cos^4 about the wind
        spectra.append(ratio**-1.5 * np.exp(-0.6 * ratio**-2.0) * np.cos(angle) ** 2)
    fields = []
    for spectrum in spectra:
        field = np.fft.ifft2(spectrum * np.fft.fft2(rng.standard_normal((_SIDE, _SIDE)))).real
        fields.append(((field - field.mean()) / field.std()).astype(np.float32))
    return fields[: len(_SLOPES)], fields[len(_SLOPES) :]


def _view(field: Float, rng: np.random.Generator, side: int, scale: float) -> Float:
    """A turned and shifted view (side, side) of a field, `scale` texels a pixel."""
    angle = rng.uniform(0, 2 * np.pi)
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    matrix = np.array([[cos, -sin, rng.uniform(0, _SIDE)], [sin, cos, rng.uniform(0, _SIDE)]])
    flags = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(field, matrix, (side, side), flags=flags, borderMode=cv2.BORDER_WRAP))


def power_law_noise(rng: np.random.Generator, side: int, roughness: int, scale: float = 1.0) -> Float:
    """Isotropic noise (side, side) of unit variance; roughness 0 is grainy, 4 is cloudy."""
    return _view(_bank()[0][roughness], rng, side, scale)


def tint(colour: NDArray[np.floating], shade: Float) -> Float:
    """A colour (3,) times 1 + shade (side, side): an image (side, side, 3)."""
    return np.asarray(np.multiply.outer(1 + shade, colour.astype(np.float32)), np.float32)


def sea_texture(rng: np.random.Generator, side: int) -> Float:
    """Open water (side, side, 3) in 0-255: waves, slicks, and now and then whitecaps or sun glint."""
    colour = rng.dirichlet(np.ones(len(_WATERS))) @ _WATERS * rng.uniform(0.6, 1.6)
    waves = _view(_bank()[1][rng.integers(len(_SEAS))], rng, side, rng.uniform(0.4, 2))
    shade = waves * rng.uniform(0.01, 0.14) + power_law_noise(rng, side, 4) * rng.uniform(0, 0.15)
    image = tint(colour, shade)
    if rng.random() < 0.2:
        image += (np.maximum(waves - rng.uniform(1.6, 2.6), 0) * rng.uniform(60, 160))[..., None]  # whitecaps
    if rng.random() < 0.15:
        glitter = np.exp(power_law_noise(rng, side, 0) * rng.uniform(0.2, 0.6) + power_law_noise(rng, side, 4) * 0.3)
        image += (glitter * rng.uniform(20, 90))[..., None]
    return image


def soil_texture(rng: np.random.Generator, side: int) -> Float:
    """Bare soil, sand or concrete (side, side, 3) in 0-255."""
    grey = rng.uniform(60, 200)
    colour = grey * np.array([1.05, 1.0, 0.93]) ** rng.uniform(-0.5, 3)
    return tint(colour, power_law_noise(rng, side, int(rng.integers(0, 4))) * rng.uniform(0.02, 0.15))


def woods_texture(rng: np.random.Generator, side: int) -> Float:
    """Tree crowns lit from one side (side, side, 3) in 0-255."""
    crowns = cv2.GaussianBlur(power_law_noise(rng, side, 0, rng.uniform(0.3, 1)), (0, 0), rng.uniform(0.8, 2.5))
    crowns = crowns / (crowns.std() + 1e-3)
    colour = np.array([rng.uniform(25, 70), rng.uniform(50, 95), rng.uniform(20, 55)])
    relief = crowns - np.roll(crowns, rng.integers(-2, 3, 2), (0, 1))
    return tint(colour, relief * rng.uniform(0.1, 0.3) + crowns * 0.15)


def fields_texture(rng: np.random.Generator, side: int) -> Float:
    """Farmland (side, side, 3) in 0-255: parcels in strips, each with its crop and its furrows."""
    x, y = _turned(rng, side)
    strip = np.floor(y / rng.uniform(0.25, 0.7)).astype(int)
    parcel = np.floor(x / rng.uniform(0.3, 0.9) + strip * 0.37).astype(int)
    key = (strip * 5 + parcel) % 13
    crops = np.array([105, 105, 70]) * rng.uniform(0.5, 1.5, (13, 1)) * rng.uniform(0.85, 1.15, (13, 3))
    shade = power_law_noise(rng, side, 2) * 0.06 + np.sin(x * rng.uniform(60, 200)) * rng.uniform(0, 0.08)
    return np.asarray(crops[key] * (1 + shade)[..., None], np.float32)


def roofs_texture(rng: np.random.Generator, side: int) -> Float:
    """A built-up quarter (side, side, 3) in 0-255: roofs with cast shadows in rows along streets."""
    image = soil_texture(rng, side) * rng.uniform(0.5, 0.9)
    pitch, turn = side * rng.uniform(0.1, 0.35), rng.uniform(0, 90)
    sun = rng.uniform(-0.25, 0.25, 2) * pitch
    steps = np.arange(-0.75 * side, 0.75 * side, pitch)
    cos, sin = np.cos(np.deg2rad(turn)), np.sin(np.deg2rad(turn))
    palette = np.array([[150, 80, 60], [170, 165, 160], [90, 90, 95], [200, 195, 185], [120, 100, 85]]) * 1.0
    for u in steps:
        for v in steps + rng.uniform(0, pitch):
            if rng.random() < 0.2:
                continue
            centre = np.array([cos * u - sin * v, sin * u + cos * v]) + side / 2
            if abs(centre - side / 2).max() > 0.6 * side:
                continue
            extent = pitch * rng.uniform(0.35, 0.85, 2)
            colour = palette[rng.integers(5)] * rng.uniform(0.7, 1.2)
            _rectangle(image, centre + sun, extent, turn, colour * 0.2)
            _rectangle(image, centre, extent, turn, colour)
    return image * (1 + power_law_noise(rng, side, 1) * 0.06)[..., None]


def land_texture(rng: np.random.Generator, side: int) -> tuple[Float, int]:
    """Any land (side, side, 3) in 0-255, and its place in GROUNDS."""
    code = int(rng.integers(1, len(GROUND_TYPES)))
    return (sea_texture, soil_texture, woods_texture, fields_texture, roofs_texture)[code](rng, side), code


def _turned(rng: np.random.Generator, side: int) -> tuple[Float, Float]:
    """Coordinates of the pixels in a turned frame, the image 2 wide."""
    angle = rng.uniform(0, np.pi)
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j].astype(np.float32)
    return np.cos(angle) * x - np.sin(angle) * y, np.sin(angle) * x + np.cos(angle) * y


def _rectangle(
    image: Float, centre: NDArray[np.float64], extent: NDArray[np.float64], turn: float, colour: NDArray[np.float64]
) -> None:
    corners = cv2.boxPoints((tuple(centre), tuple(extent), turn))
    cv2.fillConvexPoly(image, np.rint(corners).astype(np.int32), tuple(colour))
