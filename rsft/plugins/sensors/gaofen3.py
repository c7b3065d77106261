"""Read Gaofen-3: calibration, incidence angles and time.

Source: China Centre for Resources Satellite Data and Application, "GF-3 Satellite
Product User Manual", radiometric calibration: sigma0 = 10 log10(P * (QualifyValue /
M)^2) - K in dB, with P = DN^2 of detected pixels, P = I^2 + Q^2 of complex ones, K =
CalibrationConst, and M = 32767 for signed pixels (1A), 65535 for unsigned ones (1B, 2).

Complex products (1A, productType SLC) have the bands I and Q.
"""

import re
from collections.abc import Sequence
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
    FactorCalibration,
    LineTable,
    Product,
)
from rsft.errors import DataError

_POLARIZATION = re.compile(
    r"_(HHHV|HVHH|VVVH|VHVV|AHV|DH|DV|HH|HV|VH|VV)_"
)  # in the name of a file
_PASSES = {"ASC": "ascending", "DEC": "descending"}


class Gaofen3(HeaderProduct):
    """A product of Gaofen-3: its folder, its .meta.xml, or one of its images."""

    name: ClassVar[str] = "gaofen-3"
    title: ClassVar[str] = "Gaofen-3"
    headers: ClassVar[tuple[str, ...]] = ("*.meta.xml",)
    marker: ClassVar[bytes] = b"<satellite>GF3"
    detected: ClassVar[str] = "a detected product (level 1B or 2)"
    product: Element

    def load(self) -> dict[str, Path] | None:
        """Read the header.

        It does not name its images: they have its name, with one polarization.
        """
        self.product = read_plain_xml(self.header)
        if self.product.findtext("productinfo/productType") == "SLC":
            self.complex_kind = "I and Q, SLC"
        else:
            self.complex_kind = ""
        stem = self.header.name.removesuffix(".meta.xml")
        images = {}
        bands = [
            band
            for band in POLARIZATIONS
            if self._number("imageinfo/QualifyValue", band) is not None
        ]
        for band in bands:
            names = {
                _POLARIZATION.sub(f"_{band}_", stem),
                *([stem] if len(bands) == 1 else []),
            }
            files = [
                self.root / f"{name}{suffix}"
                for name in sorted(names)
                for suffix in (".tiff", ".tif")
            ]
            images[band] = next((file for file in files if file.is_file()), files[0])
        return images

    def describe(self, handles: Sequence[Any]) -> Product:
        """Read the calibration, the incidence angles and the time."""
        if any(file.count == 2 for file in handles):
            message = "Gaofen-3: the pixels are complex (bands I and Q)"
            hint = f"give {self.detected}, or calibrate"
            raise DataError(
                message,
                self.path,
                f"{hint} and detect them in SNAP, and export a GeoTIFF",
            )
        factors = []
        for file, band in zip(handles, self.bands, strict=True):
            largest = np.iinfo(file.dtypes[0]).max
            qualify = self._number("imageinfo/QualifyValue", band)
            constant = self._number("processinfo/CalibrationConst", band)
            if qualify and constant is not None:
                factors.append(
                    FactorCalibration((qualify / largest) ** 2 / 10 ** (constant / 10))
                )
        is_calibrated = len(factors) == len(self.bands)
        start, stop = (
            self._text(f"imageinfo/imagingTime/{x}").replace(" ", "T")
            for x in ("start", "end")
        )
        return Product(
            kind=(
                f"{self.title} level {self._text('productinfo/productLevel')}".removesuffix(
                    " level "
                )
            ),
            unit="amplitude",
            bands=self.bands,
            calibrations={"sigma0": tuple(factors)} if is_calibrated else {},
            calibration_source="QualifyValue and CalibrationConst of the product",
            acquired=f"{start}Z" if start else None,
            finished=f"{stop}Z" if stop else None,
            pass_direction=_PASSES.get(self._text("Direction")),
            incidence=self._angles(handles[0].width),
        )

    def _text(self, name: str) -> str:
        return self.product.findtext(name, "").strip()

    def _number(self, name: str, band: str) -> float | None:
        """Return a number of a polarization; None if it is NULL."""
        text = self._text(f"{name}/{band}")
        if text in ("", "NULL"):
            return None
        return float(text)

    def _angles(self, width: int) -> LineTable | None:
        """Read the angle of each column from the .incidence.xml beside the header; None without it."""
        path = self.header.with_name(
            self.header.name.replace(".meta.xml", ".incidence.xml")
        )
        if not path.is_file():
            return None
        angles = read_numbers(read_plain_xml(path), "incidenceValue")
        if len(angles) != width:
            raise ValueError(
                f"{path.name} has {len(angles)} angles for {width} columns"
            )
        return LineTable(np.zeros(1), [np.arange(width, dtype=np.float64)], [angles])
