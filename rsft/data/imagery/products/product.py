"""What products of sensors say about their pixels, and the registry of these products.

A product is a folder or a file of a sensor: rasters with their calibration, incidence
angles and time. Each kind of product is one class with a `name`. Another package adds
one through the entry-point group "rsft.products".
"""

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from rsft.data.imagery.products.options import ProductOptions
from rsft.data.imagery.rasters import read_unit
from rsft.errors import DataError, RequestError
from rsft.types import Floats, Indices, Plane
from rsft.utils.registry import Registry, entry_points_of


class CalibratedPlane(NamedTuple):
    """Calibrated values of one band.

    Attributes:
        values: (H, W), float32; NaN without data.
        clipped: number of values that were raised to the smallest value above the
            noise.
    """

    values: Plane
    clipped: int


Calibration = Callable[[Plane, int, int], CalibratedPlane]
"""Digital numbers (H, W) float32 of one band, 0 and NaN without data, first row and
first column of the window -> linear backscatter in m2/m2."""

PixelGrid = Callable[[Floats, Floats], Floats]
"""Rows (N,) and columns (N,) of pixels -> values (N,), such as incidence angles to the
vertical in degrees."""


class RadarMotion(NamedTuple):
    """How a radar moved along the rows of a raster in radar geometry, whose rows are lines of one azimuth time.

    Attributes:
        seconds: rows (N,) and columns (N,) of pixels -> their zero-Doppler azimuth
            times in seconds after `Product.acquired`.
        slant_range: rows (N,) and columns (N,) of pixels -> their distances from the
            radar in meters.
        velocity: speed of the platform in its orbit, in meters per second relative to
            the Earth.
        looks_right: whether the radar looks to the right of its flight direction.
    """

    seconds: PixelGrid
    slant_range: PixelGrid
    velocity: float
    looks_right: bool = True


@dataclass(frozen=True, eq=False)
class Product:
    """What a raster says about its pixels.

    Attributes:
        kind: name of the product family, such as "Sentinel-1 GRD".
        unit: unit of the stored values, after GDAL's scale and offset and after the
            modulus; None if unknown.
        bands: names of the bands; None takes those in the rasters.
        calibrations: calibration of each band, by the unit of the result: sigma0,
            gamma0 or beta0.
        calibration_source: where the calibration comes from, for the notes of a job.
        noise: what is done about thermal noise, for the notes of a job; empty if the
            product does not say.
        acquired: time of the first line in UTC, ISO 8601; None if unknown.
        finished: time of the last line in UTC, ISO 8601; None if unknown.
        pass_direction: "ascending" or "descending"; None if unknown.
        incidence: incidence angles; None if unknown.
        motion: motion of the radar; None if unknown.
        tie_points: row, column, longitude and latitude of points, for rasters without
            georeference. Pixel coordinates are those of GDAL.
        NOISE_REMOVED: value of `noise` if the calibrations subtract the thermal noise.
    """

    NOISE_REMOVED: ClassVar[str] = "thermal noise removed"

    kind: str = "raster"
    unit: str | None = None
    bands: tuple[str, ...] | None = None
    calibrations: Mapping[str, tuple[Calibration, ...]] = field(default_factory=dict)
    calibration_source: str = ""
    noise: str = ""
    acquired: str | None = None
    finished: str | None = None
    pass_direction: str | None = None
    incidence: PixelGrid | None = None
    motion: RadarMotion | None = None
    tie_points: tuple[tuple[float, float, float, float], ...] = ()


