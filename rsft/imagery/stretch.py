"""How pixel values become bytes: fixed limits, measured once on the training chips and stored in the contract."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from rsft.imagery.read import read_chip

TOP_PERCENTILE = 99.5
"""The share of uint16 pixels that stay below white: a few strong scatterers would leave the rest of a chip black."""


def byte_limits(unit: str, paths: Iterable[Path]) -> tuple[float, float]:
    """The values of `unit` that become 0 and 255: bytes as they are, uint16 from 0 to their 99.5th percentile.

    One pass over `paths`, exact, in memory that does not depend on their number.

    Raises:
        DataError: a chip that cannot be read.
    """
    if unit == "uint8":
        return 0.0, 255.0
    histogram = np.zeros(2**16, np.int64)
    for path in paths:
        histogram += np.bincount(read_chip(path).ravel(), minlength=2**16)
    below = np.cumsum(histogram)
    return 0.0, float(max(1, np.searchsorted(below, TOP_PERCENTILE / 100 * below[-1])))
