"""Base class of products whose header, in XML, JSON or text, lists rasters beside it.

GDAL reads the pixels with the driver of the raster, so no driver of a product needs
trust.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar, Self
from xml.etree.ElementTree import Element

from rsft.data.imagery.products.product import (
    Handles,
    Product,
    SensorProduct,
)
from rsft.errors import DataError
from rsft.types import Names
from rsft.utils.untrusted.documents import open_regular, read_regular
from rsft.utils.untrusted.xml_documents import parse_xml

MAX_HEADER_BYTES = 2**25
"""Largest header that is read: 32 MiB. Those of RADARSAT-2 and TerraSAR-X have some
MB."""

Images = dict[str, Path]
"""The rasters of a product by their band."""

_START = 2**18
"""Bytes of a file in which the marker of its format must occur; orbits may come before
it."""
_MAX_FILES = 64
"""Files of one pattern that are tried."""
_AGAIN = "download the product again"


@contextmanager
def damaged_header(path: Path) -> Iterator[None]:
    """Turn errors of content that contradicts a specification into one with the file.

    Raises:
        DataError: the file is too large, not a file, or not what its specification
            says.
    """
    try:
        yield
    except KeyError as error:
        raise DataError(
            f"the file cannot be used: it has no {error}", path, _AGAIN
        ) from error
    except (
        OSError,
        ValueError,
        TypeError,
        LookupError,
        AttributeError,
        ArithmeticError,
    ) as error:
        raise DataError(f"the file cannot be used: {error}", path, _AGAIN) from error


def _read_start(path: Path) -> bytes:
    """Return the first bytes of a file; none if it is no file.

    Raises:
        DataError: the file may not be read. Without its header, an image would have no
            calibration.
    """
    try:
        with open_regular(path) as file:
            return file.read(_START)
    except PermissionError as error:
        raise DataError(
            "the file may be the header of a product, but cannot be read:"
            f" {error.strerror}",
            path,
            "give the folder of the product",
        ) from error
    except OSError:
        return b""


def read_header_xml(path: Path) -> Element:
    """Read an XML file without document type; remove the namespaces of all elements.

    Raises:
        DataError: the file is too large, or not such XML.
    """
    with damaged_header(path):
        root = parse_xml(read_regular(path, MAX_HEADER_BYTES))
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    return root


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

    headers: ClassVar[Names]
    marker: ClassVar[bytes]
    folders: ClassVar[Names] = ()
    entries: ClassVar[Names] = ()
    detected: ClassVar[str]

    complex_kind = ""
    bands: Names

    def __init__(self, root: Path, header: Path) -> None:
        self.root = root
        self.header = header

    def load(self) -> Images | None:
        """Read the header.

        Returns:
            The rasters by their band; None if the header is of another kind of product.

        Raises:
            DataError: the header is damaged.
            ValueError: its content is not what the specification says.
        """
        raise NotImplementedError

    def describe(self, handles: Handles) -> Product:
        """Return what the product says about the pixels of `files`; see `read`.

        Raises:
            DataError: another file of the product is damaged.
            ValueError: the header is not what the specification says.
        """
        raise NotImplementedError

    def read(self, handles: Handles, keep_noise: bool) -> Product:
        """Describe the product."""
        with damaged_header(self.header):
            return self.describe(handles)

    @classmethod
    def find(cls, path: Path) -> Self | None:
        """Return the product of a folder, of a header, or of a raster in a header.

        Raises:
            DataError: the folder contains several products, or the product is damaged,
                incomplete or complex.
        """
        root = cls._root_of(path)
        is_whole = root == path or path.name in cls.entries
        products = []
        for product, images in cls._products_in(root):
            if is_whole or path == product.header:
                products.append((product, images))
                continue
            named = {x: file for x, file in images.items() if file.name == path.name}
            if named:
                return product._select(path, named)
        if not products:
            return None
        if len(products) > 1:
            names = ", ".join(product.header.name for product, _ in products[:3])
            raise DataError(
                f"the folder contains {len(products)} products of {cls.title}",
                path,
                f"give one: {names}",
            )
        product, images = products[0]
        is_only = not any("*" in pattern for pattern in cls.headers)
        if is_only or path.name in cls.entries:
            path = root
        return product._select(path, images)

    @classmethod
    def _root_of(cls, path: Path) -> Path:
        """Return the folder of the product that a path may belong to."""
        if path.is_dir():
            return path
        if path.parent.name in cls.folders:
            return path.parent.parent
        return path.parent

    @classmethod
    def _products_in(cls, root: Path) -> Iterator[tuple[Self, Images]]:
        """Yield the product of each header in a folder, with its rasters by band."""
        for pattern in cls.headers:
            for header in sorted(root.glob(pattern))[:_MAX_FILES]:
                if cls.marker not in _read_start(header):
                    continue
                product = cls(root, header)
                with damaged_header(header):
                    images = product.load()
                if images is not None:
                    yield product, {x: _normalize(images[x]) for x in images}

    def file_beside(self, *names: str) -> Path:
        """Return the path of a file that the header names.

        Args:
            names: folders and the file, from the folder of the header on.

        Returns:
            The absolute path without "..".

        Raises:
            DataError: it is outside of the product.
        """
        path = _normalize(self.header.parent.joinpath(*names))
        if _normalize(self.root) not in path.parents:
            raise DataError(f"{path} is outside of it", self.header, _AGAIN)
        return path

    @classmethod
    def complex_error(cls, kind: str, path: object) -> DataError:
        """Return the error for a product whose pixels are complex.

        Args:
            kind: what its metadata says about them.
            path: the file, for the message.
        """
        return DataError(
            f"{cls.title}: the pixels are complex ({kind})",
            path,
            "calibrate and detect it in SNAP, export a GeoTIFF, and give that; or order"
            f" {cls.detected}",
        )

    def _select(self, path: Path, images: Images) -> Self:
        """Choose the images to read, and report all faults of the product together."""
        if self.complex_kind:
            raise self.complex_error(self.complex_kind, self.header)
        root = _normalize(self.root)
        faults = []
        with damaged_header(self.header):  # a name may be too long
            for file in images.values():
                if not file.is_file():
                    faults.append(f"the image {file.name} is missing")
                if root not in file.parents:
                    faults.append(f"{file} is outside of it")
        if not images:
            faults.append("it lists no image")
        if faults:
            raise DataError(f"{self.title}: {'; '.join(faults)}", self.header, _AGAIN)
        self.path = path
        self.bands = tuple(images)
        self.files = tuple(map(str, images.values()))
        return self


def _normalize(path: Path) -> Path:
    """Return the absolute path without "..". Links stay: a user may have made them."""
    return Path(os.path.normpath(path.absolute()))
