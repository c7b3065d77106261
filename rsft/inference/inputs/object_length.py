"""Estimate the length of the object in a chip, in meters."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from rsft.data.imagery.bands import POLARIZATIONS
from rsft.data.imagery.contract import Contract
from rsft.data.imagery.units import DIGITAL_UNITS, convert_unit
from rsft.inference.inputs.chip_source import SourceChip
from rsft.types import Plane

BRIGHT_FACTOR = 10.0
"""A pixel belongs to the object if it is brighter than this multiple of the chip's median intensity.

This value was tested on 122 Sentinel-1 GRD chips of OpenSARShip with ship lengths from AIS. On 20 chips no length was
measured, because the middle is dark or the bright pixels reach the edge. On the other 102 chips the median error is
23 %, and the correlation is 0.86. The measured length is too long by 22 m in the median: two pixels of blur.
"""


def measure_length(chip: SourceChip, contract: Contract) -> dict[str, Any]:
    """Measure the length of the object in the middle of a radar chip, unless a box gives the length.

    Args:
        chip: the chip.
        contract: bands and units of the model.

    Returns:
        The columns length_m and length_from ("pixels"); empty if a box gives the length or it cannot be measured.
    """
    if chip.spacing is None or "length_m" in chip.columns or not set(contract.used_bands) <= set(POLARIZATIONS):
        return {}
    unit, _ = contract.check_header(str(chip.pixels.dtype), chip.pixels.shape[2], chip.unit)
    intensity = convert_unit(chip.pixels, "amplitude" if unit in DIGITAL_UNITS else unit, "intensity")
    meters = bright_length(np.nansum(intensity.astype(np.float64), axis=2), chip.spacing)
    return {} if meters is None else {"length_m": round(meters, 1), "length_from": "pixels"}


def box_length(box: tuple[float, ...], spacing: tuple[float, float]) -> float:
    """Return the longer side of a rectangle in meters.

    Args:
        box: corners r1 c1 ... r4 c4 in pixels.
        spacing: pixel spacing in meters along columns and along rows.
    """
    corners = np.reshape(box, (4, 2)) * spacing
    return float(np.linalg.norm(np.diff(corners[:3], axis=0), axis=1).max())


def bright_length(intensity: Plane, spacing: tuple[float, float]) -> float | None:
    """Measure the length of the bright object nearest to the middle of a chip.

    Args:
        intensity: (H, W).
        spacing: pixel spacing in meters along columns and along rows.

    Returns:
        Longer side in meters of the smallest rectangle around its pixels; None if the middle is dark, or if the object
        reaches the edge.
    """
    height, width = intensity.shape
    positive = intensity[intensity > 0]
    mask = intensity > BRIGHT_FACTOR * np.median(positive) if positive.size else np.zeros_like(intensity)
    _, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    rows, cols = np.nonzero(labels)
    if not len(rows):
        return None
    distance = np.hypot(rows - (height - 1) / 2, cols - (width - 1) / 2)
    if distance.min() > min(height, width) / 4:
        return None
    rows, cols = np.nonzero(labels == labels[rows[distance.argmin()], cols[distance.argmin()]])
    if min(rows.min(), cols.min()) == 0 or rows.max() == height - 1 or cols.max() == width - 1:
        return None
    corners = np.concatenate([np.stack([cols + dx, rows + dy], 1) for dx in (0, 1) for dy in (0, 1)])
    _, sides, _ = cv2.minAreaRect((corners * spacing[::-1]).astype(np.float32))
    return float(max(sides))
