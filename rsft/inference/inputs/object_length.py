"""How long an object is, in metres, as far as pixels can tell."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from rsft.data.imagery.bands import POLARISATIONS
from rsft.data.imagery.contract import Contract
from rsft.data.imagery.units import DIGITAL, convert
from rsft.inference.inputs.chip_source import Chip
from rsft.types import Plane

BRIGHT = 10.0
"""Times the chip's median intensity. On 102 of 122 Sentinel-1 GRD chips of OpenSARShip, whose lengths AIS tells, the
length above it is too long by 22 m in the median: two pixels, the blur of the radar. The median error is 23 %, the
correlation 0.86. On the other 20 nothing bright lies in the middle, or it reaches the edge."""


def length(chip: Chip, contract: Contract) -> dict[str, Any]:
    """length_m and length_from, "box" or "pixels", of a chip; empty where neither box nor radar pixels tell."""
    if chip.spacing is None or "length_m" in chip.facts or not set(contract.bands) <= set(POLARISATIONS):
        return {}
    unit, _ = contract.check_kind(str(chip.pixels.dtype), chip.pixels.shape[2], chip.unit)
    intensity = convert(chip.pixels, "amplitude" if unit in DIGITAL else unit, "intensity")
    metres = bright_length(np.nansum(intensity.astype(np.float64), axis=2), chip.spacing)
    return {} if metres is None else {"length_m": round(metres, 1), "length_from": "pixels"}


def box_length(box: tuple[float, ...], spacing: tuple[float, float]) -> float:
    """The longer side, in metres, of a rectangle r1 c1 ... r4 c4 in pixels of `spacing` metres, down and along."""
    corners = np.reshape(box, (4, 2)) * spacing
    return float(np.linalg.norm(np.diff(corners[:3], axis=0), axis=1).max())


def bright_length(intensity: Plane, spacing: tuple[float, float]) -> float | None:
    """The longer side, in metres, of the smallest rectangle around the bright pixels (H, W) nearest the middle.

    None where nothing stands out there, or where it reaches the edge.
    """
    high, wide = intensity.shape
    known = intensity[intensity > 0]
    mask = intensity > BRIGHT * np.median(known) if known.size else np.zeros_like(intensity)
    _, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    rows, cols = np.nonzero(labels)
    if not len(rows):
        return None
    away = np.hypot(rows - (high - 1) / 2, cols - (wide - 1) / 2)
    if away.min() > min(high, wide) / 4:
        return None
    rows, cols = np.nonzero(labels == labels[rows[away.argmin()], cols[away.argmin()]])
    if min(rows.min(), cols.min()) == 0 or rows.max() == high - 1 or cols.max() == wide - 1:
        return None
    corners = np.concatenate([np.stack([cols + dx, rows + dy], 1) for dx in (0, 1) for dy in (0, 1)])
    _, sides, _ = cv2.minAreaRect((corners * spacing[::-1]).astype(np.float32))
    return float(max(sides))
