"""Find the chips of a chip store whose labels a bundle contradicts, and write a review page of suggested chips."""

from datetime import UTC, datetime
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from rsft.data.chips.sidecars import render_thumbnail
from rsft.data.chips.store import ChipStore
from rsft.data.imagery.reader import read_chip
from rsft.errors import RequestError
from rsft.inference.options import ChipOptions, Declaration
from rsft.inference.predict.chip_files import ChipFiles
from rsft.inference.predict.pipeline import Predictor
from rsft.inference.predict.result_table import probability_columns
from rsft.inference.review.page import write_review_page
from rsft.inference.suggestion.suggest import Suggestions, suggestion_table
from rsft.inference.writers.tables import PredictionLayer
from rsft.version import __version__


def suggest_label_checks(root: Path, predictor: Predictor, count: int, split: str | None = None) -> Suggestions:
    """Suggest the chips of a chip store whose labels a bundle contradicts most.

    Chips are ordered by the margin of their label: its probability minus that of the most probable other class. A
    negative margin contradicts the label (normalized margin in confident learning, Northcutt et al. 2021,
    https://arxiv.org/abs/1911.00068). The chips on which the bundle was trained may be learned by heart, errors
    included; labels of other chips are checked better.

    Args:
        root: the chip store.
        predictor: the bundle.
        count: number of chips to suggest.
        split: only chips of this split; None for all.

    Returns:
        At most `count` chips whose predicted class is not their label. `scene` is the group of the chip.

    Raises:
        RequestError: the folder is not a chip store, no chip has the split, or no label is a class of the bundle.
        WeightsError: the bundle cannot be used.

    Example:
        >>> predictor = Predictor.load(Path("runs/ships"))
        >>> suggest_label_checks(Path("data/ships"), predictor, 20, "train").table["reason"][0]
        'labeled ... %, predicted ... %'
    """
    chips, predictions, notes = _classify(ChipStore.open(root), predictor, split)
    bundle = predictor.bundle
    classes = bundle.classes
    probabilities = predictions[probability_columns(classes)].to_numpy(float)
    labels, rows = np.array([classes.index(name) for name in chips["class"]]), np.arange(len(chips))
    others = probabilities.copy()
    others[rows, labels] = -1.0
    margins = probabilities[rows, labels] - others.max(axis=1)
    order = np.argsort(margins, kind="stable")
    selected = order[margins[order] < 0][:count]
    notes.append(f"labels that the bundle contradicts: {(margins < 0).sum():,} of {len(margins):,}")
    reasons = []
    for row in selected:
        label, predicted = (
            f"{classes[x]} {100 * probabilities[row, x]:.0f} %" for x in (labels[row], others[row].argmax())
        )
        reasons.append(f"labeled {label}, predicted {predicted}")
    predictions = predictions.iloc[selected].assign(
        scene=chips["group_key"].iloc[selected].fillna("").map(str).tolist()
    )
    table, path_notes = suggestion_table(predictions, reasons)
    metadata = {
        "bundle_sha256": bundle.sha256,
        "recipe": bundle.recipe.name,
        "rsft_version": __version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "notes": ["the chips of a chip store whose labels the bundle contradicts"],
        "request": {"chips_dir": None, "declaration": {"unit": None, "bands": None}},
        "bands": list(bundle.contract.used_bands),
    }
    return Suggestions(table, predictions, classes, metadata, len(margins), notes + path_notes)


def _classify(
    store: ChipStore, predictor: Predictor, split: str | None
) -> tuple[pd.DataFrame, pd.DataFrame, list[str]]:
    """Return the rows of the manifest that the bundle can classify, their predictions in the same order, and notes."""
    classes = predictor.bundle.classes
    chips = store.table if split is None else store.split(split)
    known = chips["class"].isin(classes)
    notes = [] if known.all() else [f"chips whose labels are not classes of the bundle: {(~known).sum():,}"]
    chips = chips[known]
    if chips.empty or len(classes) < 2:
        location = store.root if split is None else f"{store.root}, split {split}"
        raise RequestError("the bundle knows no label of the chips", location, f"its classes: {', '.join(classes)}")
    declared = {}
    for row in chips.to_dict("records"):
        spacing_m = None if pd.isna(row["spacing_m"]) else float(row["spacing_m"])
        declared[store.root / row["path"]] = Declaration(row["unit"], tuple(row["bands"].split(",")), spacing_m)
    predictions = predictor.predict_source(ChipFiles(declared, predictor.engine.contract, ChipOptions()))
    usable = predictions["rejected"].isna().to_numpy(bool)
    if not usable.any():
        raise RequestError("the bundle can classify no chip", store.root, str(predictions["rejected"].iloc[0]))
    notes += [] if usable.all() else [f"chips that the bundle cannot classify: {(~usable).sum():,}"]
    return chips[usable], predictions[usable], notes


_KEYS = ("bundle_sha256", "recipe", "rsft_version", "created", "notes", "request", "bands")


def write_suggestion_page(path: Path, suggestions: Suggestions, bundle: Path | None, store: str) -> None:
    """Write the review page of suggested chips, with the reason for each one.

    Args:
        path: path of the page.
        suggestions: the chips.
        bundle: the bundle, for the commands on the page; None if it is unknown.
        store: the chip store that gets the labels, for the commands on the page.

    Raises:
        RequestError: the table has no metadata, no chip was suggested, or a chip has no file of its own.
        DataError: a chip cannot be read.
    """
    missing = [key for key in _KEYS if key not in suggestions.metadata]
    if missing:
        message = f"a page needs the metadata of the table, which lacks {', '.join(missing)}"
        raise RequestError(message, path, "give the .gpkg, .geojson or .parquet that `rsft predict` wrote")
    if suggestions.table.empty:
        raise RequestError("no chip was suggested, so the page would be empty", path, "leave out --page")
    for name, scene in zip(suggestions.table["path"], suggestions.table["scene"], strict=True):
        if Path(name).name == scene or not Path(name).is_file():
            hint = "run `rsft predict` with --chips DIR, and both commands in the same folder"
            raise RequestError("a suggested chip has no file of its own", name, hint)
    table = suggestions.predictions.copy()
    table["at"] = table["at"].where(table["at"] != "", None) if "at" in table else None
    table = table.drop(columns="corrected", errors="ignore").assign(
        reason=suggestions.table["reason"].to_list(), geometry=None
    )
    if "probability" not in table:
        table["probability"] = table[[f"p_{name}" for name in suggestions.classes]].max(axis=1)
    pictures = [render_thumbnail(read_chip(Path(name))) for name in suggestions.table["path"]]
    thumbnails = [bytes(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 80])[1]) for picture in pictures]
    layer = PredictionLayer(table, None, suggestions.classes, suggestions.metadata)
    bundle = bundle or Path("BUNDLE")
    write_review_page(path, layer, thumbnails, (), bundle, store, path)  # chips with files: no table cuts them again
