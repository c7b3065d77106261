"""Backgrounds of simulated optical images: sea, fields, woods, roofs and bare ground.

Textures are rotated, scaled and shifted views of a few periodic noise fields, which are
computed once.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]

GROUND_TYPES = ("water", "soil", "woods", "fields", "roofs")
"""Kinds of background; the codes of `land_texture` are positions in it."""

_SIDE = 512  # of the noise fields, in texels
# exponents of the amplitude spectrum, from grainy to cloudy
_SLOPES = (
    0.6,
    1.0,
    1.4,
    1.8,
    2.4,
)
# clear to turbid
_WATERS = np.array(
    [[8, 30, 65], [20, 75, 100], [35, 75, 60], [95, 90, 70], [85, 95, 105]]
)
_SEAS = (8.0, 14.0, 24.0, 40.0)  # dominant wavelength in texels


@lru_cache(maxsize=1)
def _noise_fields() -> tuple[list[Float], list[Float]]:
    """Return periodic fields of zero mean and unit variance: power-law noise, and wind seas along x."""
    rng = np.random.default_rng(20)
    fy, fx = np.meshgrid(np.fft.fftfreq(_SIDE), np.fft.fftfreq(_SIDE), indexing="ij")
    frequency = np.hypot(fx, fy)
    frequency[0, 0] = np.inf
    angle = np.arctan2(fy, fx)
    spectra = [frequency**-slope for slope in _SLOPES]
    for wavelength in _SEAS:
        ratio = frequency * wavelength
        # Pierson-Moskowitz peak in wavenumber; energy spread as cos^4 around the wind
        # direction
        spectra.append(ratio**-1.5 * np.exp(-0.6 * ratio**-2.0) * np.cos(angle) ** 2)
    fields = []
    for spectrum in spectra:
        field = np.fft.ifft2(
            spectrum * np.fft.fft2(rng.standard_normal((_SIDE, _SIDE)))
        ).real
        fields.append(((field - field.mean()) / field.std()).astype(np.float32))
    return fields[: len(_SLOPES)], fields[len(_SLOPES) :]


def _view(field: Float, rng: np.random.Generator, side: int, scale: float) -> Float:
    """Return a rotated and shifted view (side, side) of a field, with `scale` texels per pixel."""
    angle = rng.uniform(0, 2 * np.pi)
    cos = scale * np.cos(angle)
    sin = scale * np.sin(angle)
    matrix = np.array(
        [[cos, -sin, rng.uniform(0, _SIDE)], [sin, cos, rng.uniform(0, _SIDE)]]
    )
    flags = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
    return np.asarray(
        cv2.warpAffine(
            field, matrix, (side, side), flags=flags, borderMode=cv2.BORDER_WRAP
        )
    )


def power_law_noise(
    rng: np.random.Generator, side: int, roughness: int, scale: float = 1.0
) -> Float:
    """Draw isotropic power-law noise.

    Args:
        rng: source of randomness.
        side: side of the image in pixels.
        roughness: 0 (grainy) to 4 (cloudy).
        scale: texels per pixel.

    Returns:
        Noise (side, side) of unit variance.
    """
    return _view(_noise_fields()[0][roughness], rng, side, scale)


def tint(color: NDArray[np.floating], shade: Float) -> Float:
    """Multiply a color by 1 + shade.

    Args:
        color: (3,).
        shade: (side, side).

    Returns:
        Image (side, side, 3).
    """
    return np.asarray(
        np.multiply.outer(1 + shade, color.astype(np.float32)), np.float32
    )


def sea_texture(rng: np.random.Generator, side: int) -> Float:
    """Draw open water: waves, slicks, and sometimes whitecaps or sun glint.

    Args:
        rng: source of randomness.
        side: side of the image in pixels.

    Returns:
        Image (side, side, 3), 0-255.
    """
    color = rng.dirichlet(np.ones(len(_WATERS))) @ _WATERS * rng.uniform(0.6, 1.6)
    waves = _view(
        _noise_fields()[1][rng.integers(len(_SEAS))], rng, side, rng.uniform(0.4, 2)
    )
    shade = waves * rng.uniform(0.01, 0.14) + power_law_noise(
        rng, side, 4
    ) * rng.uniform(0, 0.15)
    image = tint(color, shade)
    if rng.random() < 0.2:
        # whitecaps
        image += (np.maximum(waves - rng.uniform(1.6, 2.6), 0) * rng.uniform(60, 160))[
            ..., None
        ]
    if rng.random() < 0.15:
        glitter = np.exp(
            power_law_noise(rng, side, 0) * rng.uniform(0.2, 0.6)
            + power_law_noise(rng, side, 4) * 0.3
        )
        image += (glitter * rng.uniform(20, 90))[..., None]
    return image


def soil_texture(rng: np.random.Generator, side: int) -> Float:
    """Draw bare soil, sand or concrete.

    Args:
        rng: source of randomness.
        side: side of the image in pixels.

    Returns:
        Image (side, side, 3), 0-255.
    """
    gray = rng.uniform(60, 200)
    color = gray * np.array([1.05, 1.0, 0.93]) ** rng.uniform(-0.5, 3)
    return tint(
        color,
        power_law_noise(rng, side, int(rng.integers(0, 4))) * rng.uniform(0.02, 0.15),
    )


def woods_texture(rng: np.random.Generator, side: int) -> Float:
    """Draw tree crowns that are lit from one side.

    Args:
        rng: source of randomness.
        side: side of the image in pixels.

    Returns:
        Image (side, side, 3), 0-255.
    """
    crowns = cv2.GaussianBlur(
        power_law_noise(rng, side, 0, rng.uniform(0.3, 1)),
        (0, 0),
        rng.uniform(0.8, 2.5),
    )
    crowns = crowns / (crowns.std() + 1e-3)
    color = np.array([rng.uniform(25, 70), rng.uniform(50, 95), rng.uniform(20, 55)])
    relief = crowns - np.roll(crowns, rng.integers(-2, 3, 2), (0, 1))
    return tint(color, relief * rng.uniform(0.1, 0.3) + crowns * 0.15)


def fields_texture(rng: np.random.Generator, side: int) -> Float:
    """Draw farmland: strips of parcels, each with its own crop and furrows.

    Args:
        rng: source of randomness.
        side: side of the image in pixels.

    Returns:
        Image (side, side, 3), 0-255.
    """
    x, y = _rotated_grid(rng, side)
    strip = np.floor(y / rng.uniform(0.25, 0.7)).astype(int)
    parcel = np.floor(x / rng.uniform(0.3, 0.9) + strip * 0.37).astype(int)
    key = (strip * 5 + parcel) % 13
    crops = (
        np.array([105, 105, 70])
        * rng.uniform(0.5, 1.5, (13, 1))
        * rng.uniform(0.85, 1.15, (13, 3))
    )
    shade = power_law_noise(rng, side, 2) * 0.06 + np.sin(
        x * rng.uniform(60, 200)
    ) * rng.uniform(0, 0.08)
    return np.asarray(crops[key] * (1 + shade)[..., None], np.float32)


def roofs_texture(rng: np.random.Generator, side: int) -> Float:
    """Draw a built-up area: rows of roofs with shadows.

    Args:
        rng: source of randomness.
        side: side of the image in pixels.

    Returns:
        Image (side, side, 3), 0-255.
    """
    image = soil_texture(rng, side) * rng.uniform(0.5, 0.9)
    pitch = side * rng.uniform(0.1, 0.35)
    turn = rng.uniform(0, 90)
    sun = rng.uniform(-0.25, 0.25, 2) * pitch
    steps = np.arange(-0.75 * side, 0.75 * side, pitch)
    cos = np.cos(np.deg2rad(turn))
    sin = np.sin(np.deg2rad(turn))
    palette = (
        np.array(
            [
                [150, 80, 60],
                [170, 165, 160],
                [90, 90, 95],
                [200, 195, 185],
                [120, 100, 85],
            ]
        )
        * 1.0
    )
    for u in steps:
        for v in steps + rng.uniform(0, pitch):
            if rng.random() < 0.2:
                continue
            center = np.array([cos * u - sin * v, sin * u + cos * v]) + side / 2
            if abs(center - side / 2).max() > 0.6 * side:
                continue
            extent = pitch * rng.uniform(0.35, 0.85, 2)
            color = palette[rng.integers(5)] * rng.uniform(0.7, 1.2)
            _rectangle(image, center + sun, extent, turn, color * 0.2)
            _rectangle(image, center, extent, turn, color)
    return image * (1 + power_law_noise(rng, side, 1) * 0.06)[..., None]


def land_texture(rng: np.random.Generator, side: int) -> tuple[Float, int]:
    """Draw land of a random type.

    Args:
        rng: source of randomness.
        side: side of the image in pixels.

    Returns:
        Image (side, side, 3), 0-255, and its index in GROUND_TYPES.
    """
    code = int(rng.integers(1, len(GROUND_TYPES)))
    return (sea_texture, soil_texture, woods_texture, fields_texture, roofs_texture)[
        code
    ](rng, side), code


def _rotated_grid(rng: np.random.Generator, side: int) -> tuple[Float, Float]:
    """Return the pixel coordinates in a rotated frame in which the image is 2 wide."""
    angle = rng.uniform(0, np.pi)
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j].astype(np.float32)
    return np.cos(angle) * x - np.sin(angle) * y, np.sin(angle) * x + np.cos(angle) * y


def _rectangle(
    image: Float,
    center: NDArray[np.float64],
    extent: NDArray[np.float64],
    turn: float,
    color: NDArray[np.float64],
) -> None:
    corners = cv2.boxPoints((tuple(center), tuple(extent), turn))
    cv2.fillConvexPoly(image, np.rint(corners).astype(np.int32), tuple(color))
