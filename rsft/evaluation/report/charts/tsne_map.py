"""Chips on a t-SNE map, before and after adaptation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from markupsafe import Markup
from numpy.typing import NDArray

from rsft.evaluation.report.charts.svg import SHAPES, element, figure, marker
from rsft.evaluation.report.class_tables import group_of, order_by_training
from rsft.evaluation.report.schema import Evaluation
from rsft.types import GROUPS

STAGES = {"frozen": "Before: frozen features", "adapted": "After: adapted features"}
SIDE, MARGIN, RADIUS = 460, 10, 3.6
COLOURS = 8
TOLD_APART = COLOURS * SHAPES
"""Up to this many classes each has a mark of its own; beyond, marks are those of the groups."""

SHEET_SIDE, SHEET_COLUMNS = 40, 40


@dataclass(frozen=True)
class Mark:
    """How chips of a class, or of a group, are drawn."""

    colour: int
    shape: int

    def legend(self) -> Markup:
        """The mark alone."""
        path = element("path", d=marker(self.shape, 7, 7, 4.6))
        return element("svg", path, viewBox="0 0 14 14", class_=f"mark c{self.colour}", aria_hidden="true")


class ChipMap:
    """embedding.parquet as two figures, a legend, and the points for map.js.

    Attributes:
        paths: of the chips, in the order of the points.
        counts: chips by class, those without one left out.
    """

    def __init__(self, embedding: pd.DataFrame, evaluation: Evaluation, predictions: pd.DataFrame | None) -> None:
        self.classes, self.evaluation = evaluation.classes, evaluation
        self.paths: list[str] = embedding["path"].tolist()
        index = {name: place for place, name in enumerate(self.classes)}
        self.truth = embedding["class"].map(index).fillna(-1).to_numpy(int)
        self.predicted = self.truth
        if predictions is not None:
            known = predictions.set_index("path")["predicted"].reindex(embedding["path"]).map(index)
            self.predicted = known.fillna(-1).to_numpy(int)
        self.points = {stage: _fitted(embedding[[f"{stage}_x", f"{stage}_y"]].to_numpy(float)) for stage in STAGES}
        self.by_class = len(self.classes) <= TOLD_APART
        found = set(self.truth.tolist())
        self.order = [place for place in order_by_training(evaluation) if place in found]
        self.counts = {self.classes[place]: int((self.truth == place).sum()) for place in self.order}

    def mark(self, place: int) -> Mark:
        """Of the class at an index."""
        if not self.by_class:
            group = group_of(self.evaluation, place)
            number = GROUPS.index(group) if group else len(GROUPS)
            return Mark(number, number)
        return Mark(place % COLOURS, (place % COLOURS + place // COLOURS) % SHAPES)

    def legend(self) -> list[tuple[Markup, str]]:
        """Marks with their names, from head to tail."""
        if self.by_class:
            return [(self.mark(place).legend(), self.classes[place]) for place in self.order]
        groups = {group_of(self.evaluation, place): place for place in self.order}
        return [(self.mark(place).legend(), group or "no group") for group, place in groups.items()]

    def figures(self) -> list[Markup]:
        """Before and after; a hollow mark is a chip that was classified wrongly."""
        wrong = int((self.truth != self.predicted).sum())
        summary = f"{len(self.paths)} chips of {len(self.order)} classes, {wrong} of them classified wrongly"
        return [
            figure(SIDE, SIDE, title, summary, *self._chips(self.points[stage]), class_="map")
            for stage, title in STAGES.items()
        ]

    def _chips(self, points: NDArray[np.float64]) -> Iterator[Markup]:
        """A path a class for the chips that are right, and one for those that are wrong."""
        for place in self.order:
            mark, own = self.mark(place), self.truth == place
            for wrong, style in ((False, "right"), (True, "wrong")):
                chosen = points[own & ((self.predicted != place) == wrong)]
                if len(chosen):
                    path = "".join(marker(mark.shape, x, y, RADIUS) for x, y in chosen)
                    yield element("path", d=path, class_=f"c{mark.colour} {style}", data_class=place)
        yield element("circle", r=9, class_="ring", visibility="hidden")

    def data(self, pictured: bool) -> dict[str, object]:
        """What map.js needs: names, and for each chip x and y before and after, class and predicted class."""
        places = np.hstack([self.points[stage] for stage in STAGES]).round(1)
        chips = [
            [*place, int(t), int(p)] for place, t, p in zip(places.tolist(), self.truth, self.predicted, strict=True)
        ]
        sheet = {"side": SHEET_SIDE, "columns": SHEET_COLUMNS} if pictured else None
        return {"classes": self.classes, "chips": chips, "sheet": sheet}


def _fitted(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Into the figure, one scale for both axes."""
    low, high = points.min(axis=0), points.max(axis=0)
    span = float((high - low).max()) or 1.0
    fitted: NDArray[np.float64] = (points - (low + high) / 2) / span * (SIDE - 2 * MARGIN) + SIDE / 2
    return fitted


def distance_rows(distances: dict[str, dict[str, float | None]]) -> list[tuple[str, Sequence[str]]]:
    """Stage, then the inter-class cosine distance of head, medium, tail and all classes."""
    titles = {"frozen": "Before", "adapted": "After"}
    return [
        (titles.get(stage, stage), [_distance(found.get(name)) for name in (*GROUPS, "all")])
        for stage, found in distances.items()
    ]


def _distance(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
