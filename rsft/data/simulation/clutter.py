"""What lies around a simulated ship in a radar image: mean power of sea and land before speckle.

Sea and land are compound-Gaussian: a gamma texture, correlated in space, that speckle multiplies; the amplitude is then
K-distributed (Ward, Tough and Watts, Sea Clutter, 2013).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from scipy.special import ndtr
from scipy.stats import gamma

Float = NDArray[np.float32]

_QUANTILES = np.linspace(-3.5, 3.5, 141)
_SHAPES = (0.6, 1.0, 1.6, 2.5, 4.0, 8.0, 16.0, 32.0, 64.0)  # of the gamma law, from spiky to smooth


@dataclass(frozen=True)
class Shore:
    """Land where x cos(angle) + y sin(angle) > offset, in metres of the image frame."""

    angle: float
    offset: float

    def distance_inland(self, x: Float, y: Float) -> Float:
        """Metres inland of points; negative on water."""
        return np.asarray(
            x * np.float32(np.cos(self.angle)) + y * np.float32(np.sin(self.angle)) - np.float32(self.offset)
        )


def pixel_grid(size: int, spacing: tuple[float, float]) -> tuple[Float, Float]:
    """x (1, size) and y (size, 1) of the pixels, metres from the centre; spacing along azimuth, range."""
    steps = (np.arange(size) - (size - 1) / 2).astype(np.float32)
    return steps[None] * np.float32(spacing[1]), steps[:, None] * np.float32(spacing[0])


def sea_clutter_power(rng: np.random.Generator, size: int, spacing: tuple[float, float]) -> Float:
    """Mean power (size, size) of open water, mean 1: wind texture and, mostly, swell."""
    frequency_x, frequency_y = _frequencies(size, spacing)
    squared = frequency_x**2 + frequency_y**2
    reach = rng.uniform(4, 20)
    spectrum = np.exp(-squared * np.float32(np.pi * reach) ** 2) * np.float32(reach)
    if rng.random() < 0.7:
        wave, toward = 1 / rng.uniform(60, 180), rng.uniform(0, 2 * np.pi)
        along = (frequency_x - wave * np.cos(toward)) ** 2 + (frequency_y - wave * np.sin(toward)) ** 2
        spectrum += rng.uniform(0, 25) * np.exp(-along / np.float32(2 * (wave / 4) ** 2))
    return _textured(rng, size, spectrum, _SHAPES[rng.integers(4, len(_SHAPES))])


def land_clutter_power(rng: np.random.Generator, size: int, spacing: tuple[float, float]) -> Float:
    """Mean power (size, size) of land over that of the sea: fields to dense port, spiky."""
    frequency_x, frequency_y = _frequencies(size, spacing)
    reach = rng.uniform(3, 10)
    spectrum = (1 + (frequency_x**2 + frequency_y**2) * np.float32(2 * np.pi * reach * 2) ** 2) ** -1.0
    return _textured(rng, size, spectrum, _SHAPES[rng.integers(0, 4)]) * np.float32(10 ** rng.uniform(0.5, 1.3))


def _frequencies(size: int, spacing: tuple[float, float]) -> tuple[Float, Float]:
    """Of a real transform, cycles a metre: along range (1, size // 2 + 1) and azimuth (size, 1)."""
    along_range = scipy.fft.rfftfreq(size, spacing[1]).astype(np.float32)[None]
    return along_range, scipy.fft.fftfreq(size, spacing[0]).astype(np.float32)[:, None]


def _textured(rng: np.random.Generator, size: int, spectrum: Float, shape: float) -> Float:
    """A gamma field of mean 1, correlated as a Gaussian field of amplitude `spectrum` (size, size // 2 + 1)."""
    white = rng.standard_normal((size, size), np.float32)
    field = scipy.fft.irfft2(scipy.fft.rfft2(white) * spectrum.astype(np.float32), (size, size))
    field *= 1 / field.std()
    return np.asarray(np.interp(field, _QUANTILES, _gamma_table(shape)), np.float32)


@lru_cache(maxsize=len(_SHAPES))
def _gamma_table(shape: float) -> NDArray[np.float64]:
    """Values of a gamma law of mean 1 at the quantiles of a normal law."""
    return np.asarray(gamma.ppf(ndtr(_QUANTILES), shape, scale=1 / shape))
