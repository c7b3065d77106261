"""Read commercial products: by the tags of their GeoTIFF, or the metadata beside it.

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

import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from rsft.data.imagery.bands import POLARIZATIONS
from rsft.data.imagery.products.calibration import FactorCalibration
from rsft.data.imagery.products.headers import (
    MAX_HEADER_BYTES,
    HeaderProduct,
    Images,
    read_header_xml,
)
from rsft.data.imagery.products.line_table import LineTable
from rsft.data.imagery.products.product import (
    Handles,
    Product,
    SensorProduct,
)
from rsft.types import JsonObject, Names
from rsft.utils.untrusted.documents import load_json, parse_json

_MAX_TAG = 2**24  # characters of JSON that are parsed
_RADIOMETRY = {
    "sigma_nought": "sigma0",
    "beta_nought": "beta0",
    "gamma_nought": "gamma0",
}
_GCOV = re.compile(r"/[LS]SAR/GCOV/grids/frequency[AB]/(HH|HV|VH|VV)\1\b")
_FACTOR = "iceye:calibration_factor"
_ICEYE_XML = {  # names of the properties in older products
    _FACTOR: "calibration_factor",
    "start_datetime": "acquisition_start_utc",
    "end_datetime": "acquisition_end_utc",
    "sat:orbit_state": "orbit_direction",
    "view:incidence_angle": "incidence_center",
    "sar:polarizations": "polarization",
}


class NisarGcov(SensorProduct):
    """Covariances of NISAR, which GDAL opens as a subdataset.

    Table:
        product: NISAR GCOV, a subdataset
        units: gamma0
        polarization from: the name of the covariance
        backscatter: the values
        driver: HDF5
        source: NASA, L2 GCOV Specification
    """

    name = "nisar-gcov"
    title = "NISAR GCOV"

    @classmethod
    def read_tags(cls, handles: Handles) -> Product | None:
        """Recognize the name of the subdataset."""
        match = _GCOV.search(handles[0].name)
        return match and Product(kind=cls.title, unit="gamma0", bands=(match[1],))


class Capella(HeaderProduct):
    """A product of Capella.

    Its extended metadata are JSON, in the image description and beside the image.

    Table:
        product: Capella GEO, GEC
        units: amplitude, sigma0
        polarization from: `collect.radar`
        backscatter: (`scale_factor` DN)² of what `radiometry` names
        driver: GTiff
        source: Capella, SAR Products Format Specification
    """

    name = "capella"
    title = "Capella"
    headers = ("*_extended.json",)
    marker = b'"collect"'
    detected = "a detected image (GEO or GEC)"
    collect: JsonObject

    def load(self) -> Images | None:
        """Read the extended metadata."""
        self.collect = _object(load_json(self.header, MAX_HEADER_BYTES), "collect")
        if "scale_factor" not in _object(self.collect, "image"):
            return None
        name = self.header.name.replace("_extended.json", ".tif")
        band = _capella_band(self.collect)
        return {band or "": self.header.with_name(name)}

    def describe(self, handles: Handles) -> Product:
        """Read the scale factor, the time and the incidence angle."""
        return _describe_capella(self.collect, handles)

    @classmethod
    def read_tags(cls, handles: Handles) -> Product | None:
        """Read the same from the image description."""
        description = _parse(_tags(handles).get("TIFFTAG_IMAGEDESCRIPTION"))
        collect = _object(description, "collect")
        if "scale_factor" in _object(collect, "image"):
            return _describe_capella(collect, handles)
        return None


class Iceye(HeaderProduct):
    """A product of ICEYE.

    Its properties are JSON in a tag, or XML or JSON beside the image.

    Table:
        product: ICEYE GRD, with XML or JSON; an SLC is recognized by `sar:product_type`
            and refused
        units: amplitude, sigma0
        polarization from: `polarization`, `sar:polarizations`
        backscatter: `calibration_factor` DN²
        driver: GTiff
        source: ICEYE, Product Documentation
    """

    name = "iceye"
    title = "ICEYE"
    headers = ("*.xml", "ICEYE*.json")
    marker = b"ICEYE"
    detected = "the detected image (GRD)"
    properties: JsonObject

    def load(self) -> Images | None:
        """Read the properties."""
        image = self.header.with_suffix(".tif")
        if self.header.suffix == ".json":
            self.properties = _object(
                load_json(self.header, MAX_HEADER_BYTES), "properties"
            )
            if not image.is_file():
                return None  # the item may name an image elsewhere
        else:
            root = read_header_xml(self.header)
            texts = {key: root.findtext(name) for key, name in _ICEYE_XML.items()}
            self.properties = texts
            if root.findtext("product_level") == "SLC":
                self.complex_kind = "SLC"
        if self.properties.get(_FACTOR) is None:
            return None
        return {_first_band(self.properties.get("sar:polarizations")) or "": image}

    def describe(self, handles: Handles) -> Product:
        """Read the calibration factor, the time, the pass and the incidence angle."""
        return _describe_iceye(self.properties, self.properties[_FACTOR], handles)

    @classmethod
    def read_tags(cls, handles: Handles) -> Product | None:
        """Read the same from the tags; older products have a tag with the factor."""
        tags = _tags(handles)
        properties = _parse(tags.get("ICEYE_PROPERTIES"))
        factor = properties.get(_FACTOR, tags.get("CALIBRATION_FACTOR"))
        if factor is None:
            return None
        return _describe_iceye(properties, factor, handles)


class Umbra(HeaderProduct):
    """A product of Umbra: its folder, its metadata, or its geocoded image (GEC).

    Table:
        product: Umbra GEC
        units: none
        polarization from: `collects.polarizations`
        backscatter: none published; `--read calibrate=F` for F DN²
        driver: GTiff
        source: Umbra, Product Guide
    """

    name = "umbra"
    title = "Umbra"
    headers = ("*_METADATA.json",)
    marker = b'"collects"'
    detected = "the geocoded image (GEC)"
    collect: JsonObject

    def load(self) -> Images | None:
        """Read the metadata."""
        metadata = load_json(self.header, MAX_HEADER_BYTES)
        if not str(metadata.get("vendor")).startswith("Umbra"):
            return None
        self.collect = metadata["collects"][0]
        stem = self.header.name.removesuffix("_METADATA.json")
        geocoded = self.root / f"{stem}_GEC.tif"
        images = (geocoded, self.root / f"{stem}.tif")
        image = next(filter(Path.is_file, images), geocoded)
        if not image.is_file() and (self.root / f"{stem}_SICD.nitf").is_file():
            self.complex_kind = "SICD"
        return {_first_band(self.collect.get("polarizations")) or "": image}

    def describe(self, handles: Handles) -> Product:
        """Read the time, the pass and the incidence angle."""
        return Product(
            kind=f"{self.title} GEC",
            bands=_bands(handles, self.bands[0]),
            acquired=self.collect.get("startAtUTC"),
            finished=self.collect.get("endAtUTC"),
            pass_direction=_lower(self.collect.get("satelliteTrack")),
            incidence=_constant(self.collect.get("angleIncidenceDegrees")),
        )


def _describe_capella(collect: JsonObject, handles: Handles) -> Product:
    image = _object(collect, "image")
    scale = float(image["scale_factor"])
    factor = scale * abs(scale)  # a negative one is refused
    unit = _RADIOMETRY.get(str(image.get("radiometry")))
    angle = _object(image, "center_pixel").get("incidence_angle")
    return Product(
        kind=Capella.title,
        unit="amplitude",
        bands=_bands(handles, _capella_band(collect)),
        calibrations=_calibrations(handles, unit, factor),
        calibration_source="scale_factor in its metadata",
        acquired=collect.get("start_timestamp"),
        finished=collect.get("stop_timestamp"),
        incidence=_constant(angle),
    )


def _describe_iceye(properties: JsonObject, factor: Any, handles: Handles) -> Product:
    is_complex = handles[0].dtypes[0].startswith("complex")
    product_type = str(properties.get("sar:product_type"))
    if product_type.upper().startswith("SLC") and not is_complex:
        raise Iceye.complex_error(
            f"{product_type}: amplitude and phase", handles[0].name
        )
    unit = "beta0" if is_complex else "sigma0"
    bands = properties.get("sar:polarizations") or properties.get("polarization")
    return Product(
        kind=Iceye.title if properties else "product with CALIBRATION_FACTOR",
        unit="amplitude",
        bands=_bands(handles, _first_band(bands)),
        calibrations=_calibrations(handles, unit, float(factor)),
        calibration_source="calibration_factor in its metadata",
        acquired=properties.get("start_datetime"),
        finished=properties.get("end_datetime"),
        pass_direction=_lower(properties.get("sat:orbit_state")),
        incidence=_constant(properties.get("view:incidence_angle")),
    )


def _object(parent: Any, name: str) -> JsonObject:
    """Return the JSON object under a key; an empty one without it."""
    value = parent.get(name) if isinstance(parent, dict) else None
    return value if isinstance(value, dict) else {}


def _lower(text: Any) -> str:
    return str(text or "").lower()


def _capella_band(collect: JsonObject) -> str | None:
    radar = _object(collect, "radar")
    return _first_band(
        f"{radar.get('transmit_polarization')}{radar.get('receive_polarization')}"
    )


def _first_band(texts: Any) -> str | None:
    """Return the polarization that is a text, or the first in a list.

    Returns:
        The polarization; None if it is none of `POLARIZATIONS`.
    """
    if isinstance(texts, list) and texts:
        texts = texts[0]
    return texts if texts in POLARIZATIONS else None


def _count(handles: Handles) -> int:
    return sum(file.count for file in handles)


def _bands(handles: Handles, band: str | None) -> Names | None:
    """Return the band of an image of one band; None if it is unknown."""
    return (band,) if band and _count(handles) == 1 else None


def _tags(handles: Handles) -> dict[str, str]:
    return {key.upper(): value for key, value in handles[0].tags().items()}


def _calibrations(
    handles: Handles, unit: str | None, factor: float
) -> dict[str, tuple[FactorCalibration, ...]]:
    """Return one factor for all bands; no calibration without a unit."""
    if not unit:
        return {}
    return {unit: (FactorCalibration(factor),) * _count(handles)}


def _parse(text: str | None) -> JsonObject:
    """Return the JSON object in a tag.

    The object is empty for other text, such as a free description.
    """
    content = None
    if text is not None and len(text) <= _MAX_TAG and text.lstrip().startswith("{"):
        with suppress(ValueError, RecursionError):
            content = parse_json(text)
    return content or {}


def _constant(angle: Any) -> LineTable | None:
    """Return a table with one angle for the whole scene; None without a number."""
    with suppress(TypeError, ValueError):  # no number, or one that is not finite
        return LineTable.constant(float(angle))
    return None
