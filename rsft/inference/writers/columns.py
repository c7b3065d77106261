"""The columns of a predictions table, one row of `COLUMNS` for each.

The table, its labels in QGIS, the review page and the documentation are made from it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from rsft.data.annotations.base import AT
from rsft.models.uncertainty.calibrator import ConfidenceEstimate
from rsft.types import Mask, Reals

TEXT = pd.ArrowDtype(pa.string())
NUMBER = "float64"

FORMAT_COLUMNS = ("fid", "ogc_fid", "geom", "wkt", "thumb")
"""Columns that an output format or the review page adds."""

SET_SEPARATOR = " | "
"""Separator of the classes in a class set. The most probable class comes first."""

UNLIKE_LABEL = "unlike the training chips"
"""Label of chips whose class should not be trusted. They are gray, and hatched if they
are polygons."""

_PER_CLASS = "<class>"
DECIMALS = 6
"""Decimals of a probability."""
_SCENES = "chips from scenes"
_CALIBRATED = "calibrated bundle"
_TWO_CLASSES = "two classes or more"
_LENGTH = "measured length"


@dataclass(frozen=True)
class Classification:
    """What a bundle says about N chips, from which columns are computed.

    Attributes:
        classes: names of the C classes.
        probabilities: (N, C), calibrated if the bundle is.
        estimate: class sets and distances; None if the bundle is not calibrated.
    """

    classes: Sequence[str]
    probabilities: Reals
    estimate: ConfidenceEstimate | None

    @cached_property
    def ranking(self) -> NDArray[np.intp]:
        """The classes of each chip (N, C), the most probable one first."""
        return np.argsort(-self.probabilities, axis=1, kind="stable")

    def class_at(self, rank: int) -> NDArray[Any]:
        """Return the name of the class at a rank."""
        return np.array(self.classes, object)[self.ranking[:, rank]]

    def probability_at(self, rank: int) -> Reals:
        """Return the probability of the class at a rank."""
        ranked = np.take_along_axis(self.probabilities, self.ranking, axis=1)
        return ranked[:, rank].round(DECIMALS)

    @property
    def confidence(self) -> ConfidenceEstimate:
        """Class sets and distances, for columns of a calibrated bundle."""
        assert self.estimate
        return self.estimate

    def class_sets(self) -> list[str]:
        """Return the class sets as texts."""
        return format_sets(self.probabilities, self.confidence.sets, self.classes)

    def is_unlike(self) -> Mask:
        """Return which chips are unlike the training chips.

        A distance that is not a number does not make a chip like the others.
        """
        return ~(self.confidence.ood <= 1)


@dataclass(frozen=True)
class TableColumn:
    """One column of a predictions table.

    Attributes:
        name: its name; `p_<class>` stands for one column for each class.
        dtype: type of its values in pandas.
        label: its name in QGIS.
        meaning: what its values are, in Markdown.
        exists: which tables have it; "" for all.
        compute: returns its values from a classification that has them; None for a
            column of the source of the chips.
        on_page: whether the review page shows it.
        tip: QGIS expression of its line in the tip of a chip.
        is_input: whether it is empty, for an analyst.
    """

    name: str
    dtype: Any
    label: str
    meaning: str
    exists: str = ""
    compute: Callable[[Classification], Any] | None = None
    on_page: bool = False
    tip: str = ""
    is_input: bool = False

    def names(self, classes: Sequence[str]) -> list[str]:
        """Return its name, or one name for each class."""
        if _PER_CLASS not in self.name:
            return [self.name]
        return [self.name.replace(_PER_CLASS, name) for name in classes]


COLUMNS = [
    TableColumn("chip", TEXT, "Chip", "name of the chip"),
    TableColumn(
        "scene", TEXT, "Scene", "the scene from which the chip was cut", _SCENES
    ),
    TableColumn("path", TEXT, "File of the pixels", "the file with the pixels"),
    TableColumn(
        "class",
        TEXT,
        "Class",
        "the most probable class",
        compute=lambda chips: chips.class_at(0),
    ),
    TableColumn(
        "corrected",
        TEXT,
        "Corrected class",
        "empty, for the [corrected class](../analyst.md#use-the-result-in-qgis); a"
        " column of this name in the positions is kept instead",
        ".gpkg and .geojson with geometry",
        tip="'corrected: ' || \"corrected\"",
        is_input=True,
    ),
    TableColumn(
        "probability",
        NUMBER,
        "Probability (0 to 1)",
        "probability of the class; calibrated if the bundle is",
        compute=lambda chips: chips.probability_at(0),
        tip="'probability ' || format_number(\"probability\", 2)",
    ),
    TableColumn(
        "class_2",
        TEXT,
        "Second class",
        "the second most probable class",
        _TWO_CLASSES,
        compute=lambda chips: chips.class_at(1),
        tip=(
            "'or: ' || \"class_2\" || ' (' ||"
            " format_number(\"probability_2\", 2) || ')'"
        ),
    ),
    TableColumn(
        "probability_2",
        NUMBER,
        "Probability of the second class (0 to 1)",
        "probability of the second class",
        _TWO_CLASSES,
        compute=lambda chips: chips.probability_at(1),
    ),
    TableColumn(
        "class_set",
        TEXT,
        "Class set",
        "the [class set](../glossary.md#class-set): it contains the true class for 90 %"
        " of the chips of each class, if the scene resembles the validation chips;"
        " empty if [withheld](../analyst.md#is-the-scene-like-the-training-data)",
        _CALIBRATED,
        compute=lambda chips: chips.class_sets(),
        on_page=True,
        tip="'class set: ' || \"class_set\"",
    ),
    TableColumn(
        "ood",
        "bool",
        "Unlike the training chips",
        "whether the chip is unlike the training chips"
        " ([out of distribution](../glossary.md#out-of-distribution))",
        _CALIBRATED,
        compute=lambda chips: chips.is_unlike(),
        on_page=True,
        tip=f"if(\"ood\", '{UNLIKE_LABEL}', NULL)",
    ),
    TableColumn(
        "ood_distance",
        NUMBER,
        "Distance from the training chips (limit = 1)",
        "distance from the training chips as a multiple of the limit",
        _CALIBRATED,
        compute=lambda chips: chips.confidence.ood.round(4),
    ),
    TableColumn(
        f"p_{_PER_CLASS}",
        NUMBER,
        f"Probability of {_PER_CLASS}",
        "probability of each class",
        compute=lambda chips: chips.probabilities.round(DECIMALS),
    ),
    TableColumn(
        "length_m",
        NUMBER,
        "Length (m)",
        "length of the object in meters",
        _LENGTH,
        on_page=True,
        tip="'length: ' || format_number(\"length_m\", 0) || ' m'",
    ),
    TableColumn(
        "length_m_low",
        NUMBER,
        "Shortest length (m)",
        "lower end of the interval of the length",
        _LENGTH,
    ),
    TableColumn(
        "length_m_high",
        NUMBER,
        "Greatest length (m)",
        "upper end of the interval of the length",
        _LENGTH,
    ),
    TableColumn(
        "length_from",
        TEXT,
        "Source of the length",
        "what was measured: `box`, `pixels` or `detection`",
        _LENGTH,
        on_page=True,
    ),
    TableColumn(
        "row",
        NUMBER,
        "Row (pixels)",
        "row of the center of the chip; (0, 0) is the corner of the first pixel",
        _SCENES,
        on_page=True,
    ),
    TableColumn(
        "col",
        NUMBER,
        "Column (pixels)",
        "column of the center of the chip",
        _SCENES,
        on_page=True,
    ),
    TableColumn(
        "lon",
        NUMBER,
        "Longitude (°)",
        "longitude of the center of the chip in degrees",
        "georeferenced scenes",
        on_page=True,
    ),
    TableColumn(
        "lat",
        NUMBER,
        "Latitude (°)",
        "latitude of the center of the chip in degrees",
        "georeferenced scenes",
        on_page=True,
    ),
    TableColumn(
        AT,
        "Int64",
        "Id of the position",
        "identity of the position in its file",
        "positions",
    ),
    TableColumn(
        "score",
        NUMBER,
        "Score of the detector",
        "score of the detector (CFAR: dB above the surroundings)",
        "detected objects",
    ),
    TableColumn(
        "incidence_deg",
        NUMBER,
        "Incidence angle (°)",
        "incidence angle in degrees at the center of the chip",
        "products that state it",
    ),
    TableColumn(
        "geometry",
        "object",
        "Geometry",
        "the given point or box, or the outline of a tile or chip; EPSG:4326",
    ),
]


def table_columns(classes: Sequence[str]) -> dict[str, Any]:
    """Return the type of every column that a table may have, in order.

    Attributes of positions and the column of corrections are not among them.
    """
    types = {}
    for column in COLUMNS:
        if not column.is_input:
            types.update(dict.fromkeys(column.names(classes), column.dtype))
    return types


def column_labels(classes: Sequence[str]) -> dict[str, str]:
    """Return the label of every column."""
    labels: dict[str, str] = {}
    for column in COLUMNS:
        texts = [column.label]
        if _PER_CLASS in column.name:
            texts = [column.label.replace(_PER_CLASS, name) for name in classes]
        labels.update(zip(column.names(classes), texts, strict=True))
    return labels


def column_tips(has: Callable[[str], bool]) -> list[str]:
    """Return the QGIS expressions of the tip of a chip; corrections come last.

    A tip is HTML, in which a name of a class could load an image from a server.

    Args:
        has: returns whether the table has a column.
    """
    name = _escaped('"class"')
    tips = [f"'<b>' || {name} || '</b>'"]
    for column in sorted(COLUMNS, key=lambda column: column.is_input):
        if column.tip and has(column.name):
            tips.append(_escaped(column.tip))
    return tips


def _escaped(expression: str) -> str:
    """Return a QGIS expression whose text is no HTML; NULL stays."""
    return f"replace(replace({expression}, '&', '&amp;'), '<', '&lt;')"


def page_columns() -> dict[str, str]:
    """Return the label of each column that the review page shows, by its name."""
    return {column.name: column.label for column in COLUMNS if column.on_page}


def describe_columns() -> list[tuple[str, str, str]]:
    """Return name, meaning and existence of all columns, for the documentation."""
    return [
        (f"`{column.name}`", column.meaning, column.exists or "all tables")
        for column in COLUMNS
    ]


def probability_columns(classes: Sequence[str]) -> list[str]:
    """Return the name of the probability column of each class."""
    return [f"p_{name}" for name in classes]


def classified_columns(classification: Classification) -> pd.DataFrame:
    """Return the columns that are computed from a classification, one row a chip."""
    missing = set()
    if len(classification.classes) < 2:
        missing.add(_TWO_CLASSES)
    if not classification.estimate:
        missing.add(_CALIBRATED)
    values: dict[str, Any] = {}
    for column in COLUMNS:
        if not column.compute or column.exists in missing:
            continue
        values[column.name] = column.compute(classification)
        if _PER_CLASS in column.name:
            names = column.names(classification.classes)
            values.update(zip(names, values.pop(column.name).T, strict=True))
    return pd.DataFrame(values)


def classified_names(classes: Sequence[str], is_calibrated: bool) -> list[str]:
    """Return the names of the columns that are computed from a classification."""
    none = np.empty((0, len(classes)))
    estimate = None
    if is_calibrated:
        estimate = ConfidenceEstimate(none, none.astype(bool), np.empty(0))
    return classified_columns(Classification(classes, none, estimate)).columns.tolist()


def format_sets(probabilities: Reals, sets: Mask, classes: Sequence[str]) -> list[str]:
    """Return the classes of every set as a text, the most probable class first.

    Args:
        probabilities: (N, C).
        sets: (N, C), the classes that a chip may have.
        classes: names of the C classes.

    Returns:
        N texts.
    """
    names = np.array(classes, object)
    order = np.argsort(-probabilities, axis=1, kind="stable")
    return [
        SET_SEPARATOR.join(names[ranking[members[ranking]]])
        for ranking, members in zip(order, sets, strict=True)
    ]
