"""Simulated ships in a SAR image: scatterers and clutter through the sensor's impulse response, then detected."""

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

_NOISE = 0.1  # of the sensor, over the mean power of the sea: what is left in a shadow


@dataclass(frozen=True)
class SarSensor:
    """How an image is taken.

    Attributes:
        spacing: metres a pixel along azimuth and ground range.
        incidence: from the vertical, degrees.
        looks: independent images whose powers are averaged.
        oversampling: pixels a resolution cell.
        taper: of the spectrum's edge, 1 for none (a sinc with -13 dB sidelobes), 0.54 for Hamming's.
        defocus: phase at the edge of the azimuth band, in radians, of ships that move toward or from the radar.
    """

    spacing: tuple[float, float]
    incidence: float
    looks: int
    oversampling: float
    taper: float
    defocus: float

    @property
    def tan_incidence(self) -> float:
        """Of the angle of incidence: metres of shadow behind a metre of height."""
        return float(np.tan(np.radians(self.incidence)))

    @property
    def pixel_area(self) -> float:
        """The area of a pixel in square metres."""
        return self.spacing[0] * self.spacing[1]

    def defocus_filter(self, size: int) -> Complex:
        """The factor (size, 1) on the spectrum that a ship's motion makes."""
        frequency = scipy.fft.fftfreq(size)[:, None] * self.oversampling * 2
        return np.asarray(np.exp(1j * self.defocus * frequency**2), np.complex64)

    def spectral_window(self, size: int) -> Float:
        """The spectrum of the impulse response (size, size), which keeps the power of noise."""
        frequency = scipy.fft.fftfreq(size) * self.oversampling
        line = np.where(abs(frequency) < 0.5, self.taper + (1 - self.taper) * np.cos(2 * np.pi * frequency), 0)
        line /= np.sqrt(np.mean(line**2))
        return np.outer(line, line).astype(np.float32)


def sample_sensor(rng: np.random.Generator, spacing: tuple[float, float]) -> SarSensor:
    """An imaging geometry as spaceborne sensors have it."""
    return SarSensor(
        spacing=spacing,
        incidence=rng.uniform(22, 48),
        looks=int(rng.integers(1, 4)),
        oversampling=rng.uniform(1.1, 1.5),
        taper=rng.uniform(0.7, 1.0),
        defocus=rng.uniform(0, 8) * (rng.random() < 0.3),
    )


def render_sar_chip(ship: Ship, radar: SarSensor, rng: np.random.Generator, size: int = 256) -> Float:
    """Amplitude (size, size) of a chip with `ship` near its centre, on open water or, now and then, at a quay."""
    x, y = rng.normal(0, 0.02 * size, 2) * radar.spacing[::-1]
    pose = Pose(ship, float(x), float(y), rng.uniform(0, 2 * np.pi))
    shore = _quay(pose, rng) if rng.random() < 0.2 else None
    return render_sar_scene([pose], shore, radar, rng, size)


def render_sar_scene(
    poses: list[Pose], shore: Shore | None, radar: SarSensor, rng: np.random.Generator, size: int
) -> Float:
    """Amplitude (size, size) of ships on water, with land where `shore` has it; a moderate sea has power 1."""
    x, y = pixel_grid(size, radar.spacing)
    power, relief = sea_clutter_power(rng, size, radar.spacing), height_map(poses, size, radar.spacing)
    power *= np.float32(10 ** rng.uniform(-0.6, 0.6))  # wind
    if shore is not None:
        inland = shore.distance_inland(x, y) > 0
        power[inland] = land_clutter_power(rng, size, radar.spacing)[inland]
    # x + z tan(incidence) is constant along a ray: what stands nearer to the radar and reaches higher hides a point
    lit_from = np.maximum.accumulate(x + relief * radar.tan_incidence, axis=1)
    power[(relief > 0) | (x < lit_from)] = 0
    power += np.float32(_NOISE)
    columns = [sample_ship_scatterers(pose, radar.pixel_area, rng) for pose in poses]
    if shore is not None:
        columns.append(sample_shore_scatterers(shore, float(x.max()), radar.pixel_area, rng))
    echoes = _seen(Scatterers.from_groups(columns), relief, lit_from, radar)
    window, total = radar.spectral_window(size), np.zeros((size, size), np.float32)
    for _ in range(radar.looks):
        spectrum = scipy.fft.fft2(np.sqrt(power / 2) * _normal(rng, (size, size)))
        spectrum += scipy.fft.fft2(_splat(echoes, radar, rng, size)) * radar.defocus_filter(size)
        image = scipy.fft.ifft2(spectrum * window)
        total += image.real**2 + image.imag**2
    return np.sqrt(total / radar.looks)


