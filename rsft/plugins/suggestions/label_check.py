"""Suggest the doubtful labels of a chip store."""

from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
import pandas as pd

from rsft.data.chips.store import ChipStore
from rsft.inference.writers.columns import probability_columns
from rsft.plugins.suggestions.suggest import Suggestions, suggestion_table
from rsft.types import Floats
from rsft.version import __version__


def suggest_audited_labels(
    store: ChipStore, chips: pd.DataFrame, probabilities: Floats, notes: Sequence[str]
) -> Suggestions:
    """Suggest the chips of a chip store whose labels given probabilities contradict.

    Chips are ordered by the margin of their label: its probability minus that of the
    most probable other class. A negative margin contradicts the label (normalized
    margin in confident learning, Northcutt et al. 2021,
    https://arxiv.org/abs/1911.00068).

    Args:
        store: the chip store.
        chips: manifest rows of N chips.
        probabilities: of classifiers that have not seen the labels (N, C).
        notes: remarks on the probabilities.

    Returns:
        All chips whose label is contradicted, with the label and its probability as
        further columns of the table. Their names are their paths in the store.
    """
    classes = store.classes
    predictions = pd.DataFrame(probabilities, columns=probability_columns(classes))
    predictions["class"] = np.array(classes, object)[probabilities.argmax(axis=1)]
    predictions["chip"] = chips["path"].to_list()
    predictions["path"] = [str(store.root / path) for path in chips["path"]]
    predictions["probability"] = probabilities.max(axis=1)
    metadata = {
        "bundle_sha256": "",
        "recipe": "label audit",
        "bands": list(store.bands),
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
        label = labels[row]
        best = others[row].argmax()
        percent = 100 * probabilities[row]
        reasons.append(
            f"labeled {classes[label]} {percent[label]:.0f} %,"
            f" predicted {classes[best]} {percent[best]:.0f} %"
        )
    count = len(selected)
    contradicted = f"labels that are contradicted: {count:,} of {len(margins):,}"
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
