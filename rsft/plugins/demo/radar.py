"""Simulated SAR images: scatterers and clutter, seen by a sensor and detected.

The image frame is ground range x to the right, away from the radar, and azimuth y
downward, in meters. A point at height z appears at x - z / tan(incidence) (layover) and
hides the ground up to z tan(incidence) behind it (shadow). Radar cross sections are
relative to that of one square meter of sea.

Sea and land are compound-Gaussian: speckle multiplies a gamma texture that is
correlated in space. The amplitude is then K-distributed (Ward, Tough and Watts, Sea
Clutter, 2013).

Point scatterers lie on surfaces, at walls and in corners of ships and shores. They are
arrays (5, N) with the rows x, y and z in meters, mean radar cross section, and 1 for a
single steady point, 0 for a point with Rayleigh fluctuation.
"""

from dataclasses import dataclass

import numpy as np
import scipy.fft
from numpy.random import Generator as Rng
from numpy.typing import NDArray
from scipy.special import ndtr
from scipy.stats import gamma

from rsft.plugins.demo.ships import Ship, box_corners, fill_polygon
from rsft.types import Bytes, Floats, Floats32, Indices, Reals, Spacing

Complex = NDArray[np.complex64]

_QUANTILES = np.linspace(-3.5, 3.5, 141)
# of the gamma distribution, from spiky to smooth
_SHAPES = (0.6, 1.0, 1.6, 2.5, 4.0, 8.0, 16.0, 32.0, 64.0)
_OUTLINE_POINTS = 400
_NOISE = 0.1  # noise power of the sensor, relative to the sea; the power in a shadow
# scatterers per pixel of a rough surface: enough for fully developed speckle
_DENSITY = 2.0
# exponent of the cosine to the wall's normal: a hull is brightest when seen broadside
_DIHEDRAL_WIDTH = 3.0

# radar cross section in dB: of a surface per square meter, of a wall per square meter,
# of a corner
_RCS_DB = {
    "hull": (3.0, 14.0, 24.0),
    "deck": (7.0, 12.0, 18.0),
    "hatch": (18.0, 18.0, 22.0),
    "container": (18.0, 18.0, 22.0),
    "house": (18.0, 20.0, 27.0),
    "funnel": (16.0, 18.0, 26.0),
    "crane": (18.0, 20.0, 27.0),
    "pipe": (23.0, 20.0, 20.0),
    "manifold": (24.0, 24.0, 27.0),
    "hopper": (-6.0, 24.0, 22.0),
    "mast": (16.0, 12.0, 24.0),
    "gear": (17.0, 20.0, 26.0),
}
_CORNER_SPREAD_DB = 4.0
_QUAY_RCS_DB = 22.0


def rotation(angle: float) -> Floats:
    """Return the matrix R (2, 2) so that points @ R are turned from +x to +y."""
    cos = np.cos(angle)
    sin = np.sin(angle)
    return np.array([[cos, sin], [-sin, cos]])


@dataclass(frozen=True)
class Shore:
    """Shore: land is where x cos(angle) + y sin(angle) > offset.

    Lengths are in meters of the image frame. A shore without bends is straight and
    built up, with a quay. A shore with bends is a natural coast.

    Attributes:
        angle: direction inland, in radians from +x to +y.
        offset: distance of the shore from the image center in meters.
        bends: waves of the coast: amplitude in meters, wavelength in meters, and phase
            in radians of each.
    """

    angle: float
    offset: float
    bends: tuple[tuple[float, float, float], ...] = ()

    @property
    def has_quay(self) -> bool:
        """Whether the shore is straight and built up."""
        return not self.bends

    def distance_inland(self, x: Floats32, y: Floats32) -> Floats32:
        """Return the distance of points from the shore.

        At a natural coast, it is measured in the direction `angle`.

        Returns:
            Meters, positive on land and negative on water.
        """
        cos = np.float32(np.cos(self.angle))
        sin = np.float32(np.sin(self.angle))
        distance = x * cos + y * sin - np.float32(self.offset)
        return distance - self._bend(y * cos - x * sin)

    def to_image_frame(self, points: Reals) -> Floats:
        """Transform points (..., 2), meters along the shore and inland."""
        inward, along = rotation(self.angle)
        return np.asarray(points[..., :1] * along + points[..., 1:] * inward)

    def outline(self, reach: float) -> Floats32:
        """Return the land within `reach` meters of the image center as a polygon.

        Returns:
            Corners (N, 2), x and y in meters of the image frame.
        """
        along = np.linspace(-reach, reach, _OUTLINE_POINTS, dtype=np.float32)
        inland = self.offset + self._bend(along)
        back = inland.max() + 2 * reach
        land = np.stack([along, inland], axis=1)
        land = np.concatenate([land, [(reach, back), (-reach, back)]])
        return self.to_image_frame(land).astype(np.float32)

    def _bend(self, along: Floats32) -> Floats32:
        """Return how far inland the coast lies, relative to `offset`.

        Args:
            along: positions along the coast in meters.
        """
        inland = np.zeros_like(along)
        for amplitude, length, phase in self.bends:
            inland = inland + amplitude * np.sin(2 * np.pi * along / length + phase)
        return np.asarray(inland, np.float32)


