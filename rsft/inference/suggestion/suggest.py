"""Suggest the chips of a predictions table that are worth labeling next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import and_
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rsft.errors import RequestError
from rsft.inference.suggestion.chip_selection import (
    closeness_to_limit,
    describe_reason,
    select_chips,
    uncertainty,
)
from rsft.inference.suggestion.prediction_file import PredictionFile, read_prediction_file
from rsft.models.bundle.bundle import Bundle
from rsft.utils.atomic_files import atomic_file
from rsft.utils.csv_cells import escape_table

CUT_COLUMNS = ("chip", "row", "col", "table")
"""Columns by which `rsft data add` cuts a chip from its scene again; empty for chips that it cannot cut."""

COLUMNS = ("path", "class", "verdict", "predicted", "scene", "at", "reason", *CUT_COLUMNS)
"""Columns of the table of suggestions. The analyst fills `class` or `verdict`, and `rsft data add` reads them."""


@dataclass(frozen=True)
class Suggestions:
    """Chips to label or to check, the most useful first.

    Attributes:
        table: one row per chip, with the columns `COLUMNS`; `class` and `verdict` are empty.
        predictions: the rows of these chips in the table of predictions, with all its columns.
        classes: names of the classes.
        metadata: how the predictions were made; empty for CSV.
        candidates: number of chips among which they were selected.
        notes: remarks for the reader.
    """

    table: pd.DataFrame
    predictions: pd.DataFrame
    classes: tuple[str, ...]
    metadata: dict[str, Any]
    candidates: int
    notes: list[str]


def suggest_chips(predictions: Path, count: int, bundle: Bundle | None = None) -> Suggestions:
    """Suggest the chips of a predictions table that are worth labeling next.

    A chip scores high if its class is uncertain (margin, class set), if it may be of a class with few training chips,
    and if it is unlike the training chips. Chips that are like an already selected one score low. See `select_chips`.
    Rows whose column `corrected` has a value are labeled already and left out.

    Args:
        predictions: a table that `rsft predict` wrote.
        count: number of chips to suggest.
        bundle: has the number of training chips of every class; None takes them from the metadata of the table.

    Returns:
        At most `count` chips.

    Raises:
        RequestError: the file is not a table of predictions, or the bundle has other classes.

    Example:
        >>> suggestions = suggest_chips(Path("predictions.csv"), 3)
        >>> len(suggestions.table)
        3
    """
    file = read_prediction_file(predictions, None if bundle is None else bundle.classes)
    notes = [f"rows without a path or valid probabilities: {file.invalid:,}"] if file.invalid else []
    if "corrected" in file.table:
        is_open = (file.table["corrected"] == "").to_numpy(bool)
        notes += [f"rows that have a label already: {(~is_open).sum():,}"] if not is_open.all() else []
        file = file._replace(table=file.table[is_open])
    counts = _training_counts(file, bundle, predictions)
    distances = file.table["ood_distance"].to_numpy(float) if "ood_distance" in file.table else None
    notes += _describe_missing(file, counts, distances)
    probabilities, set_sizes = file.probabilities, file.set_sizes
    scores = uncertainty(probabilities, set_sizes) * closeness_to_limit(distances, len(probabilities))
    expected = probabilities.sum(axis=0) if counts is None else counts
    selected = select_chips(probabilities, scores, expected, count)
    reasons = [
        describe_reason(
            probabilities[row],
            file.classes,
            counts,
            None if set_sizes is None else int(set_sizes[row]),
            np.nan if distances is None else float(distances[row]),
        )
        for row in selected
    ]
    chips = file.table.iloc[selected]
    table, path_notes = suggestion_table(chips, reasons, _cut_columns(chips, file.metadata, predictions))
    return Suggestions(table, chips, file.classes, file.metadata, len(probabilities), notes + path_notes)


def suggestion_table(
    chips: pd.DataFrame, reasons: Sequence[str], cuts: pd.DataFrame | None = None
) -> tuple[pd.DataFrame, list[str]]:
    """Return the table that the analyst fills, with absolute paths.

    Args:
        chips: rows of a predictions table; `path`, `class`, and `scene` and `at` if it has them.
        reasons: why each chip was selected.
        cuts: the columns `CUT_COLUMNS` of these chips; None if no chip can be cut again.

    Returns:
        The table with the columns `COLUMNS`, and notes about paths that are not files of chips.
    """
    paths = [Path(path).absolute() for path in chips["path"]]
    empty = [""] * len(chips)
    columns: dict[str, Sequence[Any]] = {
        "path": [str(path) for path in paths],
        "class": empty,
        "verdict": empty,
        "predicted": chips["class"].tolist(),
        "scene": chips["scene"].tolist() if "scene" in chips else empty,
        "at": chips["at"].tolist() if "at" in chips else empty,
        "reason": list(reasons),
    }
    columns |= {name: empty if cuts is None else cuts[name].tolist() for name in CUT_COLUMNS}
    table = pd.DataFrame(columns, columns=list(COLUMNS))
    needs_file = (table["table"] == "").tolist()
    has_scene_path = [path.name == scene for path, scene in zip(paths, columns["scene"], strict=True)]
    in_scenes = sum(map(and_, has_scene_path, needs_file))
    missing = sum(needed and not path.exists() for path, needed in zip(paths, needs_file, strict=True))
    notes = []
    if in_scenes:
        notes.append(
            f"{in_scenes:,} chips have no file of their own: to label them, run `rsft predict` with --chips DIR"
        )
    if missing:
        notes.append(f"{missing:,} files do not exist: run the command in the folder where `rsft predict` ran")
    return table, notes


def _cut_columns(chips: pd.DataFrame, metadata: Mapping[str, Any], predictions: Path) -> pd.DataFrame:
    """Return `CUT_COLUMNS`, empty for chips of scenes whose cuts the metadata do not describe."""
    scenes = {cut.get("scene") for cut in metadata.get("cuts") or () if isinstance(cut, dict)}
    has_columns = {"scene", "chip", "row", "col"} <= set(chips)
    can_cut = chips["scene"].isin(scenes) if has_columns else pd.Series(False, chips.index)
    cuts = chips.reindex(columns=["chip", "row", "col"]).astype(object).assign(table=str(predictions.absolute()))
    return cuts.where(can_cut, "")


def write_suggestions(suggestions: Suggestions, path: Path) -> None:
    """Write suggestions as CSV, whole or not at all.

    Args:
        suggestions: the suggestions.
        path: path of the file.
    """
    with atomic_file(path) as temporary:
        escape_table(suggestions.table).to_csv(temporary, index=False)


def check_suggestion_path(path: Path, suffixes: Sequence[str], overwrite: bool) -> None:
    """Check that an output can be written.

    Args:
        path: path of the output.
        suffixes: the suffixes that it may have.
        overwrite: whether to replace an existing file.

    Raises:
        RequestError: the suffix is another one, the path is a folder, or the file exists.
    """
    if path.suffix.lower() not in suffixes:
        raise RequestError(f"the output must be a {suffixes[0]} file", path, f"give it the suffix {suffixes[0]}")
    if path.is_dir():
        raise RequestError("the output is a folder", path, "give the path of a file")
    if path.exists() and not overwrite:
        raise RequestError("the file exists already", path, "give --overwrite to replace it, or another name")


def _training_counts(file: PredictionFile, bundle: Bundle | None, path: Path) -> NDArray[np.float64] | None:
    """Return the number of training chips of every class, from the bundle or from the metadata of the table."""
    counts = file.metadata.get("train_counts")
    if bundle is None:
        if not isinstance(counts, dict) or not all(name in counts for name in file.classes):
            return None
        return np.array([counts[name] for name in file.classes], np.float64)
    listed = file.metadata.get("classes")
    if listed is not None and set(listed) != set(bundle.classes):
        hint = "give the bundle that made the table, or one with the same classes"
        raise RequestError(f"the table has the classes {', '.join(listed)}", path, hint)
    return np.array(bundle.train_counts, float)


def _describe_missing(
    file: PredictionFile, counts: NDArray[np.float64] | None, distances: NDArray[np.float64] | None
) -> list[str]:
    notes = []
    if counts is None:
        notes.append("training chips by class unknown, so rarity is that of the predictions: give --bundle BUNDLE")
    if file.set_sizes is None:
        notes.append("the table has no class sets: uncertainty is the margin alone")
    if distances is None:
        notes.append("the table has no distances from the training chips")
    return notes
