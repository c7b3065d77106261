"""Read RADARSAT-2 and RADARSAT Constellation: calibration, geometry, times, orbit.

Detected pixels are sigma0 = (DN^2 + B) / A, with an offset B and gains A along the
range; likewise gamma0 and beta0. Sources:

- MDA, "RADARSAT-2 Product Format Definition" (RN-RP-51-2713), output scaling look-up
  tables.
- Canadian Space Agency, "RCM Image Product Format Definition" (RCM-SP-53-0419), look-up
  tables and incidence angles.

The noise levels in the products are not subtracted. Products in a map projection are
not calibrated, because there the column of a pixel is not its range.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple
from xml.etree.ElementTree import Element

import numpy as np

from rsft.data.imagery.products.calibration import ScaledCalibration
from rsft.data.imagery.products.elements import (
    read_mean_speed,
    read_number,
    read_numbers,
    read_seconds,
    read_text,
    read_tie_points,
)
from rsft.data.imagery.products.headers import HeaderProduct, Images, read_header_xml
from rsft.data.imagery.products.line_table import LineTable
from rsft.data.imagery.products.product import (
    Handles,
    Product,
    RadarMotion,
)
from rsft.types import Floats

_UNITS = {"sigma0": "Sigma Nought", "gamma0": "Gamma", "beta0": "Beta Nought"}
_PROJECTED = ("SSG", "SPG", "GCC", "GCD")
_TIE_POINT = (".//line", ".//pixel", ".//longitude", ".//latitude")
_GENERATION = "imageGenerationParameters"
_TYPE = f"{_GENERATION}/generalProcessingInformation/productType"
_TIME = f"{_GENERATION}/sarProcessingInformation/zeroDopplerTime{{}}Line"
_ORBIT = "sourceAttributes/orbitAndAttitude/orbitInformation"
_SPEEDS = ("xVelocity", "yVelocity", "zVelocity")

_Tables = Mapping[str, Sequence[ScaledCalibration | None]]
"""Calibration of each band, by the unit of the result."""


class _Names(NamedTuple):
    """Where a header lists its files and the attributes of its rasters."""

    images: str
    tables: str
    quantity: str
    folder: str
    attributes: str


class Radarsat(HeaderProduct):
    """What RADARSAT-2 and RCM have in common.

    Attributes:
        satellite: beginning of the name in their headers.
        names: where the header lists its content.
    """

    satellite: str
    names: _Names
    product: Element

    def load(self) -> Images | None:
        """Read the header."""
        self.product = read_header_xml(self.header)
        if not self._text("sourceAttributes/satellite").startswith(self.satellite):
            return None
        for name in ("sampleType", "dataType"):
            text = self._text(f"{self.names.attributes}/{name}")
            if text.lower().startswith(("complex", "mixed")):
                self.complex_kind = text
        images = self.product.iterfind(self.names.images)
        folder = self.header.parent
        return {image.get("pole", ""): folder / (image.text or "") for image in images}

    def describe(self, handles: Handles) -> Product:
        """Read the calibration, the incidence angles, the times and the orbit."""
        kind = self._text(_TYPE)
        start = self._text("sourceAttributes/rawDataStartTime")
        times = [self._text(_TIME.format(line)) for line in ("First", "Last")]
        stop = ""
        if all(times):
            start, stop = sorted(times)
        calibrations = {}
        incidence = None
        motion = None
        if kind in _PROJECTED:
            kind += " in a map projection, without calibration"
        else:
            width = handles[0].width
            tables = {}
            for unit in _UNITS:
                tables[unit] = [self._table(unit, band, width) for band in self.bands]
                complete = tuple(table for table in tables[unit] if table)
                if len(complete) == len(self.bands):
                    calibrations[unit] = complete
            incidence = self.incidence(width, tables)
            if stop:
                motion = self._motion(handles[0].height, width, start)
        return Product(
            kind=f"{self.title} {kind}".strip(),
            unit="amplitude",
            bands=self.bands,
            calibrations=calibrations,
            calibration_source=(
                "the look-up tables of the product, without subtraction of its noise"
                " levels"
            ),
            acquired=start,
            finished=stop,
            pass_direction=self._text(f"{_ORBIT}/passDirection").lower(),
            incidence=incidence,
            motion=motion,
            tie_points=read_tie_points(
                self.product.iter("imageTiePoint"), _TIE_POINT, 0.5
            ),
        )

    def incidence(self, width: int, tables: _Tables) -> LineTable | None:
        """Return the incidence angles along the range.

        Args:
            width: number of columns.
            tables: the calibrations of the product.

        Returns:
            The angles; None if the product does not state them.
        """
        raise NotImplementedError

    def _text(self, name: str) -> str:
        return read_text(self.product, name)

    def _table(self, unit: str, band: str, width: int) -> ScaledCalibration | None:
        """Return the calibration of a band by its look-up table; None without one.

        That of sigma0 must exist.
        """
        for element in self.product.iterfind(self.names.tables):
            if element.get(self.names.quantity) != _UNITS[unit]:
                continue
            path = self.file_beside(self.names.folder, element.text or "")
            is_required = unit == "sigma0"
            if element.get("pole", band) != band or not (is_required or path.is_file()):
                continue
            lut = read_header_xml(path)
            gains = _range_table(lut, "pixelFirstLutValue", "gains", width)
            if (gains.values[0] <= 0).any():
                raise ValueError(f"{path.name} has gains that are not positive")
            return ScaledCalibration(
                partial(_inverse, gains), read_number(lut, "offset")
            )
        return None

    def _motion(self, height: int, width: int, start: str) -> RadarMotion | None:
        """Return times, slant ranges and the speed of the orbit.

        The slant range is the polynomial of the ground range that the header states.

        Returns:
            The motion; None if the header lacks one of them.
        """
        polynomial = self.product.find(f"{_GENERATION}/slantRangeToGroundRange")
        attributes = self.product.find(self.names.attributes)
        if polynomial is None or attributes is None:
            return None
        cols = pixels = np.linspace(0, width - 1, 129)
        if read_text(attributes, "pixelTimeOrdering").lower() == "decreasing":
            pixels = width - 1 - cols
        try:
            first = read_seconds(self.product, _TIME.format("First"), start)
            last = read_seconds(self.product, _TIME.format("Last"), start)
            meters = pixels * read_number(attributes, "sampledPixelSpacing")
            meters -= read_number(polynomial, "groundRangeOrigin")
            coefficients = read_numbers(polynomial, "groundToSlantRangeCoefficients")
            speed = read_mean_speed(
                self.product.iterfind(f"{_ORBIT}/stateVector"), _SPEEDS
            )
        except ValueError:
            return None
        if not speed:
            return None
        ranges = np.polynomial.polynomial.polyval(meters, coefficients)
        times = LineTable(
            np.array([0.0, height - 1]),
            [np.zeros(1)] * 2,
            [np.array([first]), np.array([last])],
        )
        pointing = self._text("sourceAttributes/radarParameters/antennaPointing")
        return RadarMotion(
            times,
            LineTable.along_range(cols, np.asarray(ranges, np.float64)),
            speed,
            looks_right=pointing.lower() != "left",
        )


class Radarsat2(Radarsat):
    """A RADARSAT-2 product: its folder, its product.xml, or one of its images.

    Table:
        product: RADARSAT-2 SGF, SGX, SCN, SCW
        units: amplitude, sigma0, gamma0, beta0
        polarization from: `product.xml`: `pole`
        backscatter: (DN² + B) / A; `lutSigma.xml` and others
        driver: GTiff
        source: MDA, RN-RP-51-2713
    """

    name = "radarsat-2"
    title = "RADARSAT-2"
    headers = ("product.xml",)
    marker = b"RADARSAT-2"
    detected = "a detected product (SGF, SGX or SCN)"
    satellite = "RADARSAT-2"
    names = _Names(
        images="imageAttributes/fullResolutionImageData",
        tables="imageAttributes/lookupTable",
        quantity="incidenceAngleCorrection",
        folder="",
        attributes="imageAttributes/rasterAttributes",
    )

    def incidence(self, width: int, tables: _Tables) -> LineTable | None:
        """Return the angles theta of sigma0 = beta0 * sin theta.

        The tables differ by nothing else.
        """
        sigma = tables["sigma0"][0]
        beta = tables["beta0"][0]
        if sigma is None or beta is None:
            return None
        window = (0, 1, 0, width)
        sine = (sigma.factors(*window) / beta.factors(*window))[0]
        angles = np.degrees(np.arcsin(np.clip(sine, 0, 1)))
        return LineTable.along_range(np.arange(width, dtype=np.float64), angles)


class Rcm(Radarsat):
    """A product of RADARSAT Constellation.

    It is found by its folder, its manifest.safe, its product.xml, or one of its images.

    Table:
        product: RADARSAT Constellation (RCM) GRD
        units: amplitude, sigma0, gamma0, beta0
        polarization from: `metadata/product.xml`: `pole`
        backscatter: (DN² + B) / A; `lutSigma_HH.xml` and others
        driver: GTiff
        source: CSA, RCM-SP-53-0419
    """

    name = "rcm"
    title = "RADARSAT Constellation (RCM)"
    headers = ("metadata/product.xml",)
    marker = b"rcmGsProductSchema"
    folders = ("metadata", "imagery")
    entries = ("manifest.safe",)
    detected = "a detected product (GRD)"
    satellite = "RCM"
    names = _Names(
        images="sceneAttributes/imageAttributes/ipdf",
        tables="imageReferenceAttributes/lookupTableFileName",
        quantity="sarCalibrationType",
        folder="calibration",
        attributes="imageReferenceAttributes/rasterAttributes",
    )

    def incidence(self, width: int, tables: _Tables) -> LineTable | None:
        """Read the file of incidence angles."""
        name = self._text("imageReferenceAttributes/incidenceAngleFileName")
        if not name:
            return None
        root = read_header_xml(self.file_beside(self.names.folder, name))
        return _range_table(root, "pixelFirstAnglesValue", "angles", width)


def _range_table(root: Element, first: str, values: str, width: int) -> LineTable:
    """Return the values along the range of an image.

    They begin at any column and may run backwards.
    """
    numbers = read_numbers(root, values)
    start = float(root.findtext(first, "0"))
    step = float(root.findtext("stepSize", "1"))
    cols = start + step * np.arange(len(numbers), dtype=np.float64)
    if not step or cols.min() > abs(step) or cols.max() < width - 1 - abs(step):
        raise ValueError(f"{len(numbers)} {values} do not cover {width} columns")
    order = np.argsort(cols)
    return LineTable.along_range(cols[order], numbers[order])


def _inverse(table: LineTable, *window: int) -> Floats:
    return np.asarray(1 / table.window(*window))