@dataclass(frozen=True)
class Pose:
    """Position and heading of a ship in the image frame.

    Attributes:
        x: midships along ground range, in meters from the image center.
        y: midships along azimuth, in meters from the image center.
        heading: direction of the bow, in radians from +x to +y.
    """

    ship: Ship
    x: float
    y: float
    heading: float

    def to_image_frame(self, points: Floats) -> Floats:
        """Transform points (..., 2) to the image frame.

        Args:
            points: meters along the keel and toward starboard.
        """
        return np.asarray(points @ rotation(self.heading) + (self.x, self.y))

    def bounding_box(self) -> Floats:
        """Return the corners (4, 2) of the rotated box around the ship.

        They begin at port of the bow, and go clockwise in the image.
        """
        half = np.array([self.ship.length, self.ship.beam]) / 2
        corners = np.array([[1, -1], [1, 1], [-1, 1], [-1, -1]])
        return self.to_image_frame(corners * half)


@dataclass(frozen=True)
class SarSensor:
    """Imaging geometry and processing of a SAR sensor.

    Attributes:
        spacing: meters per pixel along azimuth and ground range.
        incidence: incidence angle from the vertical, in degrees.
        looks: number of independent images whose powers are averaged.
        oversampling: pixels per resolution cell.
        taper: edge of the spectral window: 1 for none (a sinc with -13 dB sidelobes),
            0.54 for a Hamming window.
        defocus: phase error of moving ships at the edge of the azimuth band, in
            radians.
    """

    spacing: Spacing
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

    def spectral_window(self, size: int) -> Floats32:
        """Return the spectrum (size, size) of the impulse response.

        It preserves the power of noise.
        """
        frequency = scipy.fft.fftfreq(size) * self.oversampling
        line = self.taper + (1 - self.taper) * np.cos(2 * np.pi * frequency)
        line = np.where(abs(frequency) < 0.5, line, 0)
        line /= np.sqrt(np.mean(line**2))
        return np.outer(line, line).astype(np.float32)


def sample_sensor(rng: Rng, spacing: Spacing) -> SarSensor:
    """Draw a sensor with the usual parameters of spaceborne SAR, see `SarSensor`."""
    return SarSensor(
        spacing,
        incidence=rng.uniform(30, 48),
        looks=int(rng.integers(2, 5)),
        oversampling=rng.uniform(1.1, 1.5),
        taper=rng.uniform(0.7, 1.0),
        defocus=rng.uniform(0, 8) * (rng.random() < 0.3),
    )


def render_sar_chip(
    ship: Ship, sensor: SarSensor, rng: Rng, size: int = 256
) -> Floats32:
    """Simulate a chip with one ship near its center.

    The ship is on open water or, in 12 % of the chips, at a quay.

    Returns:
        Amplitude (size, size).
    """
    x, y = rng.normal(0, 0.014 * size, 2) * sensor.spacing[::-1]
    # the deck, not the waterline, appears at the center
    x += ship.freeboard / sensor.tan_incidence
    pose = Pose(ship, float(x), float(y), rng.uniform(0, 2 * np.pi))
    quay = None
    # along one side of the ship, with a few meters of water between them
    if rng.random() < 0.12:
        angle = pose.heading + rng.choice([-1, 1]) * np.pi / 2
        midships = pose.x * np.cos(angle) + pose.y * np.sin(angle)
        quay = Shore(float(angle), float(midships + ship.beam / 2 + rng.uniform(2, 30)))
    return render_sar_scene([pose], quay, sensor, rng, size)


