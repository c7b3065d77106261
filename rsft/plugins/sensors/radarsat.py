"""Read RADARSAT-2 and RADARSAT Constellation (RCM): calibration, incidence angles, times and orbit.

Detected pixels are sigma0 = (DN^2 + B) / A, with an offset B and gains A along the
range; likewise gamma0 and beta0. Sources:

- MDA, "RADARSAT-2 Product Format Definition" (RN-RP-51-2713), output scaling look-up
  tables.
- Canadian Space Agency, "RCM Image Product Format Definition" (RCM-SP-53-0419), look-up
  tables and incidence angles.

The noise levels in the products are not subtracted. Products in a map projection are
not calibrated, because there the column of a pixel is not its range.
"""

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, NamedTuple
from xml.etree.ElementTree import Element

import numpy as np

from rsft.data.imagery.products.headers import (
    HeaderProduct,
    ScaledCalibration,
    read_numbers,
    read_plain_xml,
)
from rsft.data.imagery.products.product import LineTable, Product, RadarMotion
from rsft.types import Floats

_UNITS = {"sigma0": "Sigma Nought", "gamma0": "Gamma", "beta0": "Beta Nought"}
_PROJECTED = ("SSG", "SPG", "GCC", "GCD")
_TIE_POINT = (".//line", ".//pixel", ".//longitude", ".//latitude")
_PROCESSING = "imageGenerationParameters/sarProcessingInformation"


class _Names(NamedTuple):
    """Where the header of a product lists its files and the attributes of its rasters."""

    images: str
    tables: str
    quantity: str
    folder: str
    attributes: str


class Radarsat(HeaderProduct):
    """What RADARSAT-2 and RCM have in common; `satellite` is the beginning of the name in their headers."""

    satellite: ClassVar[str]
    names: ClassVar[_Names]
    product: Element

    def load(self) -> dict[str, Path] | None:
        """Read the header."""
        self.product = read_plain_xml(self.header)
        if not self.product.findtext("sourceAttributes/satellite", "").startswith(
            self.satellite
        ):
            return None
        texts = [
            self._text(f"{self.names.attributes}/{name}")
            for name in ("dataType", "sampleType")
        ]
        self.complex_kind = next(
            (text for text in texts if text.lower().startswith(("complex", "mixed"))),
            "",
        )
        images = self.product.findall(self.names.images)
        return {
            image.get("pole", ""): self.header.parent / (image.text or "")
            for image in images
        }

    def describe(self, handles: Sequence[Any]) -> Product:
        """Read the calibration, the incidence angles, the times and the orbit."""
        kind = self._text(
            "imageGenerationParameters/generalProcessingInformation/productType"
        )
        is_projected = kind in _PROJECTED
        size = (handles[0].height, handles[0].width)
        tables = {
            unit: [self._table(unit, band, size[1]) for band in self.bands]
            for unit in _UNITS
            if not is_projected
        }
        times = [
            self._text(f"{_PROCESSING}/zeroDopplerTime{line}Line")
            for line in ("First", "Last")
        ]
        start, stop = (
            sorted(times)
            if all(times)
            else (self._text("sourceAttributes/rawDataStartTime"), "")
        )
        return Product(
            kind=(
                f"{self.title}"
                f" {kind}{' in a map projection, without calibration' * is_projected}".strip()
            ),
            unit="amplitude",
            bands=self.bands,
            calibrations={
                unit: tuple(x for x in row if x)
                for unit, row in tables.items()
                if all(row)
            },
            calibration_source=(
                "the look-up tables of the product, without subtraction of its noise"
                " levels"
            ),
            acquired=start or None,
            finished=stop or None,
            pass_direction=self._text(
                "sourceAttributes/orbitAndAttitude/orbitInformation/passDirection"
            ).lower()
            or None,
            incidence=None if is_projected else self.incidence(size[1], tables),
            motion=(
                None if is_projected or not stop else self._motion(size, times, start)
            ),
            tie_points=self.read_tie_points(
                self.product.iter("imageTiePoint"), _TIE_POINT, 0.5
            ),
        )

    def incidence(
        self, width: int, tables: Mapping[str, Sequence[ScaledCalibration | None]]
    ) -> LineTable | None:
        """Return the incidence angles along the range; None if the product does not state them."""
        raise NotImplementedError

    def _text(self, name: str) -> str:
        return self.product.findtext(name, "").strip()

    def _table(self, unit: str, band: str, width: int) -> ScaledCalibration | None:
        """Return the calibration by the look-up table of a band; None without one.

        That of sigma0 must exist.
        """
        for element in self.product.findall(self.names.tables):
            path = self.header.parent / self.names.folder / (element.text or "")
            is_table = (
                element.get(self.names.quantity) == _UNITS[unit]
                and element.get("pole", band) == band
            )
            if is_table and (unit == "sigma0" or path.is_file()):
                lut = read_plain_xml(path)
                gains = _range_table(lut, "pixelFirstLutValue", "gains", width)
                if (gains.values[0] <= 0).any():
                    raise ValueError(f"{path.name} has gains that are not positive")
                return ScaledCalibration(
                    partial(_inverse, gains), float(read_numbers(lut, "offset")[0])
                )
        return None

    def _motion(
        self, size: tuple[int, int], times: Sequence[str], start: str
    ) -> RadarMotion | None:
        """Return times, slant ranges and the speed of the orbit; None if the header lacks one of them.

        The slant range is the polynomial of the ground range that the header states.
        """
        height, width = size
        try:
            seconds = [
                (
                    datetime.fromisoformat(x) - datetime.fromisoformat(start)
                ).total_seconds()
                for x in times
            ]
            polynomial = self.product.find(
                "imageGenerationParameters/slantRangeToGroundRange"
            )
            vectors = self.product.findall(
                "sourceAttributes/orbitAndAttitude/orbitInformation/stateVector"
            )
            speeds = [
                math.hypot(*(read_numbers(x, f"{axis}Velocity")[0] for axis in "xyz"))
                for x in vectors
            ]
            attributes = self.product.find(self.names.attributes)
            if polynomial is None or attributes is None or not speeds:
                return None
            cols: Floats = np.linspace(0, width - 1, 129)
            is_reversed = (
                attributes.findtext("pixelTimeOrdering", "").lower() == "decreasing"
            )
            meters = (width - 1 - cols if is_reversed else cols) * read_numbers(
                attributes, "sampledPixelSpacing"
            )[0]
            meters -= read_numbers(polynomial, "groundRangeOrigin")[0]
            coefficients = read_numbers(polynomial, "groundToSlantRangeCoefficients")
            ranges = np.asarray(
                np.polynomial.polynomial.polyval(meters, coefficients), np.float64
            )
        except ValueError:
            return None
        looks_right = (
            self._text("sourceAttributes/radarParameters/antennaPointing").lower()
            != "left"
        )
        along = LineTable(
            np.array([0.0, height - 1]),
            [np.zeros(1)] * 2,
            [np.array([x]) for x in seconds],
        )
        return RadarMotion(
            along,
            LineTable(np.zeros(1), [cols], [ranges]),
            float(np.mean(speeds)),
            looks_right,
        )


