"""Read the calibration that commercial products carry in the tags of their GeoTIFF.

Sources:

- Capella Space, "SAR Products Format Specification": (scale_factor * DN)^2 is what `radiometry` names.
- ICEYE, "Product Documentation", chapters Radiometric and Metadata: sigma0 = calibration_factor * DN^2 for amplitude
  images, beta0 = calibration_factor * |DN|^2 for complex ones; the tag ICEYE_PROPERTIES is JSON.
- NASA, "NISAR L2 GCOV Product Specification": covariances are gamma0, linear.

Umbra documents no factor in its tags.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rsft.data.imagery.products.product import FactorCalibration, Product
from rsft.data.imagery.products.sentinel1 import LineTable
from rsft.data.imagery.products.stored_values import is_complex
from rsft.errors import DataError
from rsft.utils.untrusted.documents import parse_json

_MAX_TAG = 2**24  # characters of JSON that are parsed
_RADIOMETRY = {"sigma_nought": "sigma0", "beta_nought": "beta0", "gamma_nought": "gamma0"}
_GCOV = re.compile(r"/[LS]SAR/GCOV/grids/frequency[AB]/(HHHH|HVHV|VHVH|VVVV)\b")


def read_vendor_product(handles: Sequence[Any]) -> Product | None:
    """Read what the tags of a product of Capella, ICEYE or NISAR say.

    Args:
        handles: the datasets of the scene, opened by rasterio.

    Returns:
        The product; None if the file is none of these.

    Raises:
        DataError: the tags contain a calibration factor that is not a positive number.
    """
    file = handles[0]
    if _GCOV.search(file.name):
        return Product(kind="NISAR GCOV", unit="gamma0")
    tags = {key.upper(): value for key, value in file.tags().items()}
    count = sum(handle.count for handle in handles)
    try:
        return _read_capella(tags, count) or _read_iceye(tags, count, is_complex(file.dtypes[0]))
    except (TypeError, ValueError) as error:
        raise DataError(f"the tags of the product cannot be used: {error}", file.name, "download it again") from error


def _read_capella(tags: Mapping[str, str], count: int) -> Product | None:
    """Read the extended metadata that Capella stores as JSON in the image description."""
    collect = _parse(tags.get("TIFFTAG_IMAGEDESCRIPTION")).get("collect")
    if not isinstance(collect, dict) or not isinstance(collect.get("image"), dict):
        return None
    image = collect["image"]
    if "scale_factor" not in image:
        return None
    unit = _RADIOMETRY.get(str(image.get("radiometry")))
    factor = _positive(image["scale_factor"], "scale_factor") ** 2
    center = image.get("center_pixel") or {}
    return Product(
        kind="Capella",
        unit="amplitude",
        calibrations={unit: (FactorCalibration(factor),) * count} if unit else {},
        calibration_source="scale_factor in its tags",
        acquired=collect.get("start_timestamp"),
        incidence=_constant(center.get("incidence_angle")),
    )


def _read_iceye(tags: Mapping[str, str], count: int, is_slc: bool) -> Product | None:
    """Read the properties that ICEYE stores as JSON, or the factor that older products store in a tag of its own."""
    properties = _parse(tags.get("ICEYE_PROPERTIES"))
    factor = properties.get("iceye:calibration_factor", tags.get("CALIBRATION_FACTOR"))
    if factor is None:
        return None
    unit = "beta0" if is_slc else "sigma0"
    return Product(
        kind="ICEYE" if properties else "product with CALIBRATION_FACTOR",
        unit="amplitude",
        calibrations={unit: (FactorCalibration(_positive(factor, "calibration_factor")),) * count},
        calibration_source="calibration_factor in its tags",
        acquired=properties.get("start_datetime"),
        pass_direction=properties.get("sat:orbit_state"),
        incidence=_constant(properties.get("view:incidence_angle")),
    )


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
