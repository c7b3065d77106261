"""Make the gallery of the most confident mistakes and the least confident predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from rsft.evaluation.report.formatting import format_percent, join_words
from rsft.evaluation.report.sections.dataset import ChipPictures

MAX_MISTAKES, MAX_UNSURE = 96, 48
"""Largest numbers of mistakes and of predictions with low confidence in the gallery."""

PICTURE_SIZE = 96
"""Largest side of a picture in pixels."""


@dataclass(frozen=True)
class GalleryChip:
    """A chip of the gallery.

    Attributes:
        name: name of the chip.
        truth: name of the true class.
        predicted: name of the predicted class.
        confidence: probability of the predicted class in percent.
        truth_share: probability of the true class in percent.
        kinds: "mistake", "unsure" or both, separated by a space.
        class_set: the possible classes as text; "" without class sets.
        ood: the out-of-distribution score if it is above 1; otherwise "".
        picture: a data URI; "" without pictures.
    """

    name: str
    truth: str
    predicted: str
    confidence: str
    truth_share: str
    kinds: str
    class_set: str
    ood: str
    picture: str


@dataclass(frozen=True)
class Gallery:
    """The chips of the gallery.

    Attributes:
        chips: the chips in the order of the page.
        mistakes: number of mistakes in the evaluation.
        shown: number of mistakes in the gallery.
    """

    chips: list[GalleryChip]
    mistakes: int
    shown: int

    @property
    def true_classes(self) -> list[str]:
        """True classes of the chips."""
        return sorted({chip.truth for chip in self.chips})

    @property
    def predicted_classes(self) -> list[str]:
        """Predicted classes of the chips."""
        return sorted({chip.predicted for chip in self.chips})


def make_gallery(predictions: pd.DataFrame, classes: Sequence[str], pictures: ChipPictures | None) -> Gallery:
    """Choose the most confident mistakes and the least confident predictions.

    Args:
        predictions: the table predictions.parquet.
        classes: class names by index.
        pictures: pictures of the chips; None for a gallery without pictures.

    Returns:
        The gallery. If it cannot show all mistakes, it shows some of every class.
    """
    probabilities = predictions[[f"p_{name}" for name in classes]].to_numpy(float)
    table = predictions.reset_index(drop=True)
    table["confidence"] = probabilities.max(axis=1)
    truth = table["class"].map({name: index for index, name in enumerate(classes)}).to_numpy(int)
    table["truth_share"] = probabilities[np.arange(len(table)), truth]
    wrong = table[table["class"] != table["predicted"]]
    mistakes, unsure = _most_confident(wrong), table.nsmallest(MAX_UNSURE, "confidence", keep="first").index
    kinds = {row: ["mistake"] for row in mistakes}
    for row in unsure:
        kinds.setdefault(row, []).append("unsure")
    chips = [_gallery_chip(table.iloc[row], " ".join(words), pictures) for row, words in kinds.items()]
    return Gallery(chips, len(wrong), len(mistakes))


def _most_confident(wrong: pd.DataFrame) -> list[int]:
    """Return up to `MAX_MISTAKES` rows by falling confidence, with the most confident mistakes of every class."""
    ordered = wrong.sort_values("confidence", ascending=False, kind="stable")
    rank = ordered.groupby("class", sort=False).cumcount()
    chosen = ordered.assign(rank=rank).sort_values("rank", kind="stable").head(MAX_MISTAKES)
    rows: list[int] = chosen.sort_values("confidence", ascending=False, kind="stable").index.tolist()
    return rows


def _gallery_chip(row: pd.Series, kinds: str, pictures: ChipPictures | None) -> GalleryChip:
    class_set = row.get("set")
    ood = row.get("ood")
    return GalleryChip(
        name=str(row["name"]),
        truth=str(row["class"]),
        predicted=str(row["predicted"]),
        confidence=format_percent(row["confidence"]),
        truth_share=format_percent(row["truth_share"]),
        kinds=kinds,
        class_set="" if class_set is None else join_words(list(class_set), "or"),
        ood=f"{ood:.1f}" if ood is not None and ood > 1 else "",
        picture=pictures.picture(row["path"], PICTURE_SIZE) if pictures and pictures.has(row["path"]) else "",
    )
