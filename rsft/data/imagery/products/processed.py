"""Read processed products: BEAM-DIMAP of SNAP, and Sentinel-1 RTC of ASF HyP3 and OPERA.

Sources: SNAP, "BEAM-DIMAP format": a header .dim, and a folder .data with one ENVI file
per band, whose name says the quantity. ASF, "Sentinel-1 RTC Product Guide", naming
convention. OPERA, "RTC-S1 Product Specification" (JPL D-108758), tags of the
backscatter convention.
"""

import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar
from xml.etree.ElementTree import Element

import numpy as np

from rsft.data.imagery.bands import POLARIZATIONS
from rsft.data.imagery.products.headers import (
    HeaderProduct,
    read_numbers,
    read_plain_xml,
)
from rsft.data.imagery.products.product import (
    PRODUCTS,
    FactorCalibration,
    LineTable,
    Product,
    SensorProduct,
)
from rsft.data.imagery.rasters import open_raster
from rsft.types import Floats

# beginning and end of the name of a band in SNAP; the first that a product has is read
_UNITS = {
    ("sigma0", ""): "sigma0",
    ("sigma0", "_db"): "db",
    ("gamma0", ""): "gamma0",
    ("gamma0", "_db"): "gamma0_db",
    ("beta0", ""): "beta0",
    ("intensity", ""): "intensity",
    ("amplitude", ""): "amplitude",
}
_BAND = re.compile(rf"([a-z]+0?)_({'|'.join(POLARIZATIONS).lower()})(_db)?")
_GRANULE = re.compile(r"S1._\w\w_(\d{8})T(\d{6})_\w+_RTC\d+_\w_([gs])([pad])")
_CONVENTION = "PROCESSING_INFORMATION_OUTPUT_BACKSCATTER_{}_CONVENTION"
_MAX_TIE_POINTS = 2**22
_GRID = 129  # largest number of lines and columns in which a raster of angles is read


@PRODUCTS.register
class Dimap(HeaderProduct):
    """A SAR product in BEAM-DIMAP: its .dim, or the folder with it."""

    name: ClassVar[str] = "snap-dimap"
    title: ClassVar[str] = "SNAP"
    headers: ClassVar[tuple[str, ...]] = ("*.dim",)
    marker: ClassVar[bytes] = b"<Dimap_Document"
    detected: ClassVar[str] = "a detected product (GRD)"
    document: Element
    unit: str

    def load(self) -> dict[str, Path] | None:
        """Read the names of the bands. Virtual bands have no file."""
        self.document = read_plain_xml(self.header)
        names = [
            x.text or ""
            for x in self.document.findall(
                "Image_Interpretation/Spectral_Band_Info/BAND_NAME"
            )
        ]
        images: dict[str, dict[str, Path]] = {}
        for name in names:
            match = _BAND.fullmatch(name.lower())
            file = self._file(f"{name}.img")
            if match and file.is_file():
                images.setdefault(_UNITS.get((match[1], match[3] or ""), ""), {})[
                    match[2].upper()
                ] = file
        self.unit = next((unit for unit in _UNITS.values() if unit in images), "")
        if not self.unit and any(name.startswith("i_") for name in names):
            self.complex_kind = "bands i and q"
        else:
            self.complex_kind = ""
        if self.unit:
            return images.get(self.unit)
        if self.complex_kind:
            return {}
        return None

    def describe(self, handles: Sequence[Any]) -> Product:
        """Read the time, the pass and the incidence angles."""
        times = [
            self.document.findtext(
                f"Production/PRODUCT_SCENE_RASTER_{x}_TIME", ""
            ).strip()
            for x in ("START", "STOP")
        ]
        start, stop = (_iso_time(time) if time else None for time in times)
        attribute = self.document.find(".//MDATTR[@name='PASS']")
        return Product(
            kind=(
                f"{self.title} {self.document.findtext('Production/PRODUCT_TYPE', '')}".strip()
            ),
            unit=self.unit,
            bands=self.bands,
            acquired=start,
            finished=stop,
            pass_direction=("" if attribute is None else attribute.text or "")
            .strip()
            .lower()
            or None,
            incidence=self._angles(),
        )

    def _file(self, name: str) -> Path:
        return self.header.with_suffix(".data") / name

    def _angles(self) -> LineTable | None:
        """Read the incidence angles at the ellipsoid: a band of them, or tie points; None without either."""
        if self._file("incidenceAngleFromEllipsoid.img").is_file():
            return _sample(self._file("incidenceAngleFromEllipsoid.img"), 1.0)
        path = self._file("tie_point_grids/incident_angle.img")
        for grid in self.document.findall("Tie_Point_Grids/Tie_Point_Grid_Info"):
            if (
                grid.findtext("TIE_POINT_GRID_NAME") == "incident_angle"
                and path.is_file()
            ):
                with open_raster(str(path)) as file:
                    if file.width * file.height > _MAX_TIE_POINTS:
                        raise ValueError(
                            f"{path.name} has {file.width * file.height:,} tie points"
                        )
                    angles = file.read(1).astype(np.float64)
                rows, cols = (
                    read_numbers(grid, f"OFFSET_{axis}")[0]
                    + read_numbers(grid, f"STEP_{axis}")[0] * np.arange(count)
                    for axis, count in zip("YX", angles.shape, strict=True)
                )
                return LineTable(rows, [cols] * len(rows), list(angles))
        return None


