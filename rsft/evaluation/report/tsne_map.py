"""Draw t-SNE maps of chips before and after fine-tuning."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from markupsafe import Markup
from numpy.typing import NDArray

from rsft.evaluation.report.metric_tables import group_of_class, order_by_training
from rsft.evaluation.report.svg import SHAPES, marker_path, svg_element, svg_figure
from rsft.evaluation.schema import Evaluation
from rsft.types import GROUPS

STAGES = {"frozen": "Before: frozen features", "adapted": "After: adapted features"}
SIDE, MARGIN, RADIUS = 460, 10, 3.6
COLORS = 8
"""Number of class colors in the style sheet."""

MAX_MARKED_CLASSES = COLORS * SHAPES
"""Up to this number of classes, every class has a different marker. With more, every group has one."""

TILE_SIZE, SHEET_COLUMNS = 40, 40
"""Side of a chip in pixels, and number of chips per row, in the image of all chips of the map."""


@dataclass(frozen=True)
class ClassMarker:
    """The color and the shape of a class or of a group."""

    color: int
    shape: int

    def legend(self) -> Markup:
        """Draw the marker for a legend."""
        path = svg_element("path", d=marker_path(self.shape, 7, 7, 4.6))
        return svg_element("svg", path, viewBox="0 0 14 14", class_=f"mark c{self.color}", aria_hidden="true")


class ChipMap:
    """The table embedding.parquet as two figures, a legend, and the points for map.js.

    Args:
        embedding: the table.
        evaluation: evaluation of the run.
        predictions: the table predictions.parquet; None shows all chips as correct.

    Attributes:
        paths: paths of the chips, in the order of the points.
        counts: number of chips by class, without classes that have no chips.
    """

    def __init__(self, embedding: pd.DataFrame, evaluation: Evaluation, predictions: pd.DataFrame | None) -> None:
        self.classes, self.evaluation = evaluation.classes, evaluation
        self.paths: list[str] = embedding["path"].tolist()
        index = {name: number for number, name in enumerate(self.classes)}
        self.truth = embedding["class"].map(index).fillna(-1).to_numpy(int)
        self.predicted = self.truth
        if predictions is not None:
            predicted = predictions.set_index("path")["predicted"].reindex(embedding["path"]).map(index)
            self.predicted = predicted.fillna(-1).to_numpy(int)
        self.points = {stage: _fit_points(embedding[[f"{stage}_x", f"{stage}_y"]].to_numpy(float)) for stage in STAGES}
        self.by_class = len(self.classes) <= MAX_MARKED_CLASSES
        present = set(self.truth.tolist())
        self.order = [number for number in order_by_training(evaluation) if number in present]
        self.counts = {self.classes[number]: int((self.truth == number).sum()) for number in self.order}

    def marker(self, index: int) -> ClassMarker:
        """Return the marker of a class, given its index."""
        if not self.by_class:
            group = group_of_class(self.evaluation, index)
            number = GROUPS.index(group) if group else len(GROUPS)
            return ClassMarker(number, number)
        return ClassMarker(index % COLORS, (index % COLORS + index // COLORS) % SHAPES)

    def legend(self) -> list[tuple[Markup, str]]:
        """Return the legend of the map.

        Returns:
            Markers with the names of their classes or groups, from head to tail.
        """
        if self.by_class:
            return [(self.marker(index).legend(), self.classes[index]) for index in self.order]
        groups = {group_of_class(self.evaluation, index): index for index in self.order}
        return [(self.marker(index).legend(), group or "no group") for group, index in groups.items()]

    def figure(self, stage: str, title: str) -> Markup:
        """Draw one map.

        Args:
            stage: "frozen" or "adapted".
            title: title of the figure.

        Returns:
            The figure. A hollow marker is a misclassified chip.
        """
        wrong = int((self.truth != self.predicted).sum())
        summary = f"{len(self.paths)} chips of {len(self.order)} classes, {wrong} of them misclassified"
        return svg_figure(SIDE, SIDE, title, summary, *self._chips(self.points[stage]), class_="map")

    def _chips(self, points: NDArray[np.float64]) -> Iterator[Markup]:
        """Draw two paths per class, for its correct and its misclassified chips, and the ring that map.js moves."""
        for index in self.order:
            marker, is_class = self.marker(index), self.truth == index
            for is_wrong, style in ((False, "right"), (True, "wrong")):
                chosen = points[is_class & ((self.predicted != index) == is_wrong)]
                if len(chosen):
                    path = "".join(marker_path(marker.shape, x, y, RADIUS) for x, y in chosen)
                    yield svg_element("path", d=path, class_=f"c{marker.color} {style}", data_class=index)
        yield svg_element("circle", r=9, class_="ring", visibility="hidden")


def linked_maps_data(
    maps: Sequence[tuple[ChipMap, str]], labels: Sequence[str] = (), with_pictures: bool = False
) -> dict[str, object]:
    """Return the data for map.js, which marks a chip on several maps at once.

    Args:
        maps: the chip map and the stage of each figure, in the order of the page. All maps have the same chips.
        labels: name of each different chip map, before its predicted class; empty with one chip map.
        with_pictures: whether the page contains the image of all chips.

    Returns:
        "chips" contains for each chip its coordinates on all maps (x, y, x, y, ...), its class, and one predicted class
        for each different chip map; "side" is the side of a map in figure units.
    """
    runs = list(dict.fromkeys(chip_map for chip_map, _ in maps))
    points = np.hstack([chip_map.points[stage] for chip_map, stage in maps]).round(1).tolist()
    predicted = np.stack([run.predicted for run in runs], axis=1).tolist()
    chips = list(zip(points, runs[0].truth.tolist(), predicted, strict=True))
    sheet = {"side": TILE_SIZE, "columns": SHEET_COLUMNS} if with_pictures else None
    return {"side": SIDE, "classes": runs[0].classes, "labels": list(labels), "chips": chips, "sheet": sheet}


def _fit_points(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scale points into the figure, with one factor for both axes."""
    low, high = points.min(axis=0), points.max(axis=0)
    span = float((high - low).max()) or 1.0
    fitted: NDArray[np.float64] = (points - (low + high) / 2) / span * (SIDE - 2 * MARGIN) + SIDE / 2
    return fitted
