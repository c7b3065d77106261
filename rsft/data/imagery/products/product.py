"""What products of sensors say about their pixels, and the registry of these products.

A product is a folder or a file of a sensor: rasters with their calibration, incidence
angles and times. Each kind of product is one class with a `name`. Another package adds
one through the entry-point group "rsft.products".
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np

from rsft.data.imagery.band_names import read_unit
from rsft.data.imagery.products.calibration import (
    Calibration,
    CosineCalibration,
    FactorCalibration,
)
from rsft.data.imagery.products.elements import TiePoint
from rsft.data.imagery.products.line_table import LineTable
from rsft.data.imagery.products.options import ProductOptions
from rsft.errors import DataError, RequestError
from rsft.types import Floats, Names
from rsft.utils.cell.client import in_cell
from rsft.utils.registry import Registry, entry_points_of

_MIN_INCIDENCE = 2.0  # degrees
_ANGLES_ALONG_SIDE = 9
Handles = Sequence[Any]
"""Rasters that rasterio has opened."""

PixelGrid = Callable[[Floats, Floats], Floats]
"""Rows (N,) and columns (N,) of pixels -> values (N,), such as incidence angles to the
vertical in degrees."""


class RadarMotion(NamedTuple):
    """How a radar moved along the rows of a raster in radar geometry.

    The rows of such a raster are lines of one azimuth time.

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
        digital_unit: unit that the stored digital numbers have as well, for models that
            take the numbers of this sensor; None if they have none.
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
        tie_points: points for rasters without georeference. Pixel coordinates are those
            of GDAL.
        NOISE_REMOVED: value of `noise` if the calibrations subtract the thermal noise.
    """

    NOISE_REMOVED: ClassVar[str] = "thermal noise removed"

    kind: str = "raster"
    unit: str | None = None
    digital_unit: str | None = None
    bands: Names | None = None
    calibrations: Mapping[str, tuple[Calibration, ...]] = field(default_factory=dict)
    calibration_source: str = ""
    noise: str = ""
    acquired: str | None = None
    finished: str | None = None
    pass_direction: str | None = None
    incidence: PixelGrid | None = None
    motion: RadarMotion | None = None
    tie_points: tuple[TiePoint, ...] = ()

    def __post_init__(self) -> None:
        """Replace empty texts, which a description without a value gives, by None."""
        for name in ("acquired", "finished", "pass_direction"):
            object.__setattr__(self, name, getattr(self, name) or None)


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
    files: Names

    @classmethod
    def find(cls, path: Path) -> Self | None:
        """Return the product that a folder or file is or belongs to.

        No pixels are read.

        Returns:
            The product; None for all other paths.

        Raises:
            DataError: the path is such a product, but damaged.
        """
        return None

    def read(self, handles: Handles, keep_noise: bool) -> Product:
        """Return what the product says about its pixels.

        Args:
            handles: the rasters `files`, which rasterio has opened.
            keep_noise: whether the calibrations keep the thermal noise.

        Raises:
            DataError: the description is damaged.
        """
        raise NotImplementedError

    @classmethod
    def read_tags(cls, handles: Handles) -> Product | None:
        """Return what the tags of rasters say that `find` does not recognize.

        Returns:
            The description; None if they are no such product.

        Raises:
            ValueError: the tags are damaged.
        """
        return None


PRODUCTS: Registry[type[SensorProduct]] = Registry(
    "product", "rsft.products", "rsft.data.imagery.products"
)
"""All kinds of products by name."""


def _all_products() -> Iterator[type[SensorProduct]]:
    """Return all kinds of products; warn about those whose package cannot be imported.

    Kinds of plug-ins and other packages come first. Some have a file of a more general
    kind: RCM has the manifest.safe of Sentinel-1, and Umbra a file of SICD.
    """
    specific = entry_points_of(PRODUCTS.group)
    return PRODUCTS.usable(sorted(PRODUCTS, key=lambda name: name not in specific))


@in_cell
def is_product(path: Path) -> bool:
    """Return whether a folder or file is a product, see `find_product`."""
    return find_product(path) is not None


def find_product(path: Path) -> SensorProduct | None:
    """Return the product that a folder or file is or belongs to.

    Returns:
        The product; None if no registered kind recognizes it.

    Raises:
        DataError: the product is damaged.
    """
    for kind in _all_products():
        product = kind.find(path)
        if product:
            return product
    return None


def read_product(
    path: object,
    handles: Handles,
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
    _check_modulus(path, handles, options.modulus)
    if owner:
        product = owner.read(handles, options.keep_noise)
    else:
        product = _read_tags(path, handles)
    _check_incidence(path, product, handles[0])
    if options.keep_noise and not product.noise:
        raise RequestError(
            "--read keep-noise is for products whose thermal noise rsft removes, such"
            " as those of Sentinel-1",
            path,
            "leave out --read keep-noise",
        )
    product = replace(product, unit=read_unit(handles, path) or product.unit)
    if options.gamma0_to_sigma0:
        return _to_sigma0(path, product)
    if options.factor:
        bands = sum(file.count for file in handles)
        return _calibrate(path, product, options.factor, bands)
    if options.modulus and product.unit is None:
        return replace(product, unit="amplitude")
    return product


def _check_incidence(path: object, product: Product, file: Any) -> None:
    """Raise an error if angles to the vertical are no angles of a radar in degrees.

    Radians are at most 1.57.
    """
    if not product.incidence:
        return
    rows, cols = np.meshgrid(
        np.linspace(0, file.height, _ANGLES_ALONG_SIDE),
        np.linspace(0, file.width, _ANGLES_ALONG_SIDE),
    )
    angles = product.incidence(rows.ravel(), cols.ravel())
    angles = angles[np.isfinite(angles)]
    worst = angles.min(initial=_MIN_INCIDENCE)
    if worst == _MIN_INCIDENCE:
        worst = angles.max(initial=worst)
    if not _MIN_INCIDENCE <= worst < 90:
        raise DataError(
            f"the product states an incidence angle of {worst:g} degrees; that of a"
            f" radar image is between {_MIN_INCIDENCE:g} and 90",
            path,
            "correct the product or download it again; angles in radians must be"
            " converted to degrees",
        )


def _check_modulus(path: object, handles: Handles, modulus: bool) -> None:
    """Raise an error unless the modulus is requested for complex pixels alone."""
    dtypes = sorted(set().union(*[file.dtypes for file in handles]))
    complex_dtypes = [dtype for dtype in dtypes if dtype.startswith("complex")]
    if complex_dtypes and not modulus:
        raise DataError(
            f"the pixels are complex ({', '.join(complex_dtypes)}), but a model takes"
            " real values",
            path,
            "give --read modulus, which takes their modulus (the amplitude)",
        )
    if modulus and not complex_dtypes:
        raise RequestError(
            f"--read modulus is for complex pixels, but these are {', '.join(dtypes)}",
            path,
            "leave out --read modulus",
        )


def _read_tags(path: object, handles: Handles) -> Product:
    """Return what the tags of rasters say; a raster of no product says nothing."""
    try:
        for kind in _all_products():
            product = kind.read_tags(handles)
            if product:
                return product
    except (TypeError, ValueError, ArithmeticError) as error:
        raise DataError(
            f"the tags of the product cannot be used: {error}",
            path,
            "download it again",
        ) from error
    return Product()


def _calibrate(path: object, product: Product, factor: float, bands: int) -> Product:
    """Return a product of digital numbers with a calibration to sigma0 by a factor."""
    if product.calibrations or product.unit not in (None, "amplitude"):
        raise RequestError(
            "--read calibrate is for digital numbers, but the file states"
            f" {product.calibration_source or product.unit}",
            path,
            "leave out --read calibrate",
        )
    return replace(
        product,
        unit="amplitude",
        calibrations={"sigma0": (FactorCalibration(factor),) * bands},
        calibration_source=f"factor {factor:g}",
    )


def _to_sigma0(path: object, product: Product) -> Product:
    """Return a product of gamma0 with a calibration to sigma0."""
    calibrations = product.calibrations
    steps: Sequence[Calibration | None] | None = calibrations.get("gamma0")
    if steps is None and product.unit in ("gamma0", "gamma0_db"):
        steps = (None,) * len(product.bands or (None,))
    incidence = product.incidence
    is_other = steps is None or "sigma0" in calibrations
    if is_other or not isinstance(incidence, LineTable):
        raise RequestError(
            "--read gamma0-to-sigma0 is for products of gamma0 that state incidence"
            " angles and have no calibration to sigma0",
            path,
            "leave out --read gamma0-to-sigma0, or process the scene to sigma0",
        )
    is_decibel = product.unit == "gamma0_db"
    converted = [CosineCalibration(incidence, x, is_decibel) for x in steps or ()]
    return replace(
        product,
        calibrations={"sigma0": tuple(converted)},
        calibration_source=(
            "sigma0 = gamma0 * cos(incidence angle at the ellipsoid), as"
            " --read gamma0-to-sigma0 asks; wrong on slopes"
        ),
    )
