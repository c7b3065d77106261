"""Read processed products: BEAM-DIMAP of SNAP, and Sentinel-1 RTC of ASF and OPERA.

Sources: SNAP, "BEAM-DIMAP format": a header .dim, and a folder .data with one ENVI file
per band, whose name says the quantity. ASF, "Sentinel-1 RTC Product Guide", naming
convention. OPERA, "RTC-S1 Product Specification" (JPL D-108758), tags of the
backscatter convention.
"""

import re
from datetime import datetime
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np

from rsft.data.imagery.bands import POLARIZATIONS
from rsft.data.imagery.products.calibration import FactorCalibration
from rsft.data.imagery.products.elements import read_text
from rsft.data.imagery.products.headers import HeaderProduct, Images, read_header_xml
from rsft.data.imagery.products.line_table import LineTable
from rsft.data.imagery.products.product import (
    Handles,
    Product,
    SensorProduct,
)
from rsft.data.imagery.rasters import open_raster
from rsft.types import Floats

_UNITS = {
    ("sigma0", ""): "sigma0",
    ("sigma0", "_db"): "db",
    ("gamma0", ""): "gamma0",
    ("gamma0", "_db"): "gamma0_db",
    ("beta0", ""): "beta0",
    ("intensity", ""): "intensity",
    ("amplitude", ""): "amplitude",
}
"""Unit by the beginning and the end of the name of a band in SNAP. The first unit that
a product has is read."""
_RTC_UNITS = {
    "gp": "gamma0",
    "sp": "sigma0",
    "gd": "gamma0_db",
    "sd": "db",
    "ga": "amplitude",
    "sa": "amplitude",
}
"""Unit by quantity and scale in the name of a granule of ASF."""
_BAND = re.compile(rf"([a-z]+0?)_({'|'.join(POLARIZATIONS).lower()})(_db)?")
_GRANULE = re.compile(r"S1._\w\w_(\d{8}T\d{6})_\w+_RTC\d+_\w_([gs][pad])")
_OPERA_BAND = re.compile(rf"_({'|'.join(POLARIZATIONS)})\.\w+$")
_CONVENTION = "PROCESSING_INFORMATION_OUTPUT_BACKSCATTER_{}_CONVENTION"
_GRID = 129
"""Largest number of lines and columns in which a raster of angles is read."""


class Dimap(HeaderProduct):
    """A SAR product in BEAM-DIMAP: its .dim, or the folder with it.

    Table:
        product: BEAM-DIMAP of SNAP
        units: sigma0, db, gamma0, gamma0_db, beta0, intensity or amplitude
        polarization from: the name of the band
        backscatter: the values
        driver: ENVI
        source: SNAP, BEAM-DIMAP
    """

    name = "snap-dimap"
    title = "SNAP"
    headers = ("*.dim",)
    marker = b"<Dimap_Document"
    detected = "a detected product (GRD)"
    document: Element
    unit: str

    def load(self) -> Images | None:
        """Read the names of the bands. Virtual bands have no file."""
        self.document = read_header_xml(self.header)
        path = "Image_Interpretation/Spectral_Band_Info/BAND_NAME"
        names = [element.text or "" for element in self.document.iterfind(path)]
        images: dict[str, Images] = {}
        for name in names:
            match = _BAND.fullmatch(name.lower())
            file = self._file(f"{name}.img")
            if match and file.is_file():
                unit = _UNITS.get((match[1], match[3] or ""), "")
                images.setdefault(unit, {})[match[2].upper()] = file
        for unit in _UNITS.values():
            if unit in images:
                self.unit = unit
                return images[unit]
        if any(name.startswith("i_") for name in names):
            self.complex_kind = "bands i and q"
            return {}
        return None

    def describe(self, handles: Handles) -> Product:
        """Read the time, the pass and the incidence angles."""
        kind = self.document.findtext("Production/PRODUCT_TYPE", "")
        direction = read_text(self.document, ".//MDATTR[@name='PASS']")
        return Product(
            kind=f"{self.title} {kind}".strip(),
            unit=self.unit,
            bands=self.bands,
            acquired=self._time("START"),
            finished=self._time("STOP"),
            pass_direction=direction.lower(),
            incidence=self._angles(),
        )

    def _time(self, name: str) -> str:
        text = read_text(self.document, f"Production/PRODUCT_SCENE_RASTER_{name}_TIME")
        return text and _iso_time(text, "%d-%b-%Y %H:%M:%S.%f")

    def _file(self, name: str) -> Path:
        return self.header.with_suffix(".data") / name

    def _angles(self) -> LineTable | None:
        """Read the band of the incidence angles at the ellipsoid, if there is one."""
        band = self._file("incidenceAngleFromEllipsoid.img")
        return _sample(band) if band.is_file() else None


