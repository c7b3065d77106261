"""Suggest the chips of a predictions table that are worth labeling next.

They are uncertain, of rare classes, unlike the training chips, and different from each
other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from rsft.inference.writers.columns import SET_SEPARATOR, probability_columns
from rsft.plugins.suggestions.chip_selection import (
    describe_reason,
    select_chips,
    uncertainty,
)
from rsft.plugins.suggestions.prediction_file import (
    PredictionFile,
    read_prediction_file,
)
from rsft.types import Floats, JsonObject, Names
from rsft.utils.input_paths import exists

CUT_COLUMNS = ("chip", "row", "col", "table")
"""Columns by which `rsft data add` cuts a chip from its scene again; empty for chips
that it cannot cut."""

COLUMNS = (
    "path",
    "class",
    "verdict",
    "predicted",
    "scene",
    "at",
    "reason",
    *CUT_COLUMNS,
)
"""Columns of the table of suggestions. The analyst fills `class` or `verdict`, and
`rsft data add` reads them."""


@dataclass(frozen=True)
class Suggestions:
    """Chips to label or to check, the most useful first.

    Attributes:
        table: one row per chip, with the columns `COLUMNS`; `class` and `verdict` are
            empty.
        predictions: the rows of these chips in the table of predictions, with all its
            columns.
        metadata: how the predictions were made; empty for CSV.
        candidates: number of chips among which they were selected.
    """

    table: pd.DataFrame
    predictions: pd.DataFrame
    classes: Names
    metadata: JsonObject
    candidates: int
    notes: list[str]


def suggest_chips(predictions: Path, count: int) -> Suggestions:
    """Suggest the chips of a predictions table that are worth labeling next.

    A chip scores high if its class is uncertain (margin, class set), if it may be of a
    class with few training chips, and if it is unlike the training chips. Chips that
    are like an already selected one score low. See `select_chips`. Rows whose column
    `corrected` has a value are labeled already and left out.

    Args:
        predictions: a table that `rsft predict` wrote.
        count: number of chips to suggest.

    Returns:
        At most `count` chips.

    Raises:
        RequestError: the file is not a table of predictions.

    Example:
        >>> suggestions = suggest_chips(Path("predictions.csv"), 3)
        >>> len(suggestions.table)
        3
    """
    file = read_prediction_file(predictions)
    table = file.table
    classes = file.classes
    notes = []
    if file.invalid:
        notes.append(f"rows without a path or valid probabilities: {file.invalid:,}")
    if "corrected" in table:
        is_labeled = table["corrected"] != ""
        if is_labeled.any():
            notes.append(f"rows that have a label already: {is_labeled.sum():,}")
        table = table[~is_labeled]
    counts = _count_training_chips(file)
    if counts is None:
        notes.append(
            "the table has no training chips by class: rarity is that of the"
            " predictions"
        )
    set_sizes = None
    if "class_set" in table:
        texts = table["class_set"]  # "" for a set that was withheld
        sizes = [len(x.split(SET_SEPARATOR)) if x else 0 for x in texts]
        set_sizes = np.array(sizes, np.int64)
    else:
        notes.append("the table has no class sets: uncertainty is the margin alone")
    probabilities = table[probability_columns(classes)].to_numpy(float)
    distances = np.full(len(table), np.nan)
    if "ood_distance" in table:
        distances = table["ood_distance"].to_numpy(float)
    else:
        notes.append("the table has no distances from the training chips")
    # A factor that ends at the limit: a few chips far from everything may be no targets
    # at all.
    closeness = np.clip(np.nan_to_num(distances, nan=1.0), 0.0, 1.0)
    scores = uncertainty(probabilities, set_sizes) * closeness
    expected = probabilities.sum(axis=0) if counts is None else counts
    selected = select_chips(probabilities, scores, expected, count)
    reasons = [
        describe_reason(probabilities[row], classes, distances[row]) for row in selected
    ]
    chips = table.iloc[selected]
    suggested, path_notes = suggestion_table(
        chips, reasons, _find_cuts(chips, file.metadata, predictions)
    )
    return Suggestions(
        suggested, chips, classes, file.metadata, len(table), notes + path_notes
    )


def _count_training_chips(file: PredictionFile) -> Floats | None:
    """Return the number of training chips of each class; None if it is unknown."""
    counts = file.metadata.get("train_counts") or {}
    if not set(file.classes) <= set(counts):
        return None
    return np.array([counts[name] for name in file.classes], float)


def _find_cuts(
    chips: pd.DataFrame, metadata: JsonObject, predictions: Path
) -> pd.DataFrame:
    """Return the columns `CUT_COLUMNS`, empty for chips that cannot be cut again."""
    columns = chips.reindex(columns=["chip", "row", "col"]).astype(object)
    columns = columns.assign(table=str(predictions.absolute()))
    cuts = metadata.get("cuts") or ()
    scenes = {cut.get("scene") for cut in cuts if isinstance(cut, dict)}
    can_cut = pd.Series(False, chips.index)
    if {"scene", "chip", "row", "col"} <= set(chips):
        can_cut = chips["scene"].isin(scenes)
    return columns.where(can_cut, "")


def suggestion_table(
    chips: pd.DataFrame, reasons: Sequence[str], cuts: pd.DataFrame | None = None
) -> tuple[pd.DataFrame, list[str]]:
    """Return the table that the analyst fills, with absolute paths.

    Args:
        chips: rows of a predictions table; `path`, `class`, and `scene` and `at` if it
            has them.
        reasons: why each chip was selected.
        cuts: the columns `CUT_COLUMNS` of these chips; None if no chip can be cut
            again.

    Returns:
        The table with the columns `COLUMNS`, and notes about paths that are not files
        of chips.
    """
    paths = [Path(path).absolute() for path in chips["path"]]
    table = chips.reindex(columns=["scene", "at"], fill_value="")
    if cuts is not None:
        table = pd.concat([table, cuts], axis=1)
    table = table.reset_index(drop=True).assign(
        path=[str(path) for path in paths],
        predicted=chips["class"].tolist(),
        reason=reasons,
    )
    table = table.reindex(columns=list(COLUMNS), fill_value="")
    missing = 0
    for path, scene, source in zip(paths, table["scene"], table["table"], strict=True):
        if source == "":  # the chip needs a file
            missing += path.name == scene or not exists(path)
    notes = []
    if missing:
        notes.append(
            f"{missing:,} chips have no file of their own: to label them, run `rsft"
            " predict` with --chips DIR, and this command in the same folder"
        )
    return table, notes
