"""Base class of products whose header, in XML, JSON or text, lists rasters beside it: find it, and read it safely.

GDAL reads the pixels with the driver of the raster, so no driver of a product needs
trust.
"""

import fnmatch
import os
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self
from xml.etree.ElementTree import Element

import numpy as np

from rsft.data.imagery.products.product import CalibratedPlane, Product, SensorProduct
from rsft.errors import DataError
from rsft.types import Floats, Plane
from rsft.utils.untrusted.documents import open_regular, parse_xml, read_regular

MAX_HEADER_BYTES = 2**25
"""Largest header that is read: 32 MiB. Those of RADARSAT-2 and TerraSAR-X have some
MB."""

_START = (
    2**18
)  # bytes of a file in which the marker of its format must occur; orbits may come before it
_MAX_FILES = 64  # files of one pattern that are tried


@contextmanager
def damaged_header(path: Path) -> Iterator[None]:
    """Turn what is raised for content that contradicts a specification into an error that names the file.

    Raises:
        DataError: the file is too large, not a file, or not what its specification
            says.
    """
    try:
        yield
    except (
        OSError,
        ValueError,
        TypeError,
        LookupError,
        AttributeError,
        ArithmeticError,
    ) as error:
        if isinstance(error, KeyError):
            fault = f"it has no {error}"
        else:
            fault = str(error)
        raise DataError(
            f"the file cannot be used: {fault}", path, "download the product again"
        ) from error


def _read_start(path: Path) -> bytes:
    """Return the first bytes of a file, in which the marker of its format must occur; none if it is no file.

    Raises:
        DataError: the file may not be read. Without its header, an image would have no
            calibration.
    """
    try:
        with open_regular(path) as file:
            return file.read(_START)
    except PermissionError as error:
        raise DataError(
            (
                "the file may be the header of a product, but cannot be read:"
                f" {error.strerror}"
            ),
            path,
            "give the folder of the product",
        ) from error
    except OSError:
        return b""


def read_plain_xml(path: Path) -> Element:
    """Read an XML file without document type, and remove the namespaces of all elements.

    Returns:
        The root element.

    Raises:
        DataError: the file is too large, or not such XML.
    """
    with damaged_header(path):
        root = parse_xml(read_regular(path, MAX_HEADER_BYTES))
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    return root


def read_numbers(parent: Element, name: str) -> Floats:
    """Return the numbers in all elements called `name` below `parent`.

    Returns:
        Numbers (N,), at least one.

    Raises:
        ValueError: there are none, or one is not finite.
    """
    numbers = np.array(
        " ".join(element.text or "" for element in parent.findall(name)).split(),
        np.float64,
    )
    if not numbers.size or not np.isfinite(numbers).all():
        raise ValueError(f"<{parent.tag}> has no numbers {name}")
    return numbers


