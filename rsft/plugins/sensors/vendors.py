"""Read the calibration of commercial products: in the tags of their GeoTIFF, or in the metadata beside it.

Sources:

- Capella Space, "SAR Products Format Specification": (scale_factor * DN)^2 is what
  `radiometry` names. The tag and the file _extended.json have the same content.
- ICEYE, "Product Documentation", chapters Radiometric and Metadata: sigma0 =
  calibration_factor * DN^2 for amplitude images, beta0 = calibration_factor * |DN|^2
  for complex ones; the tag ICEYE_PROPERTIES is JSON. Older products have an XML file,
  with other names of the same properties. Since 2025 the bands of an SLC are amplitude
  and phase, both real.
- NASA, "NISAR L2 GCOV Product Specification": covariances are gamma0, linear.
- Umbra, "Product Guide": the metadata of a GEC states polarization, time and angles. No
  factor of its 8-bit pixels is published, so they are digital numbers.
"""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from rsft.data.imagery.bands import POLARIZATIONS
from rsft.data.imagery.products.headers import (
    MAX_HEADER_BYTES,
    HeaderProduct,
    read_plain_xml,
)
from rsft.data.imagery.products.product import (
    FactorCalibration,
    LineTable,
    Product,
    SensorProduct,
)
from rsft.utils.untrusted.documents import load_json, parse_json

_MAX_TAG = 2**24  # characters of JSON that are parsed
_RADIOMETRY = {
    "sigma_nought": "sigma0",
    "beta_nought": "beta0",
    "gamma_nought": "gamma0",
}
_GCOV = re.compile(r"/[LS]SAR/GCOV/grids/frequency[AB]/(HH|HV|VH|VV)\1\b")
_ICEYE_XML = {  # names of the properties in older products
    "iceye:calibration_factor": "calibration_factor",
    "start_datetime": "acquisition_start_utc",
    "end_datetime": "acquisition_end_utc",
    "sat:orbit_state": "orbit_direction",
    "view:incidence_angle": "incidence_center",
    "sar:polarizations": "polarization",
}


class NisarGcov(SensorProduct):
    """Covariances of NISAR, which GDAL opens as a subdataset."""

    name: ClassVar[str] = "nisar-gcov"
    title: ClassVar[str] = "NISAR GCOV"

    @classmethod
    def read_tags(cls, handles: Sequence[Any]) -> Product | None:
        """Recognize the name of the subdataset."""
        match = _GCOV.search(handles[0].name)
        if match:
            return Product(kind=cls.title, unit="gamma0", bands=(match[1],))
        return None


class Capella(HeaderProduct):
    """A product of Capella, with its extended metadata as JSON in the image description and beside the image."""

    name: ClassVar[str] = "capella"
    title: ClassVar[str] = "Capella"
    headers: ClassVar[tuple[str, ...]] = ("*_extended.json",)
    marker: ClassVar[bytes] = b'"collect"'
    detected: ClassVar[str] = "a detected image (GEO or GEC)"
    collect: dict[str, Any]

    def load(self) -> dict[str, Path] | None:
        """Read the extended metadata."""
        self.collect = _objects(load_json(self.header, MAX_HEADER_BYTES), "collect")
        if "scale_factor" not in _objects(self.collect, "image"):
            return None
        image = self.header.with_name(
            self.header.name.replace("_extended.json", ".tif")
        )
        return {_capella_band(self.collect) or "": image}

    def describe(self, handles: Sequence[Any]) -> Product:
        """Read the scale factor, the time and the incidence angle."""
        return _describe_capella(self.collect, handles)

    @classmethod
    def read_tags(cls, handles: Sequence[Any]) -> Product | None:
        """Read the same from the image description."""
        collect = _objects(
            _parse(_tags(handles).get("TIFFTAG_IMAGEDESCRIPTION")), "collect"
        )
        if "scale_factor" in _objects(collect, "image"):
            return _describe_capella(collect, handles)
        return None


