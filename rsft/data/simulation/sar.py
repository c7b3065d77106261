"""Simulated SAR images: scatterers and clutter, convolved with the impulse response of the sensor, then detected."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from rsft.data.simulation.clutter import Shore, land_clutter_power, pixel_grid, sea_clutter_power
from rsft.data.simulation.scatterers import (
    Pose,
    Scatterers,
    height_map,
    sample_ship_scatterers,
    sample_shore_scatterers,
)
from rsft.data.simulation.ships import Ship

Float = NDArray[np.float32]
Complex = NDArray[np.complex64]

_NOISE = 0.1  # noise power of the sensor, relative to the sea; the power in a shadow


@dataclass(frozen=True)
class SarSensor:
    """Imaging geometry and processing of a SAR sensor.

    Attributes:
        spacing: meters per pixel along azimuth and ground range.
        incidence: incidence angle from the vertical, in degrees.
        looks: number of independent images whose powers are averaged.
        oversampling: pixels per resolution cell.
        taper: edge of the spectral window: 1 for none (a sinc with -13 dB sidelobes), 0.54 for a Hamming window.
        defocus: phase error of moving ships at the edge of the azimuth band, in radians.
    """

    spacing: tuple[float, float]
    incidence: float
    looks: int
    oversampling: float
    taper: float
    defocus: float

    @property
    def tan_incidence(self) -> float:
        """Tangent of the incidence angle: meters of shadow per meter of height."""
        return float(np.tan(np.radians(self.incidence)))

    @property
    def pixel_area(self) -> float:
        """Area of a pixel in square meters."""
        return self.spacing[0] * self.spacing[1]

    def defocus_filter(self, size: int) -> Complex:
        """Return the factor of the azimuth spectrum by which the motion of ships defocuses them.

        Args:
            size: side of the image in pixels.

        Returns:
            Complex phase factors (size, 1).
        """
        frequency = scipy.fft.fftfreq(size)[:, None] * self.oversampling * 2
        return np.asarray(np.exp(1j * self.defocus * frequency**2), np.complex64)

    def spectral_window(self, size: int) -> Float:
        """Return the spectrum of the impulse response; it preserves the power of noise.

        Args:
            size: side of the image in pixels.

        Returns:
            Weights (size, size).
        """
        frequency = scipy.fft.fftfreq(size) * self.oversampling
        line = np.where(abs(frequency) < 0.5, self.taper + (1 - self.taper) * np.cos(2 * np.pi * frequency), 0)
        line /= np.sqrt(np.mean(line**2))
        return np.outer(line, line).astype(np.float32)


def sample_sensor(rng: np.random.Generator, spacing: tuple[float, float]) -> SarSensor:
    """Draw a sensor with the usual parameters of spaceborne SAR.

    Args:
        rng: source of randomness.
        spacing: meters per pixel along azimuth and ground range.

    Returns:
        The sensor.
    """
    return SarSensor(
        spacing=spacing,
        incidence=rng.uniform(22, 48),
        looks=int(rng.integers(1, 4)),
        oversampling=rng.uniform(1.1, 1.5),
        taper=rng.uniform(0.7, 1.0),
        defocus=rng.uniform(0, 8) * (rng.random() < 0.3),
    )


def render_sar_chip(ship: Ship, sensor: SarSensor, rng: np.random.Generator, size: int = 256) -> Float:
    """Simulate a chip with one ship near its center, on open water or (in 20 % of the chips) at a quay.

    Args:
        ship: the ship.
        sensor: the SAR sensor.
        rng: source of randomness.
        size: side of the image in pixels.

    Returns:
        Amplitude (size, size).
    """
    x, y = rng.normal(0, 0.02 * size, 2) * sensor.spacing[::-1]
    pose = Pose(ship, float(x), float(y), rng.uniform(0, 2 * np.pi))
    shore = _quay(pose, rng) if rng.random() < 0.2 else None
    return render_sar_scene([pose], shore, sensor, rng, size)


def render_sar_scene(
    poses: list[Pose], shore: Shore | None, sensor: SarSensor, rng: np.random.Generator, size: int
) -> Float:
    """Simulate a scene with ships on water, and land if there is a shore.

    Args:
        poses: the ships.
        shore: the shore; None for open water.
        sensor: the SAR sensor.
        rng: source of randomness.
        size: side of the image in pixels.

    Returns:
        Amplitude (size, size); a moderate sea has a power of 1.
    """
    x, y = pixel_grid(size, sensor.spacing)
    power, relief = sea_clutter_power(rng, size, sensor.spacing), height_map(poses, size, sensor.spacing)
    power *= np.float32(10 ** rng.uniform(-0.6, 0.6))  # wind speed
    if shore is not None:
        inland = shore.distance_inland(x, y) > 0
        power[inland] = land_clutter_power(rng, size, sensor.spacing)[inland]
    # x + z tan(incidence) is constant along a ray, so a nearer point with a larger value hides this point
    lit_from = np.maximum.accumulate(x + relief * sensor.tan_incidence, axis=1)
    power[(relief > 0) | (x < lit_from)] = 0
    power += np.float32(_NOISE)
    groups = [sample_ship_scatterers(pose, sensor.pixel_area, rng) for pose in poses]
    if shore is not None and shore.has_quay:
        groups.append(sample_shore_scatterers(shore, float(x.max()), sensor.pixel_area, rng))
    scatterers = _visible(Scatterers.from_groups(groups), relief, lit_from, sensor)
    window, total = sensor.spectral_window(size), np.zeros((size, size), np.float32)
    for _ in range(sensor.looks):
        spectrum = scipy.fft.fft2(np.sqrt(power / 2) * _normal(rng, (size, size)))
        spectrum += scipy.fft.fft2(_complex_image(scatterers, sensor, rng, size)) * sensor.defocus_filter(size)
        image = scipy.fft.ifft2(spectrum * window)
        total += image.real**2 + image.imag**2
    return np.sqrt(total / sensor.looks)


def amplitude_to_uint8(amplitude: Float) -> NDArray[np.uint8]:
    """Stretch an amplitude image to bytes: the sea stays dark, and the strongest returns saturate.

    Args:
        amplitude: (H, W).

    Returns:
        Bytes (H, W).
    """
    white = max(np.percentile(amplitude, 99.8), 6 * np.median(amplitude))
    return np.asarray(np.rint(np.minimum(amplitude * (255 / white), 255)), np.uint8)


def amplitude_to_uint16(amplitude: Float, gain: float) -> NDArray[np.uint16]:
    """Convert an amplitude image to digital numbers.

    Args:
        amplitude: (H, W).
        gain: digital numbers per unit of amplitude.

    Returns:
        Digital numbers (H, W); values above 65535 saturate.
    """
    return np.asarray(np.rint(np.minimum(amplitude * gain, 65535)), np.uint16)


def _quay(pose: Pose, rng: np.random.Generator) -> Shore:
    """Draw a shore along one side of the ship, with a few meters of water between them."""
    angle = pose.heading + rng.choice([-1, 1]) * np.pi / 2
    midships = pose.x * np.cos(angle) + pose.y * np.sin(angle)
    return Shore(float(angle), float(midships + pose.ship.beam / 2 + rng.uniform(2, 30)))


def _visible(
    scatterers: Scatterers, relief: NDArray[np.float64], lit_from: NDArray[np.float64], sensor: SarSensor
) -> Scatterers:
    """Return the scatterers in the image that are neither covered nor in a shadow."""
    size = len(relief)
    column = np.rint(scatterers.x / sensor.spacing[1] + (size - 1) / 2).astype(int)
    row = np.rint(scatterers.y / sensor.spacing[0] + (size - 1) / 2).astype(int)
    inside = (column >= 0) & (column < size) & (row >= 0) & (row < size)
    row, nearer = np.where(inside, row, 0), np.where(inside, column - 1, 0).clip(0)
    lit = scatterers.x + scatterers.z * sensor.tan_incidence > lit_from[row, nearer] - 0.5 * sensor.spacing[1]
    return Scatterers.from_groups([scatterers.to_array()[:, inside & lit]])


def _complex_image(scatterers: Scatterers, sensor: SarSensor, rng: np.random.Generator, size: int) -> Complex:
    """Draw one look at the scatterers, with layover: a complex image (size, size)."""
    column = np.rint((scatterers.x - scatterers.z / sensor.tan_incidence) / sensor.spacing[1] + (size - 1) / 2).astype(
        int
    )
    row = np.rint(scatterers.y / sensor.spacing[0] + (size - 1) / 2).astype(int)
    inside = (column >= 0) & (column < size)
    signal = _normal(rng, scatterers.x.shape) / np.sqrt(2)
    signal = np.where(scatterers.nonfluctuating > 0, signal / abs(signal), signal) * np.sqrt(
        scatterers.rcs / sensor.pixel_area
    )
    index, signal = (row * size + column)[inside], signal[inside]
    real, imaginary = (np.bincount(index, weights, size * size) for weights in (signal.real, signal.imag))
    return (real + 1j * imaginary).astype(np.complex64).reshape(size, size)


def _normal(rng: np.random.Generator, shape: tuple[int, ...]) -> Complex:
    """Draw circular complex noise; real and imaginary parts have unit variance."""
    return rng.standard_normal((*shape, 2), np.float32).view(np.complex64)[..., 0]