def render_sar_scene(
    poses: list[Pose], shore: Shore | None, sensor: SarSensor, rng: Rng, size: int
) -> Floats32:
    """Simulate a scene with ships on water, and land if there is a shore.

    Returns:
        Amplitude (size, size); a moderate sea has a power of 1.
    """
    steps = (np.arange(size) - (size - 1) / 2).astype(np.float32)
    x = steps[None] * np.float32(sensor.spacing[1])
    y = steps[:, None] * np.float32(sensor.spacing[0])
    power = sea_clutter_power(rng, size, sensor.spacing)
    power *= np.float32(10 ** rng.uniform(-0.6, 0.6))  # wind speed
    if shore is not None:
        inland = shore.distance_inland(x, y) > 0
        power[inland] = _land_clutter_power(rng, size, sensor.spacing)[inland]
    relief = _draw_relief(poses, sensor, size)
    # x + z tan(incidence) is constant along a ray, so a nearer point with a larger
    # value hides this point
    rays = x + relief.astype(np.float64) * sensor.tan_incidence
    lit_from = np.maximum.accumulate(rays, axis=1)
    power[(relief > 0) | (x < lit_from)] = 0
    power += np.float32(_NOISE)
    groups = [np.empty((5, 0))]
    groups += [_ship_scatterers(pose, sensor.pixel_area, rng) for pose in poses]
    if shore is not None and shore.has_quay:
        groups.append(_shore_scatterers(shore, float(x.max()), sensor.pixel_area, rng))
    scatterers = _select_lit(np.concatenate(groups, axis=1), lit_from, sensor)
    return _detect(power, scatterers, sensor, rng)


def _draw_relief(poses: list[Pose], sensor: SarSensor, size: int) -> Floats32:
    """Return the height of the ships above the water (size, size)."""
    relief = np.zeros((size, size), np.float32)
    center = (size - 1) / 2
    for pose in poses:
        ship = pose.ship
        prisms = [(ship.outline(), 0.0)]
        for box, corners in zip(
            ship.deck_objects, box_corners(ship.boxes), strict=True
        ):
            prisms.append((corners, box.height))
        for base, height in prisms:
            pixels = pose.to_image_frame(base) / sensor.spacing[::-1] + center
            fill_polygon(relief, pixels, ship.freeboard + height)
    return relief


def _nearest_pixel(x: Floats, y: Floats, sensor: SarSensor, size: int) -> Indices:
    """Return row and column (2, N) of points; they may be outside of the image."""
    steps = np.stack([y, x], axis=1) / sensor.spacing
    return np.rint(steps + (size - 1) / 2).astype(int).T


def _select_lit(scatterers: Floats, lit_from: Floats, sensor: SarSensor) -> Floats:
    """Return the scatterers in the image that are neither covered nor in a shadow.

    Args:
        scatterers: all scatterers (5, N).
        lit_from: value of the rays that reach each pixel (S, S).
        sensor: the sensor.
    """
    x, y, z, *_ = scatterers
    size = len(lit_from)
    pixels = _nearest_pixel(x, y, sensor, size)
    inside = ((pixels >= 0) & (pixels < size)).all(axis=0)
    row, column = pixels.clip(0, size - 1)
    limit = lit_from[row, (column - 1).clip(0)] - 0.5 * sensor.spacing[1]
    return scatterers[:, inside & (x + z * sensor.tan_incidence > limit)]