class Radarsat2(Radarsat):
    """A RADARSAT-2 product: its folder, its product.xml, or one of its images."""

    name: ClassVar[str] = "radarsat-2"
    title: ClassVar[str] = "RADARSAT-2"
    headers: ClassVar[tuple[str, ...]] = ("product.xml",)
    marker: ClassVar[bytes] = b"RADARSAT-2"
    detected: ClassVar[str] = "a detected product (SGF, SGX or SCN)"
    satellite: ClassVar[str] = "RADARSAT-2"
    names: ClassVar[_Names] = _Names(
        images="imageAttributes/fullResolutionImageData",
        tables="imageAttributes/lookupTable",
        quantity="incidenceAngleCorrection",
        folder="",
        attributes="imageAttributes/rasterAttributes",
    )

    def incidence(
        self, width: int, tables: Mapping[str, Sequence[ScaledCalibration | None]]
    ) -> LineTable | None:
        """Return the angles theta of sigma0 = beta0 * sin theta: the tables differ by nothing else."""
        sigma = tables["sigma0"][0]
        beta = tables["beta0"][0]
        if sigma is None or beta is None:
            return None
        cols = np.arange(width, dtype=np.float64)
        sine = (sigma.factors(0, 1, 0, width) / beta.factors(0, 1, 0, width))[0]
        return LineTable(
            np.zeros(1), [cols], [np.degrees(np.arcsin(np.clip(sine, 0, 1)))]
        )


class Rcm(Radarsat):
    """A product of RADARSAT Constellation: its folder, its manifest.safe, its product.xml, or one of its images."""

    name: ClassVar[str] = "rcm"
    title: ClassVar[str] = "RADARSAT Constellation (RCM)"
    headers: ClassVar[tuple[str, ...]] = ("metadata/product.xml",)
    marker: ClassVar[bytes] = b"rcmGsProductSchema"
    folders: ClassVar[tuple[str, ...]] = ("metadata", "imagery")
    entries: ClassVar[tuple[str, ...]] = ("manifest.safe",)
    detected: ClassVar[str] = "a detected product (GRD)"
    satellite: ClassVar[str] = "RCM"
    names: ClassVar[_Names] = _Names(
        images="sceneAttributes/imageAttributes/ipdf",
        tables="imageReferenceAttributes/lookupTableFileName",
        quantity="sarCalibrationType",
        folder="calibration",
        attributes="imageReferenceAttributes/rasterAttributes",
    )

    def incidence(
        self, width: int, tables: Mapping[str, Sequence[ScaledCalibration | None]]
    ) -> LineTable | None:
        """Read the file of incidence angles."""
        name = self._text("imageReferenceAttributes/incidenceAngleFileName")
        path = self.header.parent / self.names.folder / name
        if name:
            return _range_table(
                read_plain_xml(path), "pixelFirstAnglesValue", "angles", width
            )
        return None


def _range_table(root: Element, first: str, values: str, width: int) -> LineTable:
    """Return the values along the range of an image, which begin at any column and may run backwards."""
    numbers = read_numbers(root, values)
    start, step = (
        float(root.findtext(name, default))
        for name, default in ((first, "0"), ("stepSize", "1"))
    )
    cols = start + step * np.arange(len(numbers), dtype=np.float64)
    order = np.argsort(cols)
    if not step or cols.min() > abs(step) or cols.max() < width - 1 - abs(step):
        raise ValueError(f"{len(numbers)} {values} do not cover {width} columns")
    return LineTable(np.zeros(1), [cols[order]], [numbers[order]])


def _inverse(table: LineTable, *window: int) -> Floats:
    return np.asarray(1 / table.window(*window))
