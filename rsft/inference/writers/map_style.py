"""What a map of predictions shows: colors of the classes, the kind of geometry, and the columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

CLASS_COLUMN, PROBABILITY_COLUMN, UNLIKE_COLUMN, CORRECTED_COLUMN = "class", "probability", "ood", "corrected"
"""Columns that select the color, the opacity and the gray category, and the column of corrections by an analyst."""

NOT_A_TARGET, UNSURE = "not a target", "unsure"
"""Values in the column of corrections, beside the names of the classes."""

UNLIKE_LABEL = "unlike the training chips"
"""Label of chips whose class should not be trusted. They are gray, and hatched if they are polygons."""

Shape = Literal["point", "box", "tile"]

OUTLINE, GRAY = "#202020", "#8c8c8c"


@dataclass(frozen=True)
class MapStyle:
    """Everything that the style of a layer depends on.

    Attributes:
        colors: color of each class as #rrggbb.
        columns: names of the columns of the table.
        shape: "point", "box" (outlines of objects or chips) or "tile" (tiles of a grid).
        tile_step: step between tiles as a fraction of their size, at most 1.
        in_degrees: whether the coordinates are degrees. Otherwise they are pixels.
    """

    colors: Mapping[str, str]
    columns: Sequence[str]
    shape: Shape = "point"
    tile_step: float = 1.0
    in_degrees: bool = True

    def has(self, column: str) -> bool:
        """Return whether the table has a column."""
        return column in self.columns
