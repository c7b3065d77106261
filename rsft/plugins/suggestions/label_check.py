"""Suggest the doubtful labels of a chip store."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd

from rsft.data.chips.store import ChipStore
from rsft.errors import RequestError
from rsft.inference.predict.chip_files import ChipFiles
from rsft.inference.predict.predictor import Predictor
from rsft.inference.writers.columns import probability_columns
from rsft.plugins.suggestions.suggest import Suggestions, suggestion_table
from rsft.scenes.inputs import read_declarations
from rsft.scenes.options import ChipOptions
from rsft.types import Floats, JsonObject, Names
from rsft.version import __version__


def suggest_label_checks(root: Path, predictor: Predictor, count: int) -> Suggestions:
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

    Returns:
        At most `count` chips whose predicted class is not their label. `scene` is the
        group of the chip.

    Raises:
        RequestError: the folder is not a chip store, or no label is a class of the bundle.
        WeightsError: the bundle cannot be used.

    Example:
        >>> predictor = Predictor.load(Path("runs/ships"))
        >>> checks = suggest_label_checks(Path("data/ships"), predictor, 20)
        >>> checks.table["reason"][0]
        'labeled ... %, predicted ... %'
    """
    chips, predictions, notes = _classify(ChipStore.open(root), predictor)
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
    """Suggest the chips of a chip store whose labels given probabilities contradict.

    The order is that of `suggest_label_checks`.

    Args:
        store: the chip store.
        chips: manifest rows of N chips.
        probabilities: of classifiers that have not seen the labels (N, C).
        notes: remarks on the probabilities.

    Returns:
        All chips whose label is contradicted, with the label and its probability as
        further columns of the table. Their names are their paths in the store.
    """
    predictions = pd.DataFrame(
        probabilities, columns=probability_columns(store.classes)
    )
    classes = np.array(store.classes, object)
    predictions["class"] = classes[probabilities.argmax(axis=1)]
    predictions["chip"] = chips["path"].to_list()
    predictions["path"] = [str(store.root / path) for path in chips["path"]]
    predictions["probability"] = probabilities.max(axis=1)
    metadata = {
        "bundle_sha256": "",
        "recipe": "label audit",
        "bands": list(store.bands),
    }
    return _rank_labels(chips, predictions, store.classes, metadata, notes)


def _rank_labels(
    chips: pd.DataFrame,
    predictions: pd.DataFrame,
    classes: Names,
    metadata: JsonObject,
    notes: Sequence[str],
) -> Suggestions:
    """Return the chips whose label has a negative margin, the smallest first.

    Args:
        chips: manifest rows.
        predictions: predictions of the same chips.
        classes: names of the classes.
        metadata: metadata of the predictions.
        notes: remarks on them.
    """
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


def _classify(
    store: ChipStore, predictor: Predictor
) -> tuple[pd.DataFrame, pd.DataFrame, list[str]]:
    """Classify the chips of a store.

    Returns:
        Manifest rows of the chips that the bundle can classify, their predictions in
        the same order, and notes.
    """
    classes = predictor.bundle.classes
    chips = store.table
    is_known = chips["class"].isin(classes)
    notes = []
    unknown = int((~is_known).sum())
    if unknown:
        notes.append(f"chips whose labels are not classes of the bundle: {unknown:,}")
    chips = chips[is_known]
    if chips.empty or len(classes) < 2:
        raise RequestError(
            "the bundle knows no label of the chips",
            store.root,
            f"its classes: {', '.join(classes)}",
        )
    declarations = read_declarations(store.root)
    files = {}
    for path in chips["path"]:
        name = str(store.root / path)
        files[name] = declarations[name]
    source = ChipFiles(files, predictor.engine.contract, ChipOptions())
    predictions = predictor.predict_source(source)
    is_usable = predictions["rejected"].isna().to_numpy(bool)
    if not is_usable.any():
        raise RequestError(
            "the bundle can classify no chip",
            store.root,
            str(predictions["rejected"].iloc[0]),
        )
    unusable = int((~is_usable).sum())
    if unusable:
        notes.append(f"chips that the bundle cannot classify: {unusable:,}")
    return chips[is_usable], predictions[is_usable], notes
