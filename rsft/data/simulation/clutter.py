"""Clutter of simulated SAR images: mean power of sea and land before speckle.

Sea and land are compound-Gaussian: speckle multiplies a gamma texture that is correlated in space. The amplitude is
then K-distributed (Ward, Tough and Watts, Sea Clutter, 2013).
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
_SHAPES = (0.6, 1.0, 1.6, 2.5, 4.0, 8.0, 16.0, 32.0, 64.0)  # of the gamma distribution, from spiky to smooth
_OUTLINE_POINTS = 400


@dataclass(frozen=True)
class Shore:
    """Shore: land is where x cos(angle) + y sin(angle) > offset, in meters of the image frame.

    A shore without bends is straight and built up, with a quay. A shore with bends is a natural coast.

    Attributes:
        angle: direction inland, in radians from +x to +y.
        offset: distance of the shore from the image center in meters.
        bends: waves of the coast: amplitude in meters, wavelength in meters, and phase in radians of each.
    """

    angle: float
    offset: float
    bends: tuple[tuple[float, float, float], ...] = ()

    @property
    def has_quay(self) -> bool:
        """Whether the shore is straight and built up."""
        return not self.bends

    def distance_inland(self, x: Float, y: Float) -> Float:
        """Return the distance of points from the shore, at a natural coast in the direction `angle`.

        Args:
            x: ground range in meters.
            y: azimuth in meters.

        Returns:
            Meters, positive on land and negative on water.
        """
        cos, sin = np.float32(np.cos(self.angle)), np.float32(np.sin(self.angle))
        distance = np.asarray(x * cos + y * sin - np.float32(self.offset))
        return distance - self._bend(y * cos - x * sin) if self.bends else distance

    def outline(self, reach: float) -> Float:
        """Return the land as a polygon.

        Args:
            reach: distance from the image center that the polygon covers, in meters.

        Returns:
            Corners (N, 2), x and y in meters of the image frame.
        """
        along = np.linspace(-reach, reach, _OUTLINE_POINTS, dtype=np.float32)
        inland = self.offset + self._bend(along)
        along, inland = np.append(along, [reach, -reach]), np.append(inland, [inland.max() + 2 * reach] * 2)
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        return np.stack([inland * cos - along * sin, inland * sin + along * cos], axis=1).astype(np.float32)

    def _bend(self, along: Float) -> Float:
        """Return how far inland the coast lies, relative to `offset`, at positions along it in meters."""
        waves = (amplitude * np.sin(2 * np.pi * along / length + phase) for amplitude, length, phase in self.bends)
        return np.asarray(sum(waves, np.zeros_like(along)), np.float32)


def pixel_grid(size: int, spacing: tuple[float, float]) -> tuple[Float, Float]:
    """Return the coordinates of the pixels, in meters from the image center.

    Args:
        size: side of the image in pixels.
        spacing: meters per pixel along azimuth and range.

    Returns:
        x (1, size) and y (size, 1).
    """
    steps = (np.arange(size) - (size - 1) / 2).astype(np.float32)
    return steps[None] * np.float32(spacing[1]), steps[:, None] * np.float32(spacing[0])


def sea_clutter_power(rng: np.random.Generator, size: int, spacing: tuple[float, float]) -> Float:
    """Draw the mean power of open water: wind texture and usually swell.

    Args:
        rng: source of randomness.
        size: side of the image in pixels.
        spacing: meters per pixel along azimuth and range.

    Returns:
        Power (size, size) with mean 1.
    """
    frequency_x, frequency_y = _frequencies(size, spacing)
    squared = frequency_x**2 + frequency_y**2
    correlation_length = rng.uniform(4, 20)
    spectrum = np.exp(-squared * np.float32(np.pi * correlation_length) ** 2) * np.float32(correlation_length)
    if rng.random() < 0.7:
        wavenumber, direction = 1 / rng.uniform(60, 180), rng.uniform(0, 2 * np.pi)
        squared_distance = (frequency_x - wavenumber * np.cos(direction)) ** 2 + (
            frequency_y - wavenumber * np.sin(direction)
        ) ** 2
        spectrum += rng.uniform(0, 25) * np.exp(-squared_distance / np.float32(2 * (wavenumber / 4) ** 2))
    return _gamma_field(rng, size, spectrum, _SHAPES[rng.integers(4, len(_SHAPES))])


def land_clutter_power(rng: np.random.Generator, size: int, spacing: tuple[float, float]) -> Float:
    """Draw the mean power of land, from fields to a dense port.

    Args:
        rng: source of randomness.
        size: side of the image in pixels.
        spacing: meters per pixel along azimuth and range.

    Returns:
        Power (size, size) relative to that of the sea.
    """
    frequency_x, frequency_y = _frequencies(size, spacing)
    correlation_length = rng.uniform(3, 10)
    spectrum = (1 + (frequency_x**2 + frequency_y**2) * np.float32(2 * np.pi * correlation_length * 2) ** 2) ** -1.0
    return _gamma_field(rng, size, spectrum, _SHAPES[rng.integers(0, 4)]) * np.float32(10 ** rng.uniform(0.5, 1.3))


def _frequencies(size: int, spacing: tuple[float, float]) -> tuple[Float, Float]:
    """Return the frequencies of a real FFT in cycles per meter: range (1, size // 2 + 1) and azimuth (size, 1)."""
    along_range = scipy.fft.rfftfreq(size, spacing[1]).astype(np.float32)[None]
    return along_range, scipy.fft.fftfreq(size, spacing[0]).astype(np.float32)[:, None]


def _gamma_field(rng: np.random.Generator, size: int, spectrum: Float, shape: float) -> Float:
    """Draw a gamma field (size, size) of mean 1 whose correlation is given by `spectrum` (size, size // 2 + 1)."""
    white = rng.standard_normal((size, size), np.float32)
    field = scipy.fft.irfft2(scipy.fft.rfft2(white) * spectrum.astype(np.float32), (size, size))
    field *= 1 / field.std()
    return np.asarray(np.interp(field, _QUANTILES, _gamma_table(shape)), np.float32)


@lru_cache(maxsize=len(_SHAPES))
def _gamma_table(shape: float) -> NDArray[np.float64]:
    """Return the values of a gamma distribution of mean 1 at the quantiles of a normal distribution."""
    return np.asarray(gamma.ppf(ndtr(_QUANTILES), shape, scale=1 / shape))
