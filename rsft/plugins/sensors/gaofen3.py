"""Read Gaofen-3: calibration, incidence angles and time.

Source: China Centre for Resources Satellite Data and Application, "GF-3 Satellite
Product User Manual", radiometric calibration: sigma0 = 10 log10(P * (QualifyValue /
M)^2) - K in dB, with P = DN^2 of detected pixels, P = I^2 + Q^2 of complex ones, K =
CalibrationConst, and M = 32767 for signed pixels (1A), 65535 for unsigned ones (1B, 2).

Complex products (1A, productType SLC) have the bands I and Q.
"""

import itertools
import re
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np

from rsft.data.imagery.bands import POLARIZATIONS
from rsft.data.imagery.products.calibration import FactorCalibration
from rsft.data.imagery.products.elements import read_numbers, read_text
from rsft.data.imagery.products.headers import HeaderProduct, Images, read_header_xml
from rsft.data.imagery.products.line_table import LineTable
from rsft.data.imagery.products.product import (
    Handles,
    Product,
)

_POLARIZATION = re.compile(r"_(HHHV|HVHH|VVVH|VHVV|AHV|DH|DV|HH|HV|VH|VV)_")
"""Polarizations in the name of a file."""
_PASSES = {"ASC": "ascending", "DEC": "descending"}


class Gaofen3(HeaderProduct):
    """A product of Gaofen-3: its folder, its .meta.xml, or one of its images.

    Table:
        product: Gaofen-3 1B, 2
        units: amplitude, sigma0
        polarization from: `QualifyValue`
        backscatter: 20 log10(DN Q / M) - K in dB; Q `QualifyValue`, K
            `CalibrationConst`; M is 65535, or 32767 of signed pixels
        driver: GTiff
        source: CRESDA, GF-3 User Manual
    """

    name = "gaofen-3"
    title = "Gaofen-3"
    headers = ("*.meta.xml",)
    marker = b"<satellite>GF3"
    detected = "a detected product (level 1B or 2)"
    product: Element

    def load(self) -> Images | None:
        """Read the header.

        It does not name its images: they have its name, with one polarization.
        """
        self.product = read_header_xml(self.header)
        if self.product.findtext("productinfo/productType") == "SLC":
            self.complex_kind = "I and Q, SLC"
        name = "imageinfo/QualifyValue"
        bands = [x for x in POLARIZATIONS if self._number(name, x) is not None]
        stem = self.header.name.removesuffix(".meta.xml")
        images = {}
        for band in bands:
            names = {_POLARIZATION.sub(f"_{band}_", stem)}
            if len(bands) == 1:
                names.add(stem)
            ends = itertools.product(sorted(names), (".tiff", ".tif"))
            files = [self.root / f"{name}{end}" for name, end in ends]
            images[band] = next(filter(Path.is_file, files), files[0])
        return images

    def describe(self, handles: Handles) -> Product:
        """Read the calibration, the incidence angles and the time."""
        if any(file.count == 2 for file in handles):
            raise self.complex_error("bands I and Q", self.path)
        factors = []
        for file, band in zip(handles, self.bands, strict=True):
            largest = np.iinfo(file.dtypes[0]).max
            qualify = self._number("imageinfo/QualifyValue", band)
            constant = self._number("processinfo/CalibrationConst", band)
            if qualify and constant is not None:
                factor = (qualify / largest) ** 2 / 10 ** (constant / 10)
                factors.append(FactorCalibration(factor))
        calibrations = {}
        if len(factors) == len(self.bands):
            calibrations["sigma0"] = tuple(factors)
        level = read_text(self.product, "productinfo/productLevel")
        return Product(
            kind=f"{self.title} level {level}" if level else self.title,
            unit="amplitude",
            bands=self.bands,
            calibrations=calibrations,
            calibration_source="QualifyValue and CalibrationConst of the product",
            acquired=self._time("start"),
            finished=self._time("end"),
            pass_direction=_PASSES.get(read_text(self.product, "Direction")),
            incidence=self._angles(handles[0].width),
        )

    def _time(self, name: str) -> str:
        time = read_text(self.product, f"imageinfo/imagingTime/{name}")
        return time and f"{time.replace(' ', 'T')}Z"

    def _number(self, name: str, band: str) -> float | None:
        """Return a number of a polarization; None if it is NULL."""
        text = read_text(self.product, f"{name}/{band}")
        return None if text in ("", "NULL") else float(text)

    def _angles(self, width: int) -> LineTable | None:
        """Read the angle of each column from the .incidence.xml beside the header."""
        name = self.header.name.replace(".meta.xml", ".incidence.xml")
        path = self.header.with_name(name)
        if not path.is_file():
            return None
        angles = read_numbers(read_header_xml(path), "incidenceValue")
        if len(angles) != width:
            raise ValueError(f"{name} has {len(angles)} angles for {width} columns")
        return LineTable.along_range(np.arange(width, dtype=np.float64), angles)
