"""Read ALOS-2 PALSAR-2 in GeoTIFF and CEOS: calibration and time.

Source: JAXA, "Calibration Result of ALOS-2/PALSAR-2 JAXA Standard Products": sigma0 =
10 log10(DN^2) + CF in dB with CF = -83.0 for levels 1.5, 2.1 and 3.1.

A CEOS product has the same files without the suffix .tif, which GDAL's driver SAR_CEOS
reads. The pixels of level 1.1 are complex.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from rsft.data.imagery.products.headers import MAX_HEADER_BYTES, HeaderProduct
from rsft.data.imagery.products.product import FactorCalibration, Product
from rsft.utils.untrusted.documents import read_regular

_FACTOR = 10**-8.3  # CF of -83.0 dB
_IMAGE = re.compile(r"IMG-(HH|HV|VH|VV)-")
_PASSES = {"A": "ascending", "D": "descending"}


class Alos2(HeaderProduct):
    """A product of ALOS-2: its folder, its summary.txt or volume directory, or one of its images."""

    name: ClassVar[str] = "alos-2"
    title: ClassVar[str] = "ALOS-2"
    headers: ClassVar[tuple[str, ...]] = ("summary.txt", "VOL-ALOS2*")
    entries: ClassVar[tuple[str, ...]] = ("summary.txt",)
    marker: ClassVar[bytes] = (
        b""  # the name tells a volume directory, `load` reads a summary
    )
    detected: ClassVar[str] = "a detected product (level 1.5)"
    summary: dict[str, str]

    def load(self) -> dict[str, Path] | None:
        """Read the lines KEY="VALUE" of the summary, which list the files of the product.

        Without a summary, the volume directory of CEOS only says that this is ALOS-2.
        """
        has_summary = self.header.name == "summary.txt"
        if has_summary:
            text = read_regular(self.header, MAX_HEADER_BYTES).decode(
                "utf-8", "replace"
            )
        else:
            text = ""
        if has_summary != ('Scs_SceneID="ALOS2' in text) or (
            not has_summary and (self.root / "summary.txt").is_file()
        ):
            return None
        pairs = [line.split("=", 1) for line in text.splitlines() if "=" in line]
        self.summary = {key.strip(): value.strip().strip('"') for key, value in pairs}
        names = [
            value for key, value in self.summary.items() if "ProductFileName" in key
        ]
        names = names or sorted(file.name for file in self.root.glob("IMG-*"))
        if any("1.1__" in name for name in names):
            self.complex_kind = "level 1.1"
        else:
            self.complex_kind = ""
        return {
            match[1]: self.root / name
            for name in names
            if (match := _IMAGE.match(name))
        }

    def describe(self, handles: Sequence[Any]) -> Product:
        """Return the calibration factor, the times and the pass, which is the last letter of the product."""
        times = [
            self.summary.get(f"Img_Scene{name}DateTime", "")
            for name in ("Start", "End")
        ]
        start, stop = (
            re.sub(r"^(\d{4})(\d\d)(\d\d) (.+)$", r"\1-\2-\3T\4Z", time) or None
            for time in times
        )
        product = self.summary.get("Pds_ProductID", "")
        return Product(
            kind=f"{self.title} {product}".strip(),
            unit="amplitude",
            bands=self.bands,
            calibrations={"sigma0": (FactorCalibration(_FACTOR),) * len(self.bands)},
            calibration_source="JAXA's calibration factor of -83.0 dB",
            acquired=start,
            finished=stop,
            pass_direction=_PASSES.get(product[-1:]),
        )