class Iceye(HeaderProduct):
    """A product of ICEYE, with its properties as JSON in a tag or in XML beside the image."""

    name: ClassVar[str] = "iceye"
    title: ClassVar[str] = "ICEYE"
    headers: ClassVar[tuple[str, ...]] = ("*.xml", "ICEYE*.json")
    marker: ClassVar[bytes] = b"ICEYE"
    detected: ClassVar[str] = "the detected image (GRD)"
    properties: Mapping[str, Any]

    def load(self) -> dict[str, Path] | None:
        """Read the properties."""
        if self.header.suffix == ".json":
            self.properties = _objects(
                load_json(self.header, MAX_HEADER_BYTES), "properties"
            )
        else:
            root = read_plain_xml(self.header)
            self.properties = {
                key: root.findtext(name) for key, name in _ICEYE_XML.items()
            }
            if root.findtext("product_level") == "SLC":
                self.complex_kind = "SLC"
            else:
                self.complex_kind = ""
        image = self.header.with_suffix(".tif")
        is_item = self.header.suffix == ".json"
        if self.properties.get("iceye:calibration_factor") is None or (
            is_item and not image.is_file()
        ):
            return None  # the item may name an image elsewhere
        return {_first_band(self.properties.get("sar:polarizations")) or "": image}

    def describe(self, handles: Sequence[Any]) -> Product:
        """Read the calibration factor, the time, the pass and the incidence angle."""
        return _describe_iceye(
            self.properties, self.properties["iceye:calibration_factor"], handles
        )

    @classmethod
    def read_tags(cls, handles: Sequence[Any]) -> Product | None:
        """Read the same from the tags; older products store the factor in a tag of its own."""
        tags = _tags(handles)
        properties = _parse(tags.get("ICEYE_PROPERTIES"))
        factor = properties.get(
            "iceye:calibration_factor", tags.get("CALIBRATION_FACTOR")
        )
        if factor is None:
            return None
        return _describe_iceye(properties, factor, handles)


class Umbra(HeaderProduct):
    """A product of Umbra: its folder, its metadata, or its geocoded image (GEC)."""

    name: ClassVar[str] = "umbra"
    title: ClassVar[str] = "Umbra"
    headers: ClassVar[tuple[str, ...]] = ("*_METADATA.json",)
    marker: ClassVar[bytes] = b'"collects"'
    detected: ClassVar[str] = "the geocoded image (GEC)"
    collect: dict[str, Any]

    def load(self) -> dict[str, Path] | None:
        """Read the metadata."""
        metadata = load_json(self.header, MAX_HEADER_BYTES)
        if not str(metadata.get("vendor")).startswith("Umbra"):
            return None
        self.collect = metadata["collects"][0]
        stem = self.header.name.removesuffix("_METADATA.json")
        images = [self.root / f"{stem}{suffix}" for suffix in ("_GEC.tif", ".tif")]
        image = next((image for image in images if image.is_file()), images[0])
        if not image.is_file() and (self.root / f"{stem}_SICD.nitf").is_file():
            self.complex_kind = "SICD"
        return {_first_band(self.collect.get("polarizations")) or "": image}

    def describe(self, handles: Sequence[Any]) -> Product:
        """Read the time, the pass and the incidence angle."""
        return Product(
            kind=f"{self.title} GEC",
            bands=_bands(handles, self.bands[0]),
            acquired=self.collect.get("startAtUTC"),
            finished=self.collect.get("endAtUTC"),
            pass_direction=str(self.collect.get("satelliteTrack") or "").lower()
            or None,
            incidence=_constant(self.collect.get("angleIncidenceDegrees")),
        )


