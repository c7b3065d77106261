"""What a store holds, in numbers: read from the manifest, and from the files where it says nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from rsft.chips.store import Progress
from rsft.imagery.read import read_chip


@dataclass(frozen=True)
class PixelSummary:
    """The chips of one unit and number type.

    Attributes:
        low, high: of all pixels.
        mean: of all pixels.
        sides: shortest and longest side in pixels.
        bytes: of the files.
    """

    chips: int
    low: float
    high: float
    mean: float
    sides: tuple[int, int]
    bytes: int


def summarise_pixels(root: Path, table: pd.DataFrame, progress: Progress | None = None) -> Mapping[str, PixelSummary]:
    """Read every chip of `table` once; a summary a unit and number type, such as "db float32".

    Raises:
        DataError: a chip that cannot be read, named.
    """
    parts: dict[str, list[tuple[float, float, float, int, int, int, int]]] = {}
    for done, (path, unit) in enumerate(zip(table["path"], table["unit"], strict=True), 1):
        pixels = read_chip(root / path)
        kind = unit if unit == str(pixels.dtype) else f"{unit} {pixels.dtype}"
        extent = (float(pixels.min()), float(pixels.max()), float(pixels.sum(dtype=np.float64)), pixels.size)
        shape = (min(pixels.shape[:2]), max(pixels.shape[:2]))
        parts.setdefault(kind, []).append((*extent, *shape, (root / path).stat().st_size))
        if progress is not None:
            progress(done, len(table), "reading chips")
    return {kind: _summary(parts[kind]) for kind in sorted(parts)}


def _summary(parts: list[tuple[float, float, float, int, int, int, int]]) -> PixelSummary:
    low, high, total, size, shortest, longest, stored = zip(*parts, strict=True)
    sides = (min(shortest), max(longest))
    return PixelSummary(len(parts), min(low), max(high), sum(total) / sum(size), sides, sum(stored))