@PRODUCTS.register
class AsfRtc(HeaderProduct):
    """A product of ASF HyP3: its folder, its .README.md.txt, or one of its images.

    Its name says quantity and scale.
    """

    name: ClassVar[str] = "asf-rtc"
    title: ClassVar[str] = "Sentinel-1 RTC (ASF)"
    headers: ClassVar[tuple[str, ...]] = ("*.README.md.txt",)
    marker: ClassVar[bytes] = b"ASF RTC Data Package"
    detected: ClassVar[str] = "an RTC product"
    granule: re.Match[str]

    def load(self) -> dict[str, Path] | None:
        """Find the images, whose names begin with that of the header."""
        stem = self.header.name.removesuffix(".README.md.txt")
        match = _GRANULE.match(stem)
        if match is None:
            return None
        self.granule = match
        images = {band: self.root / f"{stem}_{band}.tif" for band in POLARIZATIONS}
        return {band: image for band, image in images.items() if image.is_file()}

    def describe(self, handles: Sequence[Any]) -> Product:
        """Return the quantity, the time and the incidence angles at the ellipsoid, which HyP3 stores in radians."""
        day, time, quantity, scale = self.granule.groups()
        linear = "gamma0" if quantity == "g" else "sigma0"
        angles = self.header.with_name(
            self.header.name.replace(".README.md.txt", "_inc_map_ell.tif")
        )
        amplitude = {linear: (FactorCalibration(1.0),) * len(self.bands)}
        return Product(
            kind=self.title,
            unit={
                "p": linear,
                "a": "amplitude",
                "d": "gamma0_db" if quantity == "g" else "db",
            }[scale],
            bands=self.bands,
            calibrations=amplitude if scale == "a" else {},
            calibration_source="its name, which says that its pixels are square roots",
            acquired=_iso_time(f"{day} {time}"),
            incidence=_sample(angles, 180 / np.pi) if angles.is_file() else None,
        )


@PRODUCTS.register
class OperaRtc(SensorProduct):
    """An image of OPERA RTC-S1, which is recognized by its tags."""

    name: ClassVar[str] = "opera-rtc"
    title: ClassVar[str] = "OPERA RTC-S1"

    @classmethod
    def read_tags(cls, handles: Sequence[Any]) -> Product | None:
        """Read the convention of the backscatter, the time and the pass."""
        tags = {key.upper(): value for key, value in handles[0].tags().items()}
        unit = tags.get(_CONVENTION.format("NORMALIZATION"), "")
        scale = tags.get(_CONVENTION.format("EXPRESSION"), "")
        if unit not in ("gamma0", "sigma0", "beta0") or "intensity" not in scale:
            return None
        names = [
            re.search(rf"_({'|'.join(POLARIZATIONS)})\.\w+$", file.name)
            for file in handles
        ]
        bands = tuple(match[1] for match in names if match)
        return Product(
            kind=cls.title,
            unit=unit,
            bands=bands if len(bands) == sum(file.count for file in handles) else None,
            acquired=tags.get("ZERO_DOPPLER_START_TIME"),
            finished=tags.get("ZERO_DOPPLER_END_TIME"),
            pass_direction=tags.get("ORBIT_PASS_DIRECTION", "").lower() or None,
        )


def _iso_time(text: str) -> str:
    """Return the time in ISO 8601 that SNAP or the name of a granule writes, in UTC."""
    if text[:8].isdigit():
        form = "%Y%m%d %H%M%S"
    else:
        form = "%d-%b-%Y %H:%M:%S.%f"
    return f"{datetime.strptime(text, form).isoformat()}Z"


def _sample(path: Path, factor: float) -> LineTable:
    """Read a raster of angles, of which some lines and columns suffice; where it has none, the mean is used."""
    with open_raster(str(path)) as file:
        shape = min(file.height, _GRID), min(file.width, _GRID)
        angles: Floats = file.read(1, out_shape=shape).astype(np.float64)
        sides = [
            (np.arange(n) + 0.5) * size / n - 0.5
            for n, size in zip(shape, file.shape, strict=True)
        ]
    valid = np.isfinite(angles) & (angles > 0)
    if not valid.any():
        raise ValueError(f"{path.name} has no angle")
    angles[~valid] = angles[valid].mean()
    return LineTable(sides[0], [sides[1]] * shape[0], list(angles * factor))
