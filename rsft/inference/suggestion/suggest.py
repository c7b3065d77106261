"""Suggest the chips of a predictions table that are worth labeling next, or the doubtful labels of a chip store.

The former are uncertain, of rare classes, unlike the training chips, and different from
each other. A review page shows suggested chips.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rsft.data.datasets.formats.label_rows import exists
from rsft.errors import RequestError
from rsft.inference.suggestion.chip_selection import (
    describe_reason,
    select_chips,
    uncertainty,
)
from rsft.inference.suggestion.prediction_file import read_prediction_file
from rsft.inference.writers.columns import SET_SEPARATOR, probability_columns
from rsft.models.bundle.bundle import Bundle

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
    classes: tuple[str, ...]
    metadata: dict[str, Any]
    candidates: int
    notes: list[str]

    def head(self, count: int | None) -> "Suggestions":
        """Return the first suggestions; all of them for None."""
        return replace(
            self, table=self.table[:count], predictions=self.predictions[:count]
        )


def suggest_chips(
    predictions: Path, count: int, bundle: Bundle | None = None
) -> Suggestions:
    """Suggest the chips of a predictions table that are worth labeling next.

    A chip scores high if its class is uncertain (margin, class set), if it may be of a
    class with few training chips, and if it is unlike the training chips. Chips that
    are like an already selected one score low. See `select_chips`. Rows whose column
    `corrected` has a value are labeled already and left out.

    Args:
        predictions: a table that `rsft predict` wrote.
        count: number of chips to suggest.
        bundle: has the number of training chips of every class; None takes them from
            the metadata of the table.

    Returns:
        At most `count` chips.

    Raises:
        RequestError: the file is not a table of predictions, or the bundle has other
            classes.

    Example:
        >>> suggestions = suggest_chips(Path("predictions.csv"), 3)
        >>> len(suggestions.table)
        3
    """
    file = read_prediction_file(predictions, None if bundle is None else bundle.classes)
    table = file.table
    classes = file.classes
    if file.invalid:
        notes = [f"rows without a path or valid probabilities: {file.invalid:,}"]
    else:
        notes = []
    if "corrected" in table and (labeled := int((table["corrected"] != "").sum())):
        notes.append(f"rows that have a label already: {labeled:,}")
        table = table[table["corrected"] == ""]
    listed = file.metadata.get("classes")
    train_counts = file.metadata.get("train_counts")
    counts: NDArray[np.float64] | None = None
    if bundle is not None:
        if listed is not None and set(listed) != set(classes):
            raise RequestError(
                f"the table has the classes {', '.join(listed)}",
                predictions,
                "give the bundle that made the table, or one with the same classes",
            )
        counts = np.array(bundle.train_counts, float)
    elif isinstance(train_counts, dict) and all(
        name in train_counts for name in classes
    ):
        counts = np.array([train_counts[name] for name in classes], float)
    else:
        notes.append(
            "training chips by class unknown, so rarity is that of the predictions:"
            " give --bundle BUNDLE"
        )
    set_sizes = None
    if "class_set" in table:
        set_sizes = np.array(
            [
                len(text.split(SET_SEPARATOR)) if text else 0
                for text in table["class_set"]
            ],
            np.int64,
        )
    else:
        notes.append("the table has no class sets: uncertainty is the margin alone")
    probabilities = table[probability_columns(classes)].to_numpy(float)
    if "ood_distance" in table:
        distances = table["ood_distance"].to_numpy(float)
    else:
        distances = np.full(len(table), np.nan)
    if "ood_distance" not in table:
        notes.append("the table has no distances from the training chips")
    # A factor that ends at the limit: a few chips far from everything may be no targets
    # at all.
    closeness = np.clip(np.nan_to_num(distances, nan=1.0), 0.0, 1.0)
    expected = probabilities.sum(axis=0) if counts is None else counts
    selected = select_chips(
        probabilities,
        uncertainty(probabilities, set_sizes) * closeness,
        expected,
        count,
    )
    sizes = [None if set_sizes is None else int(set_sizes[row]) for row in selected]
    reasons = [
        describe_reason(
            probabilities[row], classes, counts, size, float(distances[row])
        )
        for row, size in zip(selected, sizes, strict=True)
    ]
    chips = table.iloc[selected]
    scenes = {
        cut.get("scene")
        for cut in file.metadata.get("cuts") or ()
        if isinstance(cut, dict)
    }
    has_columns = {"scene", "chip", "row", "col"} <= set(chips)
    if has_columns:
        can_cut = chips["scene"].isin(scenes)
    else:
        can_cut = pd.Series(False, chips.index)
    cuts = (
        chips.reindex(columns=["chip", "row", "col"])
        .astype(object)
        .assign(table=str(predictions.absolute()))
    )
    suggested, path_notes = suggestion_table(chips, reasons, cuts.where(can_cut, ""))
    return Suggestions(
        suggested, chips, classes, file.metadata, len(table), notes + path_notes
    )


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
    texts = chips.reindex(columns=["scene", "at"], fill_value="").reset_index(drop=True)
    cells: dict[str, Any] = {
        "path": list(map(str, paths)),
        "predicted": chips["class"].tolist(),
        "reason": reasons,
    }
    if cuts is None:
        columns = pd.DataFrame("", range(len(chips)), CUT_COLUMNS)
    else:
        columns = cuts.reset_index(drop=True)
    table = (
        pd.concat([texts, columns], axis=1)
        .assign(**cells)
        .reindex(columns=list(COLUMNS), fill_value="")
    )
    needs_file = (table["table"] == "").tolist()
    has_scene_path = [
        path.name == scene for path, scene in zip(paths, table["scene"], strict=True)
    ]
    in_scenes = sum(
        needed and is_scene
        for needed, is_scene in zip(needs_file, has_scene_path, strict=True)
    )
    missing = sum(
        needed and not exists(path, Path.exists)
        for path, needed in zip(paths, needs_file, strict=True)
    )
    notes = {
        f"{in_scenes:,} chips have no file of their own: to label them, run `rsft predict` with --chips DIR": (
            in_scenes
        ),
        f"{missing:,} files do not exist: run the command in the folder where `rsft predict` ran": (
            missing
        ),
    }
    return table, [note for note, count in notes.items() if count]
