"""Suggest the doubtful labels of a chip store."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rsft.data.chips.store import ChipStore
from rsft.errors import RequestError
from rsft.inference.predict.chip_files import ChipFiles
from rsft.inference.predict.predictor import Predictor
from rsft.inference.suggestion.suggest import Suggestions, suggestion_table
from rsft.inference.writers.columns import probability_columns
from rsft.scenes.options import ChipOptions, Declaration
from rsft.types import Floats
from rsft.version import __version__


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