def _detect(
    power: Floats32, scatterers: Floats, sensor: SarSensor, rng: Rng
) -> Floats32:
    """Return the amplitude of the mean of the looks.

    Args:
        power: mean power of the clutter (S, S).
        scatterers: points (5, N).
        sensor: the sensor.
        rng: source of randomness.
    """
    size = len(power)
    frequency = scipy.fft.fftfreq(size)[:, None] * sensor.oversampling * 2
    phase = np.exp(1j * sensor.defocus * frequency**2)
    defocus = np.asarray(phase, np.complex64)  # of moving ships
    window = sensor.spectral_window(size)
    total = np.zeros((size, size), np.float32)
    for _ in range(sensor.looks):
        speckle = np.sqrt(power / 2) * _normal(rng, (size, size))
        spectrum = scipy.fft.fft2(speckle)
        points = _draw_points(scatterers, sensor, rng, size)
        spectrum += scipy.fft.fft2(points) * defocus
        image = scipy.fft.ifft2(spectrum * window)
        total += image.real**2 + image.imag**2
    return np.sqrt(total / sensor.looks)


def amplitude_to_uint8(amplitude: Floats32) -> Bytes:
    """Stretch an amplitude image to bytes.

    The sea stays dark, and the strongest returns saturate.
    """
    white = max(np.percentile(amplitude, 99.9), 8 * np.median(amplitude))
    return np.asarray(np.rint(np.minimum(amplitude * (255 / white), 255)), np.uint8)


def amplitude_to_uint16(amplitude: Floats32, gain: float) -> NDArray[np.uint16]:
    """Convert an amplitude image to digital numbers; the largest saturate.

    Args:
        amplitude: the image.
        gain: digital numbers per unit of amplitude.
    """
    return np.asarray(np.rint(np.minimum(amplitude * gain, 65535)), np.uint16)


def sea_clutter_power(rng: Rng, size: int, spacing: Spacing) -> Floats32:
    """Draw the mean power of open water: wind texture and usually swell.

    Returns:
        Power (size, size) with mean 1.
    """
    frequency_x, frequency_y = _frequencies(size, spacing)
    squared = frequency_x**2 + frequency_y**2
    length = rng.uniform(4, 20)  # of the correlation
    decay = np.exp(-squared * np.float32(np.pi * length) ** 2)
    spectrum = decay * np.float32(length)
    if rng.random() < 0.7:
        wavenumber = 1 / rng.uniform(60, 180)
        swell_x, swell_y = wavenumber * rotation(rng.uniform(0, 2 * np.pi))[0]
        distance = (frequency_x - swell_x) ** 2 + (frequency_y - swell_y) ** 2
        width = np.float32(2 * (wavenumber / 4) ** 2)
        spectrum += rng.uniform(0, 25) * np.exp(-distance / width)
    return _gamma_field(rng, size, spectrum, _SHAPES[rng.integers(4, len(_SHAPES))])


def _land_clutter_power(rng: Rng, size: int, spacing: Spacing) -> Floats32:
    """Draw the mean power of land relative to that of the sea.

    Land reaches from fields to a dense port.
    """
    frequency_x, frequency_y = _frequencies(size, spacing)
    squared = frequency_x**2 + frequency_y**2
    length = rng.uniform(3, 10)  # of the correlation
    spectrum = (1 + squared * np.float32(2 * np.pi * length * 2) ** 2) ** -1.0
    field = _gamma_field(rng, size, spectrum, _SHAPES[rng.integers(0, 4)])
    return field * np.float32(10 ** rng.uniform(0.9, 1.4))


def _frequencies(size: int, spacing: Spacing) -> tuple[Floats32, Floats32]:
    """Return the frequencies of a real FFT in cycles per meter.

    Returns:
        Frequencies along range (1, size // 2 + 1) and azimuth (size, 1).
    """
    along_range = scipy.fft.rfftfreq(size, spacing[1]).astype(np.float32)
    along_azimuth = scipy.fft.fftfreq(size, spacing[0]).astype(np.float32)
    return along_range[None], along_azimuth[:, None]


def _gamma_field(rng: Rng, size: int, spectrum: Floats32, shape: float) -> Floats32:
    """Draw a gamma field (size, size) of mean 1.

    Args:
        rng: source of randomness.
        size: side of the field.
        spectrum: spectrum (size, size // 2 + 1) that gives the correlation.
        shape: shape of the gamma distribution.
    """
    white = scipy.fft.rfft2(rng.standard_normal((size, size), np.float32))
    field = scipy.fft.irfft2(white * spectrum.astype(np.float32), (size, size))
    field *= 1 / field.std()
    quantiles = gamma.ppf(ndtr(_QUANTILES), shape, scale=1 / shape)
    return np.asarray(np.interp(field, _QUANTILES, quantiles), np.float32)


