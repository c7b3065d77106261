"""Positions as a vector layer or a CSV table gives them, before they become pixels of a scene."""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd
import shapely

PIXEL_CRS = "pixel"
"""The value of `--at-crs` for positions in pixels: x is the column, y the row, from the upper left corner."""


class PositionTable(NamedTuple):
    """Positions with their attributes.

    Attributes:
        shapes: the geometry of each position, None if it has none.
        attributes: one row per position, indexed by its unique number in the file; column `at` is its identity.
        crs: coordinate system, or "pixel"; None if the file does not name one.
        notes: remarks for the reader.
    """

    shapes: list[shapely.Geometry | None]
    attributes: pd.DataFrame
    crs: str | None
    notes: list[str]
