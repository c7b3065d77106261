"""Describe the product of a scene, for the notes and the metadata of a result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rsft.inference.scenes.locations import Location
from rsft.inference.scenes.raster import RasterScene


def product_record(scene: RasterScene) -> dict[str, Any]:
    """Return what is known about the pixels of a scene, as JSON values without unknown ones.

    Args:
        scene: the scene, with the unit in which it is read.

    Returns:
        The values under the keys scene, product, unit, calibration, noise, acquired, pass and incidence_deg (the
        smallest and the largest incidence angle at the corners).
    """
    product, calibrated = scene.product, scene.calibrations is not None
    record: dict[str, Any] = {
        "scene": scene.name,
        "product": product.kind,
        "unit": scene.unit,
        "calibration": product.calibration_source if calibrated else None,
        "noise": product.noise if calibrated else None,
        "acquired": product.acquired,
        "pass": product.pass_direction,
    }
    if product.incidence is not None:
        rows, cols = np.array([0, 0, scene.height, scene.height]), np.array([0, scene.width, 0, scene.width])
        angles = product.incidence(rows.astype(np.float64), cols.astype(np.float64))
        record["incidence_deg"] = [round(float(angles.min()), 2), round(float(angles.max()), 2)]
    return {key: value for key, value in record.items() if value}


def product_notes(scene: RasterScene) -> list[str]:
    """Return notes about the product of a scene and its calibration; none for a raster without description.

    Args:
        scene: the scene, with the unit in which it is read.

    Returns:
        The notes.
    """
    record, name, notes = product_record(scene), scene.path.name, []
    if "acquired" in record or "incidence_deg" in record:
        words = [record["product"], record.get("acquired"), record.get("pass")]
        if "incidence_deg" in record:
            words.append("incidence {:g} to {:g} degrees".format(*record["incidence_deg"]))
        notes.append(f"{name}: {', '.join(word for word in words if word)}")
    if "calibration" in record:
        noise = f"; {record['noise']}" if "noise" in record else ""
        notes.append(f"{name}: calibrated to {scene.unit} by {record['calibration']}{noise}")
    elif scene.unit is not None and scene.product.unit == scene.unit:
        notes.append(f"unit of {name}: {scene.unit}, as the file declares")
    return notes


def incidence_angles(scene: RasterScene, locations: Sequence[Location]) -> list[float | None]:
    """Return the incidence angle at the center of every chip.

    Args:
        scene: the scene.
        locations: centers of the chips.

    Returns:
        Angles in degrees; None if the scene does not tell them.
    """
    if scene.product.incidence is None or not locations:
        return [None] * len(locations)
    rows, cols = (np.array([getattr(place, axis) for place in locations], np.float64) for axis in ("row", "col"))
    return [round(float(angle), 2) for angle in scene.product.incidence(rows, cols)]