def _ship_scatterers(pose: Pose, pixel_area: float, rng: Rng) -> Floats:
    """Draw all scatterers of a ship, including hidden ones."""
    ship = pose.ship
    tops = np.array([ship.freeboard + box.height for box in ship.deck_objects])
    rcs_db = np.array([_RCS_DB[box.kind] for box in ship.deck_objects])
    surface_db, wall_db, corner_db = rcs_db.T
    corners = pose.to_image_frame(box_corners(ship.boxes))
    hull = pose.to_image_frame(ship.outline())[None]
    hull_db = np.array([_RCS_DB["hull"][1]])
    freeboard = np.array([ship.freeboard])
    groups = [
        _deck_scatterers(pose, pixel_area, rng),
        _top_scatterers(pose, tops, surface_db, pixel_area, rng),
        _walls(hull, 0, freeboard, hull_db, pixel_area, rng),
        _walls(corners, ship.freeboard, tops, wall_db, pixel_area, rng),
        _corner_scatterers(corners, tops, corner_db, rng),
    ]
    scatterers = np.concatenate(groups, axis=1)
    scatterers[3] *= 10 ** rng.uniform(-0.4, 0.4)
    return scatterers


def _deck_scatterers(pose: Pose, pixel_area: float, rng: Rng) -> Floats:
    """Draw scatterers on the deck, within the outline of the hull."""
    ship = pose.ship
    count = max(16, int(_DENSITY * ship.length * ship.beam / pixel_area))
    x = rng.uniform(-0.5, 0.5, count) * ship.length
    width = 2 * ship.half_beam(x)
    y = rng.uniform(-0.5, 0.5, count) * width
    position = pose.to_image_frame(np.stack([x, y], axis=1))
    area = width * ship.length / count
    return _stack(position, ship.freeboard, _RCS_DB["hull"][0], area)


def _top_scatterers(
    pose: Pose, tops: Floats, rcs_db: Floats, pixel_area: float, rng: Rng
) -> Floats:
    """Draw scatterers on the tops of the boxes on deck.

    Args:
        pose: the ship.
        tops: heights of the boxes (P,).
        rcs_db: radar cross section per square meter of each box (P,).
        pixel_area: area of a pixel in square meters.
        rng: source of randomness.
    """
    boxes = pose.ship.boxes
    area = boxes[:, 2] * boxes[:, 3]
    counts = np.maximum(4, _DENSITY * area / pixel_area).astype(int)
    owner = np.repeat(np.arange(len(boxes)), counts)
    offset = rng.uniform(-0.5, 0.5, (len(owner), 2)) * boxes[owner, 2:]
    position = pose.to_image_frame(boxes[owner, :2] + offset)
    return _stack(position, tops[owner], rcs_db[owner], (area / counts)[owner])


def _stack(
    position: Floats,
    z: Floats | float,
    rcs_db: Floats | float,
    area: Floats | float = 1,
    steady: float = 0,
) -> Floats:
    """Return scatterers (5, N).

    Args:
        position: x and y (N, 2).
        z: heights.
        rcs_db: radar cross sections in dB, of a point or of a square meter.
        area: square meters of a surface that each point stands for.
        steady: 1 for steady points, 0 for fluctuating ones.
    """
    rcs = 10 ** (rcs_db / 10) * area
    return np.stack(np.broadcast_arrays(*position.T, z, rcs, steady))