class SensorProduct:
    """Base class of the products of a sensor.

    A product that its path tells, such as a folder or a raster with a header beside it,
    implements `find` and `read`. A product that the tags of its raster tell implements
    `read_tags`.

    Attributes:
        name: name of the kind of product in the registry.
        title: its name in messages and tables.
        path: path that names the scene in tables and messages, usually the folder.
        files: names under which GDAL opens the rasters: one raster, or one per band.
            All have the same size.

    Example:
        >>> find_product(Path("new_chips")) is None
        True
    """

    name: ClassVar[str]
    title: ClassVar[str]
    path: Path
    files: tuple[str, ...]

    @classmethod
    def find(cls, path: Path) -> Self | None:
        """Return the product that a folder or file is or belongs to; None for all others. Read no pixels.

        Raises:
            DataError: the path is such a product, but damaged.
        """
        return None

    def read(self, handles: Sequence[Any], keep_noise: bool) -> Product:
        """Return what the product says about the pixels of `files`, which rasterio has opened as `handles`.

        Raises:
            DataError: the description is damaged.
        """
        raise NotImplementedError

    @classmethod
    def read_tags(cls, handles: Sequence[Any]) -> Product | None:
        """Return what the tags of rasters say that `find` does not recognize; None if they are no such product.

        Raises:
            ValueError: the tags are damaged.
        """
        return None


PRODUCTS: Registry[type[SensorProduct]] = Registry(
    "product", "rsft.products", "rsft.data.imagery.products"
)
"""All kinds of products by name."""


def _all_products() -> Iterator[type[SensorProduct]]:
    """Yield all kinds of products; warn about those whose package cannot be imported.

    Kinds of plug-ins and other packages come first. Some have a file of a more general
    kind: RCM has the manifest.safe of Sentinel-1, and Umbra a file of SICD.
    """
    specific = entry_points_of(PRODUCTS.group)
    for name in sorted(PRODUCTS, key=lambda name: name not in specific):
        try:
            yield PRODUCTS[name]
        except ImportError as error:
            warnings.warn(
                f"the product {name} cannot be imported: {error}", stacklevel=3
            )


def find_product(path: Path) -> SensorProduct | None:
    """Return the product that a folder or file is or belongs to; None if no registered kind recognizes it.

    Raises:
        DataError: the product is damaged.
    """
    return next(
        (
            product
            for kind in _all_products()
            if (product := kind.find(path)) is not None
        ),
        None,
    )


def read_product(
    path: object,
    handles: Sequence[Any],
    owner: SensorProduct | None,
    options: ProductOptions,
) -> Product:
    """Read what a raster says about its pixels.

    Args:
        path: path of the scene, for errors.
        handles: the datasets of the scene, opened by rasterio.
        owner: the product to which they belong, from `find_product`; None for any other
            raster.
        options: the user's options. A factor becomes the only calibration.

    Returns:
        The product. With `options.factor`, its only calibration is that factor.

    Raises:
        DataError: the values are complex and their modulus is not requested, or the
            description is damaged.
        RequestError: an option contradicts the file.
    """
    dtypes = sorted({dtype for file in handles for dtype in file.dtypes})
    complex_dtypes = [dtype for dtype in dtypes if dtype.startswith("complex")]
    if complex_dtypes and not options.modulus:
        message = (
            f"the pixels are complex ({', '.join(complex_dtypes)}), but a model takes"
            " real values"
        )
        raise DataError(
            message, path, "give --modulus, which takes their modulus (the amplitude)"
        )
    if options.modulus and not complex_dtypes:
        message = f"--modulus is for complex pixels, but these are {', '.join(dtypes)}"
        raise RequestError(message, path, "leave out --modulus")
    if owner is not None:
        product = owner.read(handles, options.keep_noise)
    else:
        try:
            descriptions = (kind.read_tags(handles) for kind in _all_products())
            product = next(
                (
                    description
                    for description in descriptions
                    if description is not None
                ),
                Product(),
            )
        except (TypeError, ValueError, ArithmeticError) as error:
            raise DataError(
                f"the tags of the product cannot be used: {error}",
                path,
                "download it again",
            ) from error
    if options.keep_noise and not product.noise:
        message = (
            "--keep-noise is for products whose thermal noise rsft removes, such as"
            " those of Sentinel-1"
        )
        raise RequestError(message, path, "leave out --keep-noise")
    unit = read_unit(handles, path) or product.unit
    if options.gamma0_to_sigma0:
        return _to_sigma0(path, replace(product, unit=unit))
    if options.factor is None:
        return replace(product, unit=unit or ("amplitude" if options.modulus else None))
    if product.calibrations:
        message = (
            f"--calibrate, but the file has a calibration: {product.calibration_source}"
        )
        raise RequestError(message, path, "leave out --calibrate")
    if unit not in (None, "amplitude"):
        message = f"--calibrate is for digital numbers, but the file declares {unit}"
        raise RequestError(message, path, "leave out --calibrate")
    calibrations = {
        "sigma0": (
            (FactorCalibration(options.factor),) * sum(file.count for file in handles)
        )
    }
    source = f"factor {options.factor:g}"
    return replace(
        product, unit="amplitude", calibrations=calibrations, calibration_source=source
    )


