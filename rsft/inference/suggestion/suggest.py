"""Suggest the chips of a predictions table that are worth labeling next, or the doubtful labels of a chip store.

The former are uncertain, of rare classes, unlike the training chips, and different from
each other. A review page shows suggested chips.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import dropwhile, takewhile
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rsft.data.chips.sidecars import render_thumbnail
from rsft.data.chips.store import ChipStore
from rsft.data.datasets._label_files import exists
from rsft.data.imagery.reader import read_chip
from rsft.errors import RequestError
from rsft.inference.corrections.corrected_table import (
    number_cells,
    read_table_file,
    text_cells,
)
from rsft.inference.predict.chip_files import ChipFiles
from rsft.inference.predict.pipeline import Predictor
from rsft.inference.predict.result_table import SET_SEPARATOR, probability_columns
from rsft.inference.review.page import write_review_page
from rsft.inference.writers.tables import PredictionLayer
from rsft.models.bundle.bundle import Bundle
from rsft.scenes.options import ChipOptions, Declaration
from rsft.types import Floats
from rsft.version import __version__

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

_HINT = "give a chip store, or a table that `rsft predict` wrote"
_TEXT_COLUMNS = ("chip", "scene", "path", "class", "class_set", "at", "corrected")
_SUM_TOLERANCE = 0.01  # of the probabilities of a chip, which are rounded


def uncertainty(
    probabilities: Floats, set_sizes: NDArray[np.integer] | None = None
) -> Floats:
    """Return how uncertain the class of each chip is.

    It is the mean of two numbers: 1 minus the margin between the two most probable
    classes (Scheffer et al. 2001, https://doi.org/10.1007/3-540-44816-0_31), and the
    share of the classes in the class set.

    Args:
        probabilities: (N, C).
        set_sizes: number of classes in each class set (N,), 0 if the set was withheld,
            which counts as all classes; None takes the margin alone.

    Returns:
        (N,), from 0 to 1.
    """
    classes = probabilities.shape[1]
    if classes == 1:
        return np.ones(len(probabilities))
    second, first = np.sort(probabilities, axis=1)[:, -2:].T
    margins: Floats = 1 - (first - second)
    if set_sizes is None:
        return margins
    shares: Floats = np.where(set_sizes == 0, classes, set_sizes) / classes
    return np.asarray((margins + shares) / 2, np.float64)


def rarity_weights(chips_by_class: NDArray[np.floating]) -> Floats:
    """Return the weight of each class (C,): 1 / (chips + 1).

    Args:
        chips_by_class: number of labeled chips of each class (C,); expected numbers
            need not be whole.
    """
    return 1.0 / (np.asarray(chips_by_class, np.float64) + 1.0)


def select_chips(
    probabilities: Floats,
    scores: Floats,
    chips_by_class: NDArray[np.floating],
    count: int,
) -> list[int]:
    """Select chips one by one.

    Each one has the largest product of score, rarity and difference.

    Rarity is the weight of its classes (`rarity_weights`), averaged over its
    probabilities. After each selection, the probabilities of the selected chip are
    added to the numbers of labeled chips, so that no single rare class fills the list.
    Difference is the Hellinger distance of its probabilities to those of the nearest
    selected chip: the greedy k-center method (Sener and Savarese 2018,
    https://arxiv.org/abs/1708.00489) with a weight for each chip. Chips with equal
    probabilities are only selected if nothing else is left.

    Args:
        probabilities: (N, C).
        scores: a positive score of each chip (N,).
        chips_by_class: number of training chips of each class (C,).
        count: number of chips to select.

    Returns:
        Indices of min(count, N) chips, the best first.

    Example:
        >>> probabilities = np.array([[0.5, 0.5], [0.5, 0.5], [0.9, 0.1]])
        >>> select_chips(probabilities, np.array([1.0, 1.0, 0.2]), np.array([9, 9]), 2)
        [0, 2]
    """
    chips_by_class = np.array(chips_by_class, float)
    roots = np.sqrt(probabilities)
    nearest = np.ones(len(probabilities))
    remaining = np.ones(len(probabilities), bool)
    selected: list[int] = []
    for _ in range(min(count, len(probabilities))):
        gains = scores * (probabilities @ rarity_weights(chips_by_class))
        different = np.where(remaining, gains * nearest, -1.0)
        best = int(
            np.argmax(
                different if different.max() > 0 else np.where(remaining, gains, -1.0)
            )
        )
        selected.append(best)
        remaining[best] = False
        chips_by_class += probabilities[best]
        distances = np.sqrt(((roots - roots[best]) ** 2).sum(axis=1) / 2)
        if len(selected) == 1:
            nearest = distances
        else:
            nearest = np.minimum(nearest, distances)
    return selected


def describe_reason(
    probabilities: Floats,
    classes: Sequence[str],
    chips_by_class: NDArray[np.floating] | None,
    set_size: int | None,
    distance: float,
) -> str:
    """Return in words why a chip was selected.

    Args:
        probabilities: (C,).
        classes: names of the classes.
        chips_by_class: number of training chips of each class (C,); None if it is
            unknown.
        set_size: number of classes in the class set, 0 if it was withheld; None without
            a set.
        distance: distance from the training chips as a multiple of the limit; NaN if
            unknown.

    Returns:
        Phrases separated by semicolons, such as "T72 41 %, BMP2 38 %; 3 possible
        classes; T72 has 5 training chips".
    """
    order = np.argsort(-probabilities, kind="stable")[:2]
    phrases = [
        ", ".join(
            f"{classes[index]} {probabilities[index]:.0%}".replace("%", " %")
            for index in order
        )
    ]
    if set_size == 0:
        phrases.append("class set withheld")
    elif set_size is not None and set_size > 1:
        phrases.append(f"{set_size} possible classes")
    if chips_by_class is not None:
        rare = int(np.argmax(probabilities * rarity_weights(chips_by_class)))
        if chips_by_class[rare] < chips_by_class.mean():
            if rare in order:
                share = ""
            else:
                share = f" ({probabilities[rare]:.0%})".replace("%", " %")
            phrases.append(
                f"{classes[rare]}{share} has {chips_by_class[rare]:.0f} training chips"
            )
    if distance > 1:
        phrases.append(f"unlike the training chips ({distance:.1f} times the limit)")
    return "; ".join(phrases)


class PredictionFile(NamedTuple):
    """The content of a file of predictions.

    Attributes:
        table: one row per chip with valid probabilities; the index is the row number.
            The columns chip, scene, path, class, class_set, at and corrected are texts,
            "" without a value, if the file has them; `ood_distance` and `p_<class>` are
            numbers.
        metadata: how the table was made; empty for CSV.
        invalid: number of rows that were left out, because they have no valid
            probabilities.
    """

    table: pd.DataFrame
    classes: tuple[str, ...]
    metadata: dict[str, Any]
    invalid: int = 0


def read_prediction_file(
    path: Path, classes: Sequence[str] | None = None
) -> PredictionFile:
    """Read a table of predictions.

    Args:
        path: a GeoPackage, GeoJSON, GeoParquet or CSV that `rsft predict` wrote. It may
            have more columns.
        classes: names of the classes, if they are known; None takes them from the
            metadata or from the columns.

    Raises:
        RequestError: the file does not exist, cannot be read, or is not a table of
            predictions.
    """
    table, metadata = read_table_file(path, _HINT)
    if isinstance(metadata, dict):
        listed = metadata.get("classes")
    else:
        listed = 0
    if isinstance(metadata, dict):
        counts = metadata.get("train_counts")
    else:
        counts = 0
    are_names = listed is None or (
        isinstance(listed, list) and all(isinstance(name, str) for name in listed)
    )
    are_counts = not isinstance(counts, dict) or all(
        isinstance(count, int | float) for count in counts.values()
    )
    if not (are_names and are_counts):
        raise RequestError(
            "the metadata of the table are damaged: classes or train_counts",
            path,
            _HINT,
        )
    table = table.drop(columns=["_line", "geometry"], errors="ignore")
    classes = classes or listed
    if table.empty and classes:  # GeoJSON without features names no columns
        table = table.reindex(
            columns=list(
                dict.fromkeys([*table, "path", "class", *probability_columns(classes)])
            )
        )
    # the first columns p_<class> that follow each other: attributes may also begin with
    # p_
    if not classes:
        columns = dropwhile(lambda name: not name.startswith("p_"), table.columns)
        classes = [
            name[2:] for name in takewhile(lambda name: name.startswith("p_"), columns)
        ]
    names = probability_columns(classes)
    missing = [
        name
        for name in ("path", "class", *(names or ["p_<class>"]))
        if name not in table
    ]
    if missing:
        listed = ", ".join(map(str, table.columns[:8])) or "none"
        raise RequestError(
            f"the table has no column {', '.join(missing[:3])}; it has {listed}",
            path,
            _HINT,
        )
    texts = {name: text_cells(table, name) for name in _TEXT_COLUMNS if name in table}
    numbers = {
        name: number_cells(table, name)
        for name in ("ood_distance", *names)
        if name in table
    }
    table = table.assign(**texts, **numbers)
    probabilities = table[names].to_numpy(float)
    valid = (probabilities >= 0).all(axis=1) & (
        np.abs(probabilities.sum(axis=1) - 1) < _SUM_TOLERANCE
    )
    valid &= (table["path"] != "").to_numpy(bool)
    if len(table) and not valid.any():
        raise RequestError(
            "no row has a path and the probabilities of all classes", path, _HINT
        )
    return PredictionFile(table[valid], tuple(classes), metadata, int((~valid).sum()))


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


def suggest_label_checks(
    root: Path, predictor: Predictor, count: int, split: str | None = None
) -> Suggestions:
    """Suggest the chips of a chip store whose labels a bundle contradicts most.

    Chips are ordered by the margin of their label: its probability minus that of the
    most probable other class. A negative margin contradicts the label (normalized
    margin in confident learning, Northcutt et al. 2021,
    https://arxiv.org/abs/1911.00068). The chips on which the bundle was trained may be
    learned by heart, errors included; labels of other chips are checked better.

    Args:
        root: the chip store.
        predictor: the bundle.
        count: number of chips to suggest.
        split: only chips of this split; None for all.

    Returns:
        At most `count` chips whose predicted class is not their label. `scene` is the
        group of the chip.

    Raises:
        RequestError: the folder is not a chip store, no chip has the split, or no label
            is a class of the bundle.
        WeightsError: the bundle cannot be used.

    Example:
        >>> predictor = Predictor.load(Path("runs/ships"))
        >>> suggest_label_checks(Path("data/ships"), predictor, 20, "train").table["reason"][0]
        'labeled ... %, predicted ... %'
    """
    chips, predictions, notes = _classify(ChipStore.open(root), predictor, split)
    bundle = predictor.bundle
    metadata = {
        "bundle_sha256": bundle.sha256,
        "recipe": bundle.recipe.name,
        "bands": list(bundle.contract.used_bands),
    }
    return _rank_labels(chips, predictions, bundle.classes, metadata, notes).head(count)


def suggest_audited_labels(
    store: ChipStore, chips: pd.DataFrame, probabilities: Floats, notes: Sequence[str]
) -> Suggestions:
    """Suggest the chips of a chip store whose labels given probabilities contradict most, as `suggest_label_checks`.

    Args:
        store: the chip store.
        chips: manifest rows of N chips.
        probabilities: of classifiers that have not seen the labels (N, C).
        notes: remarks on the probabilities.

    Returns:
        All chips whose label is contradicted, with the label and its probability as
        further columns of the table. Their names are their paths in the store.
    """
    best = probabilities.argmax(axis=1)
    predictions = pd.DataFrame(
        probabilities, columns=probability_columns(store.classes)
    )
    predictions = predictions.assign(
        chip=chips["path"].to_list(),
        path=[str(store.root / path) for path in chips["path"]],
        probability=probabilities.max(axis=1),
        **{"class": np.array(store.classes, object)[best]},
    )
    metadata = {
        "bundle_sha256": "",
        "recipe": "label audit",
        "bands": list(store.bands),
    }
    return _rank_labels(chips, predictions, store.classes, metadata, notes)


def _rank_labels(
    chips: pd.DataFrame,
    predictions: pd.DataFrame,
    classes: tuple[str, ...],
    metadata: dict[str, Any],
    notes: Sequence[str],
) -> Suggestions:
    """Return the chips whose label has a negative margin, the smallest first; `chips` are their manifest rows."""
    probabilities = predictions[probability_columns(classes)].to_numpy(float)
    metadata = metadata | {
        "rsft_version": __version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "notes": ["the chips of a chip store whose labels are contradicted"],
        "request": {"chips_dir": None, "declaration": {"unit": None, "bands": None}},
    }
    labels = np.array([classes.index(name) for name in chips["class"]])
    rows = np.arange(len(chips))
    others = probabilities.copy()
    others[rows, labels] = -1.0
    margins = probabilities[rows, labels] - others.max(axis=1)
    order = np.argsort(margins, kind="stable")
    selected = order[margins[order] < 0]
    reasons = []
    for row in selected:
        pair = (labels[row], others[row].argmax())
        label, predicted = (
            f"{classes[x]} {100 * probabilities[row, x]:.0f} %" for x in pair
        )
        reasons.append(f"labeled {label}, predicted {predicted}")
    contradicted = (
        f"labels that are contradicted: {(margins < 0).sum():,} of {len(margins):,}"
    )
    chips = chips.iloc[selected]
    predictions = predictions.iloc[selected].assign(
        scene=chips["group_key"].fillna("").map(str).tolist()
    )
    table, path_notes = suggestion_table(predictions, reasons)
    table["label"] = chips["class"].tolist()
    table["probability"] = predictions["probability"].tolist()
    table["label_probability"] = probabilities[selected, labels[selected]].round(6)
    return Suggestions(
        table,
        predictions,
        classes,
        metadata,
        len(margins),
        [*notes, contradicted, *path_notes],
    )


def _classify(
    store: ChipStore, predictor: Predictor, split: str | None
) -> tuple[pd.DataFrame, pd.DataFrame, list[str]]:
    """Return the rows of the manifest that the bundle can classify, their predictions in the same order, and notes."""
    classes = predictor.bundle.classes
    chips = store.table if split is None else store.split(split)
    known = chips["class"].isin(classes)
    if known.all():
        notes = []
    else:
        notes = [
            f"chips whose labels are not classes of the bundle: {(~known).sum():,}"
        ]
    chips = chips[known]
    if chips.empty or len(classes) < 2:
        location = store.root if split is None else f"{store.root}, split {split}"
        raise RequestError(
            "the bundle knows no label of the chips",
            location,
            f"its classes: {', '.join(classes)}",
        )
    declared = {}
    for row in chips.to_dict("records"):
        if pd.isna(row["spacing_m"]):
            spacing_m = None
        else:
            spacing_m = float(row["spacing_m"])
        declared[str(store.root / row["path"])] = Declaration(
            row["unit"], tuple(row["bands"].split(",")), spacing_m
        )
    predictions = predictor.predict_source(
        ChipFiles(declared, predictor.engine.contract, ChipOptions())
    )
    usable = predictions["rejected"].isna().to_numpy(bool)
    if not usable.any():
        raise RequestError(
            "the bundle can classify no chip",
            store.root,
            str(predictions["rejected"].iloc[0]),
        )
    notes += (
        []
        if usable.all()
        else [f"chips that the bundle cannot classify: {(~usable).sum():,}"]
    )
    return chips[usable], predictions[usable], notes


_KEYS = (
    "bundle_sha256",
    "recipe",
    "rsft_version",
    "created",
    "notes",
    "request",
    "bands",
)


def write_suggestion_page(
    path: Path, suggestions: Suggestions, bundle: Path | None, store: str
) -> None:
    """Write the review page of suggested chips, with the reason for each one.

    Args:
        path: path of the page.
        suggestions: the chips.
        bundle: the bundle, for the commands on the page; None if it is unknown.
        store: the chip store that gets the labels, for the commands on the page.

    Raises:
        RequestError: the table has no metadata, no chip was suggested, or a chip has no
            file of its own.
        DataError: a chip cannot be read.
    """
    missing = [key for key in _KEYS if key not in suggestions.metadata]
    if missing:
        raise RequestError(
            f"a page needs the metadata of the table, which lacks {', '.join(missing)}",
            path,
            "give the .gpkg, .geojson or .parquet that `rsft predict` wrote",
        )
    if suggestions.table.empty:
        raise RequestError(
            "no chip was suggested, so the page would be empty",
            path,
            "leave out --page",
        )
    for name, scene in zip(
        suggestions.table["path"], suggestions.table["scene"], strict=True
    ):
        if Path(name).name == scene or not Path(name).is_file():
            raise RequestError(
                "a suggested chip has no file of its own",
                name,
                (
                    "run `rsft predict` with --chips DIR, and both commands in the same"
                    " folder"
                ),
            )
    table = suggestions.predictions.copy()
    table["at"] = table["at"].where(table["at"] != "", None) if "at" in table else None
    reasons = suggestions.table["reason"].to_list()
    table = table.drop(columns="corrected", errors="ignore").assign(
        reason=reasons, geometry=None
    )
    if "probability" not in table:
        table["probability"] = table[probability_columns(suggestions.classes)].max(
            axis=1
        )
    pictures = [
        render_thumbnail(read_chip(Path(name))) for name in suggestions.table["path"]
    ]
    thumbnails = [
        bytes(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 80])[1])
        for picture in pictures
    ]
    layer = PredictionLayer(table, None, suggestions.classes, suggestions.metadata)
    bundle = bundle or Path("BUNDLE")
    write_review_page(
        path, layer, thumbnails, (), bundle, store, path, ranked=True
    )  # no table cuts chips with files