def _shore_scatterers(
    shore: Shore, reach: float, pixel_area: float, rng: Rng
) -> Floats:
    """Draw the scatterers of a built-up shore: a quay, and buildings along it.

    Args:
        shore: the shore.
        reach: half the side of the image in meters.
        pixel_area: area of a pixel in square meters.
        rng: source of randomness.
    """
    ends = np.array([(-1.5 * reach, shore.offset), (1.5 * reach, shore.offset)])
    front = shore.to_image_frame(ends)
    back = front[::-1] + shore.to_image_frame(np.array([0, 30]))
    quay = np.concatenate([front, back])[None]
    quay_db = np.array([_QUAY_RCS_DB])
    groups = [_walls(quay, 0, np.array([3.0]), quay_db, pixel_area, rng)]
    count = int(rng.integers(0, 1 + int(reach / 6)))
    lengths = rng.uniform(15, 70, count)
    depths = rng.uniform(10, 30, count)
    inland = (rng.integers(0, 8, count) + 0.7) * 45 + shore.offset
    along = rng.uniform(-1.5, 1.5, count) * reach
    boxes = np.stack([along, inland, lengths, depths], axis=1)
    corners = shore.to_image_frame(box_corners(boxes))
    heights = rng.uniform(5, 25, count)
    wall_db = rng.uniform(12, 24, count)
    groups.append(_walls(corners, 0, heights, wall_db, pixel_area, rng))
    corner_db = rng.uniform(24, 36, count)
    groups.append(_corner_scatterers(corners, heights, corner_db, rng))
    return np.concatenate(groups, axis=1)


def _walls(
    base: Floats, low: float, top: Floats, rcs_db: Floats, pixel_area: float, rng: Rng
) -> Floats:
    """Draw scatterers of walls that face the radar: half at the foot, half higher up.

    Args:
        base: convex polygons (P, K, 2).
        low: height of the foot in meters.
        top: heights of the tops (P,).
        rcs_db: radar cross section per square meter of each polygon (P,).
        pixel_area: area of a pixel in square meters.
        rng: source of randomness.
    """
    along = np.roll(base, -1, axis=1) - base
    length = np.maximum(np.hypot(along[..., 0], along[..., 1]), 1e-9)
    outward = base + along / 2 - base.mean(axis=1, keepdims=True)
    # 1 if the corners go from +x to +y around the center, else -1
    turn = np.sign(outward[..., 0] * along[..., 1] - outward[..., 1] * along[..., 0])
    facing = np.maximum(0, -turn * along[..., 1] / length) ** _DIHEDRAL_WIDTH
    counts = np.maximum(2, 2 * _DENSITY * length / np.sqrt(pixel_area))
    counts = np.where(facing > 1e-3, counts, 0).astype(int)
    # of each scatterer
    polygon, wall = np.repeat(np.nonzero(counts), counts[counts > 0], axis=1)
    shift = rng.random((len(wall), 1)) * along[polygon, wall]
    up = rng.random(len(wall)) * (rng.random(len(wall)) < 0.5)
    height = (top - low)[polygon]
    area = (length * facing / np.maximum(counts, 1))[polygon, wall] * height
    position = base[polygon, wall] + shift
    return _stack(position, low + up * height, rcs_db[polygon], area)


def _corner_scatterers(
    corners: Floats, tops: Floats, rcs_db: Floats, rng: Rng
) -> Floats:
    """Draw one strong point per box, at one of its corners."""
    count = len(corners)
    position = corners[np.arange(count), rng.integers(0, 4, count)]
    rcs_db = rcs_db + rng.normal(0, _CORNER_SPREAD_DB, count)
    return _stack(position, tops * rng.uniform(0.6, 1, count), rcs_db, steady=1)


def _draw_points(scatterers: Floats, sensor: SarSensor, rng: Rng, size: int) -> Complex:
    """Draw one look at the scatterers, with layover: a complex image (size, size)."""
    x, y, z, rcs, steady = scatterers
    row, column = _nearest_pixel(x - z / sensor.tan_incidence, y, sensor, size)
    inside = (column >= 0) & (column < size)
    signal = _normal(rng, x.shape) / np.sqrt(2)
    signal = np.where(steady > 0, signal / abs(signal), signal)
    signal = (signal * np.sqrt(rcs / sensor.pixel_area))[inside]
    image = np.zeros((size, size), complex)
    np.add.at(image, (row[inside], column[inside]), signal)
    return image.astype(np.complex64)


def _normal(rng: Rng, shape: tuple[int, ...]) -> Complex:
    """Draw circular complex noise; real and imaginary parts have unit variance."""
    return rng.standard_normal((*shape, 2), np.float32).view(np.complex64)[..., 0]