class AsfRtc(HeaderProduct):
    """A product of ASF HyP3: its folder, its .README.md.txt, or one of its images.

    Its name says quantity and scale.

    Table:
        product: Sentinel-1 RTC of ASF HyP3
        units: gamma0, gamma0_db, sigma0, db; amplitude as gamma0 or sigma0
        polarization from: the name of the image
        backscatter: the values, or their square
        driver: GTiff
        source: ASF, RTC Product Guide
    """

    name = "asf-rtc"
    title = "Sentinel-1 RTC (ASF)"
    headers = ("*.README.md.txt",)
    marker = b"ASF RTC Data Package"
    detected = "an RTC product"
    granule: re.Match[str]

    def load(self) -> Images | None:
        """Find the images, whose names begin with that of the header."""
        match = _GRANULE.match(self.header.name)
        if match is None:
            return None
        self.granule = match
        images = {band: self._file(f"_{band}.tif") for band in POLARIZATIONS}
        return {band: image for band, image in images.items() if image.is_file()}

    def describe(self, handles: Handles) -> Product:
        """Return the quantity, the time and the incidence angles at the ellipsoid."""
        time, quantity = self.granule.groups()
        calibrations = {}
        if quantity.endswith("a"):
            linear = _RTC_UNITS[f"{quantity[0]}p"]
            calibrations[linear] = (FactorCalibration(1.0),) * len(self.bands)
        angles = self._file("_inc_map_ell.tif")
        incidence = None
        if angles.is_file():  # HyP3 stores radians
            incidence = _sample(angles, 180 / np.pi)
        return Product(
            kind=self.title,
            unit=_RTC_UNITS[quantity],
            bands=self.bands,
            calibrations=calibrations,
            calibration_source="its name, which says that its pixels are square roots",
            acquired=_iso_time(time, "%Y%m%dT%H%M%S"),
            incidence=incidence,
        )

    def _file(self, end: str) -> Path:
        return self.header.with_name(self.header.name.replace(".README.md.txt", end))


class OperaRtc(SensorProduct):
    """An image of OPERA RTC-S1, which is recognized by its tags.

    Table:
        product: Sentinel-1 RTC of OPERA
        units: gamma0
        polarization from: the name of the image
        backscatter: the values
        driver: GTiff
        source: OPERA, JPL D-108758
    """

    name = "opera-rtc"
    title = "OPERA RTC-S1"

    @classmethod
    def read_tags(cls, handles: Handles) -> Product | None:
        """Read the convention of the backscatter, the time and the pass."""
        tags = {key.upper(): value for key, value in handles[0].tags().items()}
        unit = tags.get(_CONVENTION.format("NORMALIZATION"), "")
        scale = tags.get(_CONVENTION.format("EXPRESSION"), "")
        if unit not in ("gamma0", "sigma0", "beta0") or "intensity" not in scale:
            return None
        matches = filter(None, [_OPERA_BAND.search(file.name) for file in handles])
        names = [match[1] for match in matches]
        is_complete = len(names) == sum(file.count for file in handles)
        return Product(
            kind=cls.title,
            unit=unit,
            bands=tuple(names) if is_complete else None,
            acquired=tags.get("ZERO_DOPPLER_START_TIME"),
            finished=tags.get("ZERO_DOPPLER_END_TIME"),
            pass_direction=tags.get("ORBIT_PASS_DIRECTION", "").lower(),
        )


def _iso_time(text: str, form: str) -> str:
    """Return a time in UTC in ISO 8601."""
    return f"{datetime.strptime(text, form).isoformat()}Z"


def _sample(path: Path, factor: float = 1.0) -> LineTable:
    """Read a raster of angles, of which some lines and columns suffice.

    Where it has none, the mean is used.
    """
    with open_raster(str(path)) as file:
        rows = min(file.height, _GRID)
        cols = min(file.width, _GRID)
        angles: Floats = file.read(1, out_shape=(rows, cols)).astype(np.float64)
        lines = (np.arange(rows) + 0.5) * file.height / rows - 0.5
        pixels = (np.arange(cols) + 0.5) * file.width / cols - 0.5
    valid = np.isfinite(angles) & (angles > 0)
    if not valid.any():
        raise ValueError(f"{path.name} has no angle")
    angles[~valid] = angles[valid].mean()
    return LineTable(lines, [pixels] * rows, list(angles * factor))