def _to_sigma0(path: object, product: Product) -> Product:
    """Return a product of gamma0 with a calibration to sigma0, by its incidence angles."""
    is_stored = product.unit in ("gamma0", "gamma0_db")
    if "sigma0" in product.calibrations or not (
        is_stored or "gamma0" in product.calibrations
    ):
        if product.calibrations:
            actual = "has a calibration to sigma0"
        else:
            actual = f"declares {product.unit or 'no unit'}"
        raise RequestError(
            f"--gamma0-to-sigma0 is for products of gamma0, but the file {actual}",
            path,
            "leave out --gamma0-to-sigma0",
        )
    if not isinstance(product.incidence, LineTable):
        raise RequestError(
            "--gamma0-to-sigma0, but the product states no incidence angles",
            path,
            "process the scene to sigma0, or use a model of gamma0",
        )
    steps = product.calibrations.get("gamma0", (None,) * len(product.bands or (None,)))
    calibrations = tuple(
        CosineCalibration(product.incidence, step, product.unit == "gamma0_db")
        for step in steps
    )
    return replace(
        product,
        calibrations={"sigma0": calibrations},
        calibration_source=(
            "sigma0 = gamma0 * cos(incidence angle at the ellipsoid), as --gamma0-to-sigma0"
            " asks; wrong on slopes"
        ),
    )


@dataclass(frozen=True, eq=False)
class CosineCalibration:
    """Conversion of gamma0 to sigma0 = gamma0 * cos(theta).

    Attributes:
        incidence: theta in degrees.
        calibration: calibration of digital numbers to gamma0; None if the values are
            gamma0.
        is_decibel: whether the values are decibels of gamma0.
    """

    incidence: "LineTable"
    calibration: Calibration | None
    is_decibel: bool

    def __call__(self, values: Plane, top: int, left: int) -> CalibratedPlane:
        """Convert a window, see `Calibration`."""
        height, width = values.shape
        angles = self.incidence.window(top, top + height, left, left + width)
        if self.calibration:
            plane = self.calibration(values, top, left)
        else:
            plane = CalibratedPlane(values, 0)
        if self.is_decibel:
            gamma0 = 10 ** (plane.values / 10)
        else:
            gamma0 = plane.values
        sigma0 = (gamma0 * np.cos(np.radians(angles))).astype(np.float32)
        sigma0[values == 0] = np.nan
        return CalibratedPlane(sigma0, plane.clipped)


@dataclass(frozen=True)
class FactorCalibration:
    """Calibration by one factor: backscatter = factor * DN^2."""

    factor: float

    def __post_init__(self) -> None:
        if not 0 < self.factor < np.inf:
            raise ValueError(
                f"the calibration factor {self.factor:g} is not a positive number"
            )

    def __call__(self, values: Plane, top: int, left: int) -> CalibratedPlane:
        """Calibrate a window, see `Calibration`."""
        power = values * values * np.float32(self.factor)
        power[values == 0] = np.nan
        return CalibratedPlane(power, 0)