def _describe_capella(collect: Mapping[str, Any], handles: Sequence[Any]) -> Product:
    image = _objects(collect, "image")
    factor = _positive(image["scale_factor"], "scale_factor") ** 2
    return Product(
        kind=Capella.title,
        unit="amplitude",
        bands=_bands(handles, _capella_band(collect)),
        calibrations=_calibrations(
            handles, _RADIOMETRY.get(str(image.get("radiometry"))), factor
        ),
        calibration_source="scale_factor in its metadata",
        acquired=collect.get("start_timestamp"),
        finished=collect.get("stop_timestamp"),
        incidence=_constant(_objects(image, "center_pixel").get("incidence_angle")),
    )


def _describe_iceye(
    properties: Mapping[str, Any], factor: Any, handles: Sequence[Any]
) -> Product:
    is_complex = handles[0].dtypes[0].startswith("complex")
    product_type = str(properties.get("sar:product_type"))
    if product_type.upper().startswith("SLC") and not is_complex:
        raise Iceye.complex_error(
            f"{product_type}: amplitude and phase", handles[0].name
        )
    unit = "beta0" if is_complex else "sigma0"
    return Product(
        kind=Iceye.title if properties else "product with CALIBRATION_FACTOR",
        unit="amplitude",
        bands=_bands(
            handles,
            _first_band(
                properties.get("sar:polarizations") or properties.get("polarization")
            ),
        ),
        calibrations=_calibrations(
            handles, unit, _positive(factor, "calibration_factor")
        ),
        calibration_source="calibration_factor in its metadata",
        acquired=properties.get("start_datetime"),
        finished=properties.get("end_datetime"),
        pass_direction=str(properties.get("sat:orbit_state") or "").lower() or None,
        incidence=_constant(properties.get("view:incidence_angle")),
    )


def _objects(parent: Any, name: str) -> dict[str, Any]:
    """Return the JSON object under a key; an empty one without it."""
    child = parent.get(name) if isinstance(parent, dict) else None
    if isinstance(child, dict):
        return child
    return {}


def _capella_band(collect: Mapping[str, Any]) -> str | None:
    radar = _objects(collect, "radar")
    return _first_band(
        f"{radar.get('transmit_polarization')}{radar.get('receive_polarization')}"
    )


def _first_band(texts: Any) -> str | None:
    """Return the polarization that is a text, or the first in a list; None if it is none of `POLARIZATIONS`."""
    text = texts[0] if isinstance(texts, list) and texts else texts
    return text if text in POLARIZATIONS else None


def _bands(handles: Sequence[Any], band: str | None) -> tuple[str, ...] | None:
    """Return the band of an image of one band; None if it is unknown."""
    if band and sum(file.count for file in handles) == 1:
        return (band,)
    return None


def _tags(handles: Sequence[Any]) -> dict[str, str]:
    return {key.upper(): value for key, value in handles[0].tags().items()}


def _calibrations(
    handles: Sequence[Any], unit: str | None, factor: float
) -> dict[str, tuple[FactorCalibration, ...]]:
    """Return one factor for all bands; no calibration without a unit."""
    if unit:
        return {
            unit: (FactorCalibration(factor),) * sum(file.count for file in handles)
        }
    return {}


def _parse(text: str | None) -> dict[str, Any]:
    """Return the JSON object in a tag; an empty one for other text, such as a free description."""
    if text is None or len(text) > _MAX_TAG or not text.lstrip().startswith("{"):
        return {}
    try:
        content = parse_json(text)
    except (ValueError, RecursionError):
        return {}
    if isinstance(content, dict):
        return content
    return {}


def _positive(value: Any, name: str) -> float:
    number = float(value)
    if not (number > 0 and math.isfinite(number)):
        raise ValueError(f"{name} is {value}")
    return number


def _constant(angle: Any) -> LineTable | None:
    """Return a table with one angle for the whole scene; None without a number."""
    try:
        value = float(angle)
    except (TypeError, ValueError):
        return None
    if math.isfinite(value):
        return LineTable.constant(value)
    return None
