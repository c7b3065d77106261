"""Files of a Sentinel-1 product (.SAFE): a folder, or a folder in a zip archive that is never unpacked."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from rsft.errors import DataError
from rsft.utils.untrusted.regular_files import open_regular
from rsft.utils.untrusted.safe_xml import parse_xml

MAX_XML_BYTES = 2**25
"""Largest XML file that is read: 32 MiB. The annotation of a Sentinel-1 image has less than 3 MiB."""

_MANIFEST = "manifest.safe"
_DAMAGED = "download the product again"


@dataclass(frozen=True)
class SafeFolder:
    """The files of a product.

    Attributes:
        path: the .SAFE folder, or the zip archive.
        is_archive: whether the product is in a zip archive.
        prefix: folder of the product in the archive, with a trailing slash; empty if there is none.
        names: names of all files below the folder of the product, with slashes.
        selected: names of the measurements to read.
    """

    path: Path
    is_archive: bool
    prefix: str
    names: tuple[str, ...]
    selected: tuple[str, ...]

    @property
    def gdal_paths(self) -> tuple[str, ...]:
        """Paths of the selected measurements for GDAL."""
        if self.is_archive:
            return tuple(f"/vsizip/{{{self.path.absolute()}}}/{self.prefix}{name}" for name in self.selected)
        return tuple(str(self.path / name) for name in self.selected)

    def find_xml(self, folder: str, measurement: str, prefix: str = "") -> str | None:
        """Return the name of the XML file that describes a measurement.

        Args:
            folder: folder of the file, such as "annotation/calibration".
            measurement: name of the measurement.
            prefix: beginning of the file name, such as "noise-".

        Returns:
            The name; None if the product has no such file.
        """
        stem = _stem(measurement)
        matches = (
            name
            for name in self.names
            if name.rpartition("/")[0] == folder and name.endswith(".xml") and _stem(name) == prefix + stem
        )
        return next(matches, None)

    def read_xml(self, name: str) -> ElementTree.Element:
        """Parse an XML file.

        Args:
            name: name of the file below the folder of the product.

        Returns:
            The root element.

        Raises:
            DataError: the file is too large, not XML, or declares a document type.
        """
        location = self.path / name
        try:
            data = self._read(name)
        except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
            raise DataError(f"the file cannot be read: {error}", location, _DAMAGED) from error
        if len(data) > MAX_XML_BYTES:
            raise DataError(f"the file is larger than {MAX_XML_BYTES:,} bytes", location, _DAMAGED)
        try:
            return parse_xml(data)
        except ValueError as error:
            raise DataError(f"the file cannot be used: {error}", location, _DAMAGED) from error

    def _read(self, name: str) -> bytes:
        """Read a file, but at most one byte more than the limit."""
        if not self.is_archive:
            with open_regular(self.path / name) as file:
                return file.read(MAX_XML_BYTES + 1)
        with zipfile.ZipFile(self.path) as archive, archive.open(self.prefix + name) as entry:
            return entry.read(MAX_XML_BYTES + 1)


def find_safe_folder(path: Path) -> SafeFolder | None:
    """Find the Sentinel-1 product that a path belongs to.

    Args:
        path: a .SAFE folder, its manifest.safe, one of its measurements, or a zip archive that contains it.

    Returns:
        The files of the product; None if the path is something else.

    Raises:
        DataError: the product has no measurements; a zip archive contains several products, or is damaged.
    """
    if path.name == _MANIFEST:
        return _open_folder(path.parent)
    if path.is_dir():
        return _open_folder(path)
    if path.suffix.lower() == ".zip" and path.is_file():
        return _open_archive(path)
    if path.parent.name == "measurement" and (path.parent.parent / "annotation").is_dir():
        return _open_folder(path.parent.parent, f"measurement/{path.name}")
    return None


def _open_folder(path: Path, measurement: str | None = None) -> SafeFolder | None:
    patterns = ("measurement/*.tif*", "annotation/*.xml", "annotation/calibration/*.xml")
    names = sorted(file.relative_to(path).as_posix() for pattern in patterns for file in path.glob(pattern))
    selected = _measurements(names) if measurement is None else (measurement,)
    if selected:
        return SafeFolder(path, False, "", tuple(names), selected)
    if (path / _MANIFEST).is_file():
        raise _no_measurements(path)
    return None


def _open_archive(path: Path) -> SafeFolder | None:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.namelist()
    except (OSError, zipfile.BadZipFile) as error:
        raise DataError(f"the archive cannot be read: {error}", path, _DAMAGED) from error
    manifests = [entry for entry in entries if entry.rpartition("/")[2] == _MANIFEST]
    if len(manifests) > 1:
        raise DataError(f"the archive contains {len(manifests)} products", path, "unpack it, and give one of them")
    if not manifests:
        return None
    prefix = manifests[0].removesuffix(_MANIFEST)
    names = sorted(entry.removeprefix(prefix) for entry in entries if entry.startswith(prefix))
    if not (selected := _measurements(names)):
        raise _no_measurements(path)
    return SafeFolder(path, True, prefix, tuple(names), selected)


def _measurements(names: list[str]) -> tuple[str, ...]:
    return tuple(name for name in names if name.startswith("measurement/") and name.endswith((".tiff", ".tif")))


def _no_measurements(path: Path) -> DataError:
    return DataError("the product has no images in measurement/", path, _DAMAGED)


def _stem(name: str) -> str:
    """Return a file name without folder, suffix and the mark of cloud-optimized products."""
    return name.rpartition("/")[2].rpartition(".")[0].removesuffix("-cog")
