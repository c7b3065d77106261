"""The columns of a predictions table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa

from rsft.data.annotations.base import AT

if TYPE_CHECKING:
    pass


TEXT = pd.ArrowDtype(pa.string())

_NUMBER = "float64"

_FIRST_COLUMNS: dict[str, Any] = {
    **dict.fromkeys(("chip", "scene", "path", "class"), TEXT),
    "probability": _NUMBER,
    "class_2": TEXT,
    "probability_2": _NUMBER,
    "class_set": TEXT,
    "ood": "bool",
    "ood_distance": _NUMBER,
}

_LAST_COLUMNS: dict[str, Any] = {
    **dict.fromkeys(("length_m", "length_m_low", "length_m_high"), _NUMBER),
    "length_from": TEXT,
    **dict.fromkeys(("row", "col", "lon", "lat"), _NUMBER),
    AT: "Int64",
    "score": _NUMBER,
    "incidence_deg": _NUMBER,
    "geometry": "object",
}

FORMAT_COLUMNS = ("fid", "ogc_fid", "geom", "wkt", "thumb")
"""Columns that an output format or the review page adds."""


SET_SEPARATOR = " | "
"""Separator of the classes in a class set. The most probable class comes first."""


def table_columns(classes: Sequence[str]) -> dict[str, Any]:
    """Return the type of every column that a predictions table may have, in order, without attributes of positions."""
    return (
        _FIRST_COLUMNS
        | dict.fromkeys(probability_columns(classes), _NUMBER)
        | _LAST_COLUMNS
    )


def probability_columns(classes: Sequence[str]) -> list[str]:
    """Return the name of the probability column of each class."""
    return [f"p_{name}" for name in classes]
