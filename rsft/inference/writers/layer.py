"""A table of predictions with everything that belongs into its file."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
import shapely

from rsft.inference.writers.columns import TEXT
from rsft.types import JsonObject, Names
from rsft.version import __version__

LAYER_NAME = "predictions"
CLASS_COLUMN = "class"
CORRECTED_COLUMN = "corrected"
"""The column that selects the color, and that of corrections by an analyst, which
replaces it."""


def creation_metadata() -> JsonObject:
    """Return the version of rsft and the time, for the metadata of a layer."""
    return {
        "rsft_version": __version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


class SceneBoxes(NamedTuple):
    """The boxes of the chips of a scene.

    Attributes:
        width: width of the scene in pixels.
        height: height of the scene in pixels.
        corners: corners r1 c1 ... r4 c4 by the name of the chip: the box of the object,
            or the chip around a point.
    """

    width: int
    height: int
    corners: Mapping[str, tuple[float, ...]]


class PredictionLayer(NamedTuple):
    """A table of predictions with everything that belongs into its file.

    Attributes:
        table: one row per chip; its column `geometry` contains shapes or None.
        crs: EPSG:4326; None if shapes are in pixels of the scene: column and -row, as
            in QGIS.
        classes: names of the classes, in the order of the bundle.
        metadata: how the table was made.
        geometry_type: type of the geometries, if the table has no rows.
        tile_step: for tiles of a grid, the step between them as a fraction of their
            size, at most 1; None for others.
        boxes: boxes of the chips in pixels by the name of the scene, for formats of
            labeling tools.
    """

    table: pd.DataFrame
    crs: str | None
    classes: Names
    metadata: JsonObject
    geometry_type: Literal["Point", "Polygon"] = "Point"
    tile_step: float | None = None
    boxes: Mapping[str, SceneBoxes] = {}

    @property
    def is_spatial(self) -> bool:
        """Whether a row has a geometry, or will have one when the table gets rows."""
        return self.table.empty or bool(self.table["geometry"].notna().any())

    @property
    def shape(self) -> Literal["point", "box", "tile"]:
        """Kind of the geometries: points, outlines, or tiles of a grid."""
        types = {shape.geom_type for shape in self.table["geometry"].dropna()}
        if (types or {self.geometry_type}) == {"Point"}:
            return "point"
        if self.tile_step is None:
            return "box"
        return "tile"

    def has(self, column: str) -> bool:
        """Return whether the table has a column."""
        return column in self.table

    def with_corrections(self) -> PredictionLayer:
        """Return the layer with an empty column `corrected` after the class.

        An analyst enters corrections there. A column of this name in the positions is
        kept instead. Objects without a prediction have nothing to correct.
        """
        folded = {name.casefold() for name in self.table.columns}
        is_predicted = self.is_spatial and self.has("probability")
        if not is_predicted or CORRECTED_COLUMN in folded:
            return self
        table = self.table.copy(deep=False)
        place = list(table.columns).index(CLASS_COLUMN) + 1
        table.insert(
            place, CORRECTED_COLUMN, pd.Series(None, index=table.index, dtype=TEXT)
        )
        return self._replace(table=table)


def without_nan(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table of objects with None for NaN and infinity.

    Neither JSON nor Excel has them.
    """
    rows = table.astype(object)
    return rows.where(rows.notna() & ~rows.isin([np.inf, -np.inf]), None)


def with_wkt(layer: PredictionLayer) -> pd.DataFrame:
    """Return the table with its geometries as texts in the column `wkt`.

    The column is left out if no row has a geometry.
    """
    flat = layer.table.rename(columns={"geometry": "wkt"})
    flat["wkt"] = [
        shape and shapely.to_wkt(shape, rounding_precision=7)
        for shape in layer.table["geometry"]
    ]
    if len(flat) and flat["wkt"].isna().all():
        return flat.drop(columns="wkt")
    return flat
