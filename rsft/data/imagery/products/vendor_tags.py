"""Read the calibration that commercial products carry in the tags of their GeoTIFF.

Sources:

- Capella Space, "SAR Products Format Specification": (scale_factor * DN)^2 is what `radiometry` names.
- ICEYE, "Product Documentation", chapters Radiometric and Metadata: sigma0 = calibration_factor * DN^2 for amplitude
  images, beta0 = calibration_factor * |DN|^2 for complex ones; the tag ICEYE_PROPERTIES is JSON.
- NASA, "NISAR L2 GCOV Product Specification": covariances are gamma0, linear.

Umbra documents no factor in its tags.
"""

import math
import re
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from rsft.data.imagery.products.product import PRODUCTS, FactorCalibration, LineTable, Product, SensorProduct
from rsft.utils.untrusted.documents import parse_json

_MAX_TAG = 2**24  # characters of JSON that are parsed
_RADIOMETRY = {"sigma_nought": "sigma0", "beta_nought": "beta0", "gamma_nought": "gamma0"}
_GCOV = re.compile(r"/[LS]SAR/GCOV/grids/frequency[AB]/(HHHH|HVHV|VHVH|VVVV)\b")


@PRODUCTS.register
class NisarGcov(SensorProduct):
    """Covariances of NISAR, which GDAL opens as a subdataset."""

    name: ClassVar[str] = "nisar-gcov"
    title: ClassVar[str] = "NISAR GCOV"

    @classmethod
    def read_tags(cls, handles: Sequence[Any]) -> Product | None:
        """Recognize the name of the subdataset."""
        return Product(kind=cls.title, unit="gamma0") if _GCOV.search(handles[0].name) else None


@PRODUCTS.register
class Capella(SensorProduct):
    """A product of Capella, with its extended metadata as JSON in the image description."""

    name: ClassVar[str] = "capella"
    title: ClassVar[str] = "Capella"

    @classmethod
    def read_tags(cls, handles: Sequence[Any]) -> Product | None:
        """Read the scale factor, the time and the incidence angle."""
        collect = _parse(_tags(handles).get("TIFFTAG_IMAGEDESCRIPTION")).get("collect")
        image = collect.get("image") if isinstance(collect, dict) else None
        if collect is None or not isinstance(image, dict) or "scale_factor" not in image:
            return None
        factor = _positive(image["scale_factor"], "scale_factor") ** 2
        return Product(
            kind=cls.title,
            unit="amplitude",
            calibrations=_calibrations(handles, _RADIOMETRY.get(str(image.get("radiometry"))), factor),
            calibration_source="scale_factor in its tags",
            acquired=collect.get("start_timestamp"),
            finished=collect.get("stop_timestamp"),
            incidence=_constant((image.get("center_pixel") or {}).get("incidence_angle")),
        )


@PRODUCTS.register
class Iceye(SensorProduct):
    """A product of ICEYE, with its properties as JSON; older products store the factor in a tag of its own."""

    name: ClassVar[str] = "iceye"
    title: ClassVar[str] = "ICEYE"

    @classmethod
    def read_tags(cls, handles: Sequence[Any]) -> Product | None:
        """Read the calibration factor, the time, the pass and the incidence angle."""
        tags = _tags(handles)
        properties = _parse(tags.get("ICEYE_PROPERTIES"))
        factor = properties.get("iceye:calibration_factor", tags.get("CALIBRATION_FACTOR"))
        if factor is None:
            return None
        unit = "beta0" if handles[0].dtypes[0].startswith("complex") else "sigma0"
        return Product(
            kind=cls.title if properties else "product with CALIBRATION_FACTOR",
            unit="amplitude",
            calibrations=_calibrations(handles, unit, _positive(factor, "calibration_factor")),
            calibration_source="calibration_factor in its tags",
            acquired=properties.get("start_datetime"),
            finished=properties.get("end_datetime"),
            pass_direction=properties.get("sat:orbit_state"),
            incidence=_constant(properties.get("view:incidence_angle")),
        )


def _tags(handles: Sequence[Any]) -> dict[str, str]:
    return {key.upper(): value for key, value in handles[0].tags().items()}


def _calibrations(handles: Sequence[Any], unit: str | None, factor: float) -> dict[str, tuple[FactorCalibration, ...]]:
    """Return one factor for all bands; no calibration without a unit."""
    return {unit: (FactorCalibration(factor),) * sum(file.count for file in handles)} if unit else {}


def _parse(text: str | None) -> dict[str, Any]:
    """Return the JSON object in a tag; an empty one for other text, such as a free description."""
    if text is None or len(text) > _MAX_TAG or not text.lstrip().startswith("{"):
        return {}
    try:
        content = parse_json(text)
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _positive(value: Any, name: str) -> float:
    number = float(value)
    if not (number > 0 and math.isfinite(number)):
        raise ValueError(f"{name} is {value}")
    return number


def _constant(angle: Any) -> LineTable | None:
    """Return a table with one angle for the whole scene; None without a number."""
    if not isinstance(angle, int | float) or not math.isfinite(angle):
        return None
    return LineTable(np.zeros(1), [np.zeros(1)], [np.array([float(angle)])])