def amplitude_to_uint8(amplitude: Float) -> NDArray[np.uint8]:
    """Stretched for the eye: the sea stays dark, the strongest returns saturate."""
    top = max(np.percentile(amplitude, 99.8), 6 * np.median(amplitude))
    return np.asarray(np.rint(np.minimum(amplitude * (255 / top), 255)), np.uint8)


def amplitude_to_uint16(amplitude: Float, gain: float) -> NDArray[np.uint16]:
    """Amplitude as digital numbers, `gain` a unit."""
    return np.asarray(np.rint(np.minimum(amplitude * gain, 65535)), np.uint16)


def _quay(pose: Pose, rng: np.random.Generator) -> Shore:
    """A shore along one side of the ship, with a few metres of water between."""
    angle = pose.heading + rng.choice([-1, 1]) * np.pi / 2
    midships = pose.x * np.cos(angle) + pose.y * np.sin(angle)
    return Shore(float(angle), float(midships + pose.ship.beam / 2 + rng.uniform(2, 30)))


def _seen(
    echoes: Scatterers, relief: NDArray[np.float64], lit_from: NDArray[np.float64], radar: SarSensor
) -> Scatterers:
    """The scatterers that the radar sees: within the image, not under another part and not in a shadow."""
    size = len(relief)
    column = np.rint(echoes.x / radar.spacing[1] + (size - 1) / 2).astype(int)
    row = np.rint(echoes.y / radar.spacing[0] + (size - 1) / 2).astype(int)
    inside = (column >= 0) & (column < size) & (row >= 0) & (row < size)
    row, nearer = np.where(inside, row, 0), np.where(inside, column - 1, 0).clip(0)
    lit = echoes.x + echoes.z * radar.tan_incidence > lit_from[row, nearer] - 0.5 * radar.spacing[1]
    return Scatterers.from_groups([echoes.to_array()[:, inside & lit]])


def _splat(echoes: Scatterers, radar: SarSensor, rng: np.random.Generator, size: int) -> Complex:
    """One look at the scatterers, laid over toward the radar: a complex image (size, size)."""
    column = np.rint((echoes.x - echoes.z / radar.tan_incidence) / radar.spacing[1] + (size - 1) / 2).astype(int)
    row = np.rint(echoes.y / radar.spacing[0] + (size - 1) / 2).astype(int)
    inside = (column >= 0) & (column < size)
    wave = _normal(rng, echoes.x.shape) / np.sqrt(2)
    wave = np.where(echoes.nonfluctuating > 0, wave / abs(wave), wave) * np.sqrt(echoes.rcs / radar.pixel_area)
    place, wave = (row * size + column)[inside], wave[inside]
    real, imaginary = (np.bincount(place, part, size * size) for part in (wave.real, wave.imag))
    return (real + 1j * imaginary).astype(np.complex64).reshape(size, size)


def _normal(rng: np.random.Generator, shape: tuple[int, ...]) -> Complex:
    """Circular complex noise whose parts have unit variance."""
    return rng.standard_normal((*shape, 2), np.float32).view(np.complex64)[..., 0]