@dataclass(frozen=True, eq=False)
class LineTable:
    """Values between which an image is interpolated bilinearly, in line and pixel.

    Beyond the first and last line or pixel, the value there is used.

    Attributes:
        lines: (L,) line numbers, increasing.
        pixels: for each line, (P,) pixel numbers, increasing.
        values: for each line, (P,) values.

    Raises:
        ValueError: lines or pixels do not increase, or the numbers of entries differ.

    Example:
        >>> table = LineTable(np.array([0.0, 10.0]), [np.array([0.0, 4.0])] * 2, [np.array([0.0, 4.0])] * 2)
        >>> table.window(5, 6, 1, 4).tolist()
        [[1.0, 2.0, 3.0]]
    """

    lines: Floats
    pixels: Sequence[Floats]
    values: Sequence[Floats]

    def __post_init__(self) -> None:
        if not len(self.lines) == len(self.pixels) == len(self.values) > 0:
            raise ValueError("the table has no lines")
        if (np.diff(self.lines) <= 0).any() or any(
            (np.diff(pixels) <= 0).any() for pixels in self.pixels
        ):
            raise ValueError("the lines or pixels of the table do not increase")
        for pixels, values in zip(self.pixels, self.values, strict=True):
            if not len(pixels) == len(values) > 0 or not np.isfinite(values).all():
                raise ValueError(
                    "the table has lines without values, or values that are not finite"
                )

    @classmethod
    def from_points(cls, points: Iterable[tuple[object, float, float, float]]) -> Self:
        """Make a table of points of a grid: (key of their line, row, column, value); a line has the mean row.

        Returns:
            The table.

        Raises:
            ValueError: see the class.
        """
        lines: dict[object, list[tuple[float, float, float]]] = {}
        for key, *point in points:
            lines.setdefault(key, []).append((point[0], point[1], point[2]))
        tables = sorted(
            (np.array(sorted(line, key=lambda x: x[1])).T for line in lines.values()),
            key=lambda x: x[0, 0],
        )
        return cls(
            np.array([t[0].mean() for t in tables]),
            [t[1] for t in tables],
            [t[2] for t in tables],
        )

    @classmethod
    def constant(cls, value: float) -> Self:
        """Return a table with one value for the whole image."""
        return cls(np.zeros(1), [np.zeros(1)], [np.array([value])])

    def window(
        self, top: int, bottom: int, left: int, right: int, dtype: Any = np.float64
    ) -> NDArray[Any]:
        """Interpolate the table at all pixels of a window: values (bottom - top, right - left).

        `bottom` and `right` are behind the last row and column; `dtype` is float64 or
        float32.

        Returns:
            Noise (bottom - top, right - left).
        """
        cols = np.arange(left, right, dtype=np.float64)
        lower, weights = self._rows(np.arange(top, bottom, dtype=np.float64))
        window = np.empty((bottom - top, right - left), dtype)
        mix = np.column_stack([1 - weights, weights]).astype(dtype)
        for index in np.unique(lower):
            start, stop = np.searchsorted(lower, (index, index + 1))
            pair = (
                self._row(index, cols),
                self._row(min(index + 1, len(self.lines) - 1), cols),
            )
            np.matmul(
                mix[start:stop], np.stack(pair).astype(dtype), out=window[start:stop]
            )
        return window

    def __call__(self, rows: Floats, cols: Floats) -> Floats:
        """Interpolate the table at some pixels: rows (N,) and columns (N,) -> values (N,)."""
        lower, weights = self._rows(rows)
        values = np.empty(len(rows))
        for index in np.unique(lower):
            chosen = lower == index
            first = self._row(index, cols[chosen])
            second = self._row(min(index + 1, len(self.lines) - 1), cols[chosen])
            values[chosen] = first + weights[chosen] * (second - first)
        return values

    def _rows(self, rows: Floats) -> tuple[Indices, Floats]:
        """Return the index of the line before each row, and the weight of the line after it."""
        lower = np.clip(
            np.searchsorted(self.lines, rows, side="right") - 1,
            0,
            max(0, len(self.lines) - 2),
        )
        upper = np.minimum(lower + 1, len(self.lines) - 1)
        distance = np.maximum(self.lines[upper] - self.lines[lower], 1)
        return lower, np.clip((rows - self.lines[lower]) / distance, 0, 1)

    def _row(self, index: int, cols: Floats) -> Floats:
        return np.asarray(np.interp(cols, self.pixels[index], self.values[index]))
