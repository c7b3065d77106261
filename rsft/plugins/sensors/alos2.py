"""Read ALOS-2 PALSAR-2 in GeoTIFF and CEOS: calibration and time.

Source: JAXA, "Calibration Result of ALOS-2/PALSAR-2 JAXA Standard Products": sigma0 =
10 log10(DN^2) + CF in dB with CF = -83.0 for levels 1.5, 2.1 and 3.1.

A CEOS product has the same files without the suffix .tif, which GDAL's driver SAR_CEOS
reads. The pixels of level 1.1 are complex.
"""

import re

from rsft.data.imagery.products.calibration import FactorCalibration
from rsft.data.imagery.products.headers import MAX_HEADER_BYTES, HeaderProduct, Images
from rsft.data.imagery.products.product import (
    Handles,
    Product,
)
from rsft.utils.untrusted.documents import read_regular

_FACTOR = 10**-8.3  # CF of -83.0 dB
_IMAGE = re.compile(r"IMG-(HH|HV|VH|VV)-")
_PAIR = re.compile("(.*?)=(.*)")
_PASSES = {"A": "ascending", "D": "descending"}
_SUMMARY = "summary.txt"


class Alos2(HeaderProduct):
    """A product of ALOS-2.

    It is found by its folder, its summary.txt or volume directory, or one of its
    images.

    Table:
        product: ALOS-2 1.5, 2.1, 3.1; GeoTIFF, CEOS
        units: amplitude, sigma0
        polarization from: the image in `summary.txt`
        backscatter: 10 log10 DN² - 83.0 in dB
        driver: GTiff, SAR_CEOS
        source: JAXA, Calibration of PALSAR-2
    """

    name = "alos-2"
    title = "ALOS-2"
    headers = (_SUMMARY, "VOL-ALOS2*")
    entries = (_SUMMARY,)
    marker = b""  # the name tells a volume directory, `load` reads a summary
    detected = "a detected product (level 1.5)"
    summary: dict[str, str]

    def load(self) -> Images | None:
        """Read the lines KEY="VALUE" of the summary, which list the files.

        Without a summary, the volume directory of CEOS only says that this is ALOS-2.
        """
        text = ""
        if self.header.name == _SUMMARY:
            data = read_regular(self.header, MAX_HEADER_BYTES)
            text = data.decode("utf-8", "replace")
            if 'Scs_SceneID="ALOS2' not in text:
                return None
        elif (self.root / _SUMMARY).is_file():
            return None
        pairs = _PAIR.findall(text)
        self.summary = {key.strip(): x.strip().strip('"') for key, x in pairs}
        names = [x for key, x in self.summary.items() if "ProductFileName" in key]
        if not names:
            names = sorted(file.name for file in self.root.glob("IMG-*"))
        images = {}
        for name in names:
            if "1.1__" in name:
                self.complex_kind = "level 1.1"
            match = _IMAGE.match(name)
            if match:
                images[match[1]] = self.root / name
        return images

    def describe(self, handles: Handles) -> Product:
        """Return the calibration factor, the times and the pass.

        The pass is the last letter of the product.
        """
        product = self.summary.get("Pds_ProductID", "")
        return Product(
            kind=f"{self.title} {product}".strip(),
            unit="amplitude",
            bands=self.bands,
            calibrations={"sigma0": (FactorCalibration(_FACTOR),) * len(self.bands)},
            calibration_source="JAXA's calibration factor of -83.0 dB",
            acquired=self._time("Start"),
            finished=self._time("End"),
            pass_direction=_PASSES.get(product[-1:]),
        )

    def _time(self, name: str) -> str:
        text = self.summary.get(f"Img_Scene{name}DateTime", "")
        return re.sub(r"^(\d{4})(\d\d)(\d\d) (.+)$", r"\1-\2-\3T\4Z", text)