class HeaderProduct(SensorProduct):
    """A product whose header lists its rasters, one per polarization.

    Attributes:
        headers: patterns of the header, relative to the folder of the product.
        marker: what the beginning of a header contains.
        folders: names of the folders of the product with headers and rasters; "" is the
            product itself.
        entries: names of further files that stand for the whole product.
        detected: what to order in place of a complex product.
        header: path of the header.
        complex_kind: what the header says about complex pixels; empty if they are
            detected.
        bands: names of the bands of `files`.
    """

    headers: ClassVar[tuple[str, ...]]
    marker: ClassVar[bytes]
    folders: ClassVar[tuple[str, ...]] = ()
    entries: ClassVar[tuple[str, ...]] = ()
    detected: ClassVar[str]

    complex_kind = ""
    bands: tuple[str, ...]

    def __init__(self, root: Path, header: Path) -> None:
        self.root = root
        self.header = header

    def load(self) -> dict[str, Path] | None:
        """Read the header.

        Returns:
            The rasters by their band; None if the header is of another kind of product.

        Raises:
            DataError: the header is damaged.
            ValueError: its content is not what the specification says.
        """
        raise NotImplementedError

    def describe(self, handles: Sequence[Any]) -> Product:
        """Return what the product says about the pixels of `files`; see `read`.

        Raises:
            DataError: another file of the product is damaged.
            ValueError: the header is not what the specification says.
        """
        raise NotImplementedError

    @staticmethod
    def read_tie_points(
        points: Iterable[Element], names: tuple[str, str, str, str], shift: float
    ) -> tuple[tuple[float, float, float, float], ...]:
        """Return the points of a grid for `Product.tie_points`; none unless all state their coordinates.

        Args:
            points: elements of the points.
            names: paths of row, column, longitude and latitude below them.
            shift: added to row and column, so that the center of the first pixel is
                0.5.

        Returns:
            The points.
        """
        try:
            rows = [
                [float(read_numbers(point, name)[0]) for name in names]
                for point in points
            ]
        except ValueError:
            return ()
        return tuple(
            (row + shift, col + shift, lon, lat) for row, col, lon, lat in rows
        )

    def read(self, handles: Sequence[Any], keep_noise: bool) -> Product:
        """Describe the product."""
        with damaged_header(self.header):
            return self.describe(handles)

    @classmethod
    def find(cls, path: Path) -> Self | None:
        """Return the product of a folder, of a header, or of a raster that a header lists.

        Raises:
            DataError: the folder contains several products, or the product is damaged,
                incomplete or complex.
        """
        if path.suffix.lower() == ".zip":
            cls._refuse_archive(path)
        is_folder = path.is_dir()
        if is_folder:
            root = path
        else:
            if path.parent.name in cls.folders:
                root = path.parent.parent
            else:
                root = path.parent
        products = []
        for header in [
            file
            for pattern in cls.headers
            for file in sorted(root.glob(pattern))[:_MAX_FILES]
        ]:
            if cls.marker in _read_start(header):
                product = cls(root, header)
                with damaged_header(header):
                    images = product.load()
                images = images and {
                    band: _normalize(file) for band, file in images.items()
                }
                if images is not None and is_folder | (path == header) | (
                    path.name in cls.entries
                ):
                    products.append((product, images))
                elif images and (
                    one := {
                        band: file
                        for band, file in images.items()
                        if file.name == path.name
                    }
                ):
                    return product._select(path, one)
        if len(products) > 1:
            names = ", ".join(product.header.name for product, _ in products[:3])
            raise DataError(
                f"the folder contains {len(products)} products of {cls.title}",
                path,
                f"give one: {names}",
            )
        if path.name in cls.entries or not any(
            "*" in pattern for pattern in cls.headers
        ):
            name = root
        else:
            name = path
        if products:
            return products[0][0]._select(name, products[0][1])
        return None

    @classmethod
    def _refuse_archive(cls, path: Path) -> None:
        """Raise an error if an archive contains such a product; `Sentinel1` reports archives that cannot be read."""
        with (
            suppress(OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError),
            zipfile.ZipFile(path) as archive,
        ):
            patterns = [
                pattern for header in cls.headers for pattern in (header, f"*/{header}")
            ]
            names = [
                name
                for name in archive.namelist()
                if any(fnmatch.fnmatch(name, x) for x in patterns)
            ]
            for name in names[:_MAX_FILES]:
                with archive.open(name) as file:
                    if cls.marker in file.read(_START):
                        raise DataError(
                            f"the archive is a product of {cls.title}",
                            path,
                            "unpack it, give its folder",
                        )

    @classmethod
    def complex_error(cls, kind: str, path: object) -> DataError:
        """Return the error for a product whose pixels are complex; `kind` is what its metadata says about them."""
        hint = (
            "calibrate and detect it in SNAP, export a GeoTIFF, and give that; or"
            f" order {cls.detected}"
        )
        return DataError(f"{cls.title}: the pixels are complex ({kind})", path, hint)

    def _select(self, path: Path, images: dict[str, Path]) -> Self:
        """Choose the images to read, and report all faults of the product together."""
        if self.complex_kind:
            raise self.complex_error(self.complex_kind, self.header)
        root = _normalize(self.root)
        with damaged_header(self.header):  # a name may be too long
            faults = [
                f"the image {file.name} is missing"
                for file in images.values()
                if not file.is_file()
            ]
        faults += [
            f"{file} is outside of it"
            for file in images.values()
            if root not in _normalize(file).parents
        ]
        if faults or not images:
            message = "; ".join(faults) or "it lists no image"
            raise DataError(
                f"{self.title}: {message}", self.header, "download the product again"
            )
        self.path = path
        self.bands = tuple(images)
        self.files = tuple(map(str, images.values()))
        return self


def _normalize(path: Path) -> Path:
    """Return the absolute path without "..". Links stay: a user may have made them."""
    return Path(os.path.normpath(path.absolute()))


@dataclass(frozen=True, eq=False)
class ScaledCalibration:
    """Calibration by a factor for each pixel: backscatter = (DN^2 + offset) * factor.

    Attributes:
        factors: first and last row, first and last column of a window, without the last
            ones -> factors (H, W).
        offset: added to the squared digital numbers.
    """

    factors: Callable[[int, int, int, int], Floats]
    offset: float = 0.0

    def __call__(self, values: Plane, top: int, left: int) -> CalibratedPlane:
        """Calibrate a window, see `Calibration`."""
        factors = self.factors(top, top + values.shape[0], left, left + values.shape[1])
        power = ((values.astype(np.float64) ** 2 + self.offset) * factors).astype(
            np.float32
        )
        power[values == 0] = np.nan
        return CalibratedPlane(power, 0)
