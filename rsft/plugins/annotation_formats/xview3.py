"""Labels and predictions of xView3."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import shapely

from rsft.data.annotations.base import PIXEL, Annotations
from rsft.data.annotations.columns import typed_column
from rsft.data.annotations.tables import CsvTable, csv_header, read_floats

_PIXELS = {"row": "detect_scene_row", "col": "detect_scene_column"}
_DEGREES = {"lat": "detect_lat", "lon": "detect_lon"}
"""Columns of positions by their role; pixels are preferred."""

_SIDES = ["left", "top", "right", "bottom"]
_TRUE = ("true", "1", "1.0")
_VESSELS = {None: "vessel", True: "fishing", False: "nonfishing"}
"""Class of a vessel by whether it fishes; None if that is unknown."""


class XView3(CsvTable):
    """Points in pixels of a scene, or boxes where all their sides are given.

    The class is fishing, nonfishing, vessel (not known whether it fishes) or nonvessel.
    """

    name = "xview3"
    title = "xView3"
    has_columns = False

    def recognizes(self, path: Path) -> bool:
        return super().recognizes(path) and bool(_position_columns(csv_header(path)))

    def read(self, path: Path, layer: str | None = None) -> Annotations:
        header = csv_header(path)
        self.columns = _position_columns(header)
        if self.columns == _PIXELS and "scene_id" in header:
            self.columns = {**_PIXELS, "image": "scene_id"}
        annotations = super().read(path, layer)
        table = annotations.table
        if "is_vessel" in table:
            table.insert(1, "class", _vessel_classes(table).array)
        if annotations.crs == PIXEL and set(_SIDES) <= set(table):
            left, top, right, bottom = sides = read_floats(table[_SIDES]).T
            has_box = np.isfinite(sides).all(axis=0) & (left < right) & (top != bottom)
            boxes = shapely.box(*sides[:, has_box])
            table.loc[has_box, table.geometry.name] = boxes
        return annotations


def _position_columns(header: set[str]) -> dict[str, str]:
    for columns in (_PIXELS, _DEGREES):
        if set(columns.values()) <= header:
            return columns
    return {}


def _vessel_classes(table: pd.DataFrame) -> pd.Series[Any]:
    vessels = map(_parse_flag, table["is_vessel"])
    fishing = map(_parse_flag, table.get("is_fishing", [None] * len(table)))
    classes: list[str | None] = []
    for is_vessel, is_fishing in zip(vessels, fishing, strict=True):
        if is_vessel:
            classes.append(_VESSELS[is_fishing])
        else:
            classes.append(None if is_vessel is None else "nonvessel")
    return typed_column("class", classes)


def _parse_flag(cell: Any) -> bool | None:
    return None if pd.isna(cell) else str(cell).lower() in _TRUE
