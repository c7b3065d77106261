"""Chips worth a look: the surest mistakes and the least confident answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from rsft.evaluation.report.formatting import listed, percent
from rsft.evaluation.report.sections.dataset import Pictures

MISTAKES, UNSURE, SIDE = 96, 48, 96


@dataclass(frozen=True)
class Exhibit:
    """A chip of the gallery; confidence in %, `picture` "" where there is none.

    Attributes:
        kinds: "mistake", "unsure" or both.
        truth_share: probability of the true class, in %.
        held: the set of classes that it may be, in words; "" without sets.
        strange: its distance from the training chips, where that is above the limit.
    """

    name: str
    truth: str
    predicted: str
    confidence: str
    truth_share: str
    kinds: str
    held: str
    strange: str
    picture: str


@dataclass(frozen=True)
class Gallery:
    """What is shown, and of how many mistakes."""

    exhibits: list[Exhibit]
    mistakes: int
    shown: int

    @property
    def truths(self) -> list[str]:
        """True classes that are met."""
        return sorted({found.truth for found in self.exhibits})

    @property
    def guesses(self) -> list[str]:
        """Predicted classes that are met."""
        return sorted({found.predicted for found in self.exhibits})


def make_gallery(predictions: pd.DataFrame, classes: Sequence[str], pictures: Pictures | None) -> Gallery:
    """The surest mistakes, of every class some, and the least confident answers."""
    probabilities = predictions[[f"p_{name}" for name in classes]].to_numpy(float)
    table = predictions.reset_index(drop=True)
    table["confidence"] = probabilities.max(axis=1)
    places = table["class"].map({name: place for place, name in enumerate(classes)}).to_numpy(int)
    table["truth_share"] = probabilities[np.arange(len(table)), places]
    wrong = table[table["class"] != table["predicted"]]
    mistakes, unsure = _surest(wrong), table.nsmallest(UNSURE, "confidence", keep="first").index
    kinds = {row: ["mistake"] for row in mistakes}
    for row in unsure:
        kinds.setdefault(row, []).append("unsure")
    exhibits = [_exhibit(table.iloc[row], " ".join(own), pictures) for row, own in kinds.items()]
    return Gallery(exhibits, len(wrong), len(mistakes))


def _surest(wrong: pd.DataFrame) -> list[int]:
    """Rows of the surest mistakes by confidence; where there are too many, the surest of each class come first."""
    ordered = wrong.sort_values("confidence", ascending=False, kind="stable")
    rank = ordered.groupby("class", sort=False).cumcount()
    chosen = ordered.assign(rank=rank).sort_values("rank", kind="stable").head(MISTAKES)
    rows: list[int] = chosen.sort_values("confidence", ascending=False, kind="stable").index.tolist()
    return rows


def _exhibit(row: pd.Series, kinds: str, pictures: Pictures | None) -> Exhibit:
    held = row.get("set")
    ood = row.get("ood")
    return Exhibit(
        name=str(row["name"]),
        truth=str(row["class"]),
        predicted=str(row["predicted"]),
        confidence=percent(row["confidence"]),
        truth_share=percent(row["truth_share"]),
        kinds=kinds,
        held="" if held is None else listed(list(held), "or"),
        strange=f"{ood:.1f}" if ood is not None and ood > 1 else "",
        picture=pictures.picture(row["path"], SIDE) if pictures and pictures.has(row["path"]) else "",
    )
