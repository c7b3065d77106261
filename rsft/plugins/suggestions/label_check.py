"""Suggest the doubtful labels of a chip store."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from rsft.data.chips.store import ChipStore
from rsft.inference.writers.columns import probability_columns
from rsft.inference.writers.layer import creation_metadata
from rsft.plugins.suggestions.suggest import Suggestions, suggestion_table
from rsft.types import Floats


def suggest_audited_labels(
    store: ChipStore,
    chips: pd.DataFrame,
    probabilities: Floats,
    notes: Sequence[str],
    count: int,
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
        count: number of chips to suggest.

    Returns:
        At most `count` chips whose label is contradicted, with the label as a further
        column of the table. Their names are their paths in the store.
    """
    classes = store.classes
    indices = [classes.index(name) for name in chips["class"]]
    given = probabilities[np.arange(len(chips)), indices]
    margins = given - probabilities.max(axis=1)
    order = np.argsort(margins, kind="stable")
    contradicted = order[margins[order] < 0]
    selected = contradicted[:count]
    chips = chips.iloc[selected]
    probabilities = probabilities[selected]
    best = np.array(classes, object)[probabilities.argmax(axis=1)]
    predictions = pd.DataFrame(probabilities, columns=probability_columns(classes))
    predictions = predictions.assign(
        chip=chips["path"].to_list(),
        path=[str(store.root / path) for path in chips["path"]],
        probability=probabilities.max(axis=1),
        scene=chips["group_key"].fillna("").map(str).to_list(),
        **{"class": best},
    )
    metadata = {
        "bundle_sha256": "",
        "recipe": "label audit",
        "bands": list(store.bands),
        **creation_metadata(),
        "notes": ["the chips of a chip store whose labels are contradicted"],
        "request": {"chips_dir": None, "declaration": {"unit": None, "bands": None}},
    }
    labels = chips["class"].tolist()
    reasons = []
    for row, label in enumerate(labels):
        shares = f"{best[row]} {100 * probabilities[row].max():.0f} %"
        share = 100 * given[selected[row]]
        reasons.append(f"labeled {label} {share:.0f} %, predicted {shares}")
    total = len(margins)
    note = f"labels that are contradicted: {len(contradicted):,} of {total:,}"
    table, path_notes = suggestion_table(predictions, reasons)
    table["label"] = labels
    texts = [*notes, note, *path_notes]
    return Suggestions(table, predictions, classes, metadata, total, texts)
