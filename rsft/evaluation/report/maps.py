"""Heat maps of sites, and t-SNE maps of chips.

Scripts of a page change them; assets/maps.html draws them.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
import pandas as pd

from rsft.evaluation.report.metric_tables import group_of_class, order_by_training
from rsft.evaluation.report.run_files import RunFiles
from rsft.evaluation.schema import Evaluation
from rsft.peft.sites import POSITIONS
from rsft.types import GROUPS

STRONG_SHADE = 0.72
"""Strength of a shade (0-1) above which the number on it has the reversed color."""

SMALLEST_RANGE = 0.1
"""The colors cover at least this distance from the initial scale, so that small changes
have weak colors."""


class SiteCell(NamedTuple):
    """A cell of a heat map: row, column, shade (0-1), text, and style class."""

    row: int
    column: int
    shade: float
    number: str
    style: str = ""


class SiteMap(NamedTuple):
    """A heat map of sites, with blocks as rows and positions as columns.

    `key` are the cells of the color key.
    """

    title: str
    summary: str
    blocks: Sequence[str]
    positions: Sequence[str]
    cells: Sequence[SiteCell]
    key: Sequence[SiteCell] = ()


def block_names(
    blocks: Iterable[int], stage_depths: Sequence[int] | None
) -> dict[int, str]:
    """Name blocks for readers.

    Args:
        blocks: numbers of the blocks, counted from 0 through all stages.
        stage_depths: number of blocks in each stage of the network; None if it is
            unknown.

    Returns:
        Number -> "block 5" in a plain vision transformer, "block 2.1" (stage and block
        in it, from 0) in a hierarchical network.

    Example:
        >>> block_names([1, 5], [3, 4, 6, 3])
        {1: 'block 0.1', 5: 'block 1.2'}
    """
    names = {block: f"block {block}" for block in blocks}
    if stage_depths and len(stage_depths) > 1:
        first = 0
        for stage, depth in enumerate(stage_depths):
            for block in range(depth):
                if first + block in names:
                    names[first + block] = f"block {stage}.{block}"
            first += depth
    return names


def contribution_map(
    contributions: pd.DataFrame, stage_depths: Sequence[int] | None = None
) -> SiteMap | None:
    """Return what each site adds, in percent of the frozen layer's output.

    None if no share is a number.

    Args:
        contributions: the table contributions.csv. The largest share has the strongest
            shade.
        stage_depths: number of blocks in each stage of the network; None if it is
            unknown.
    """
    shares = contributions.dropna()
    if shares.empty:
        return None
    rank = {name: index for index, name in enumerate(POSITIONS)}
    positions = sorted(
        set(shares["position"]), key=lambda name: (rank.get(name, len(rank)), name)
    )
    names = block_names(sorted(set(shares["block"].tolist())), stage_depths)
    ordered = shares.sort_values("share")
    blocks = list(names)
    extremes = []
    for _, row in ordered.iloc[[-1, 0]].iterrows():
        site = f"{names[row['block']]} {row['position']}"
        extremes.append(f"{site} ({row['share']:.1%})")
    full_shade = max(float(ordered["share"].iloc[-1]), 1e-9)
    cells = [
        SiteCell(
            blocks.index(block),
            positions.index(position),
            share / full_shade,
            f"{100 * share:.1f}",
        )
        for block, position, share in shares[["block", "position", "share"]].to_numpy(
            object
        )
    ]
    title = "What each site adds, in % of the frozen layer's output"
    return SiteMap(
        title,
        f"most at {extremes[0]}, least at {extremes[1]}",
        list(names.values()),
        positions,
        cells,
    )


class ModulatorMap:
    """The scale of every site over the epochs.

    Args:
        scales: the table modulator.csv.
        init_scale: the scale of every site before the first outer step.
        stage_depths: number of blocks in each stage of the network; None if it is
            unknown.

    Attributes:
        frames: scales (epochs, blocks, positions); NaN where no site exists.
        sites: row and column (N, 2) of each site, in the order of the cells.
        color_range: distance from the initial scale that has the strongest color.
        spreads: standard deviation of the factors of a site, mean over the blocks, for
            each position of the last frame; empty if a site has one factor.
    """

    def __init__(
        self,
        scales: pd.DataFrame,
        init_scale: float,
        stage_depths: Sequence[int] | None = None,
    ) -> None:
        self.init_scale = init_scale
        self.positions = list(dict.fromkeys(scales["position"]))
        blocks = sorted(scales["block"].unique().tolist())
        self.blocks = list(block_names(blocks, stage_depths).values())
        epochs = sorted(scales["epoch"].unique().tolist())
        self.epochs = [int(epoch) + 1 for epoch in epochs]
        wide = scales.pivot_table(
            index=["epoch", "block"], columns="position", values="value", aggfunc="last"
        )
        rows = pd.MultiIndex.from_product([epochs, blocks])
        frames = wide.reindex(index=rows, columns=self.positions).to_numpy(float)
        self.frames = frames.reshape(len(epochs), len(self.blocks), len(self.positions))
        self.sites = np.argwhere(np.isfinite(self.frames).all(axis=0))
        self.color_range = max(
            SMALLEST_RANGE, float(np.nanmax(np.abs(self.frames - init_scale)))
        )
        self.spreads: dict[str, float] = {}
        if "spread" in scales:
            last = scales[scales["epoch"] == epochs[-1]]
            self.spreads = last.groupby("position")["spread"].mean().to_dict()

    @classmethod
    def of_run(cls, run: RunFiles) -> Self | None:
        """Return the map of a run, or None without a modulator or its table.

        A table with empty values counts as missing.
        """
        meta = run.recipe.meta
        scales = run.scales
        if meta is None or scales is None or scales["value"].isna().any():
            return None
        return cls(scales, meta.init_scale, run.metadata.stage_depths)

    @property
    def figure(self) -> SiteMap:
        """The last frame with its color key. slider.js redraws it for another epoch."""
        low = max(0.0, self.init_scale - self.color_range)
        high = self.init_scale + self.color_range
        samples = [
            low,
            (low + self.init_scale) / 2,
            self.init_scale,
            (self.init_scale + high) / 2,
            high,
        ]
        cells = [
            self._cell(row, column, self.frames[-1, row, column])
            for row, column in self.sites
        ]
        key = [self._cell(0, column, value) for column, value in enumerate(samples)]
        title = "Modulator by block and position"
        return SiteMap(title, self.summary(), self.blocks, self.positions, cells, key)

    def _cell(self, row: int, column: int, value: float) -> SiteCell:
        shade = min(1.0, float(abs(value - self.init_scale) / self.color_range))
        return SiteCell(
            row,
            column,
            shade,
            f"{value:.2f}",
            "above" if value > self.init_scale else "below",
        )

    def summary(self) -> str:
        """Describe the strongest and the weakest site of the last frame."""
        last = self.frames[-1]
        sites = []
        for number in (np.nanargmax(last), np.nanargmin(last)):
            row, column = np.unravel_index(number, last.shape)
            name = f"{self.blocks[row]} {self.positions[column]}"
            sites.append(f"{name} ({last[row, column]:.2f})")
        return f"strongest at {sites[0]}, weakest at {sites[1]}"

    def by_position(self) -> list[tuple[str, float, float, float]]:
        """Return each position with the mean, lowest and highest scale over blocks.

        The scales are those of the last frame.
        """
        values = [
            (name, self.frames[-1, :, column])
            for column, name in enumerate(self.positions)
        ]
        return [
            (name, np.nanmean(value), np.nanmin(value), np.nanmax(value))
            for name, value in values
        ]

    def data(self) -> dict[str, object]:
        """Return the data for slider.js.

        "frames" contains the scales of each frame in the order of `sites`.
        """
        rows, columns = self.sites.T
        frames = self.frames[:, rows, columns].round(4).tolist()
        scale = {
            "start": self.init_scale,
            "reach": self.color_range,
            "strong": STRONG_SHADE,
        }
        return {**scale, "epochs": self.epochs, "frames": frames}


@dataclass(frozen=True)
class ConfusionMap:
    """A confusion matrix, whose rows are the true classes.

    Attributes:
        unit: unit of the numbers and shades.
        summary: a sentence for readers who do not see it.
        count: number of classes.
        names: names of the classes; empty if there are too many, and the matrix only
            has shades.
        cells: the cells with chips.
        bounds: first class of each group but the first.
    """

    unit: str
    summary: str
    count: int
    names: Sequence[str]
    cells: Sequence[SiteCell]
    bounds: Sequence[int]


MAX_LABELED_CLASSES = 24
"""Up to this number of classes, the confusion matrix has names and numbers."""


def confusion_maps(evaluation: Evaluation) -> list[ConfusionMap]:
    """Return the confusion matrix in % of the true class, and in chips.

    Classes go from head to tail.
    """
    order = order_by_training(evaluation)
    confusion = np.array(evaluation.confusion)[np.ix_(order, order)]
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    by_chips = confusion / max(1, confusion.max())
    percents = []
    chips = []
    for row, column in np.argwhere(confusion):
        share = shares[row, column]
        text = f"{100 * share:.0f}" if share >= 0.005 else "<1"
        percents.append(SiteCell(row, column, share, text))
        number = str(confusion[row, column])
        chips.append(SiteCell(row, column, by_chips[row, column], number))
    count = len(order)
    is_labeled = count <= MAX_LABELED_CLASSES
    names = [evaluation.classes[index] for index in order] if is_labeled else []
    groups = [group_of_class(evaluation, index) for index in order]
    bounds = [row for row in range(1, count) if groups[row] != groups[row - 1]]
    summary = (
        f"{count} classes; {confusion.trace()} of {confusion.sum()} chips lie on the"
        " diagonal"
    )
    return [
        ConfusionMap("% of the true class", summary, count, names, percents, bounds),
        ConfusionMap("chips", summary, count, names, chips, bounds),
    ]


STAGES = {"frozen": "Before: frozen features", "adapted": "After: adapted features"}
SIDE = 460
MARGIN = 10
COLORS = 8
SHAPES = 6
"""Number of class colors in the style sheet, and of shapes in assets/maps.html."""

MAX_MARKED_CLASSES = COLORS * SHAPES
"""Up to this number of classes, every class has a different marker. With more, every
group has one."""

TILE_SIZE = 40
SHEET_COLUMNS = 40
"""Side of a chip in pixels, and number of chips per row, in the image of all chips of
the map."""


class ClassMarker(NamedTuple):
    """The color and the shape of a class or of a group."""

    color: int
    shape: int


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

    def __init__(
        self,
        embedding: pd.DataFrame,
        evaluation: Evaluation,
        predictions: pd.DataFrame | None,
    ) -> None:
        self.classes = evaluation.classes
        self.evaluation = evaluation
        self.paths: list[str] = embedding["path"].tolist()
        index = {name: number for number, name in enumerate(self.classes)}
        self.truth = embedding["class"].map(index).fillna(-1).to_numpy(int)
        self.predicted = self.truth
        if predictions is not None:
            predicted = (
                predictions.set_index("path")["predicted"]
                .reindex(embedding["path"])
                .map(index)
            )
            self.predicted = predicted.fillna(-1).to_numpy(int)
        self.points = {}
        for stage in STAGES:  # fitted into the figure, with one factor for both axes
            points = embedding[[f"{stage}_x", f"{stage}_y"]].to_numpy(float)
            low, high = points.min(axis=0), points.max(axis=0)
            span = float((high - low).max()) or 1.0
            self.points[stage] = (points - (low + high) / 2) / span * (
                SIDE - 2 * MARGIN
            ) + SIDE / 2
        self.by_class = len(self.classes) <= MAX_MARKED_CLASSES
        present = set(self.truth.tolist())
        self.order = [
            number for number in order_by_training(evaluation) if number in present
        ]
        self.counts = {
            self.classes[number]: int((self.truth == number).sum())
            for number in self.order
        }
        wrong = int((self.truth != self.predicted).sum())
        self.summary = (
            f"{len(self.paths)} chips of {len(self.order)} classes, {wrong} of them"
            " misclassified"
        )

    def marker(self, index: int) -> ClassMarker:
        """Return the marker of a class, given its index."""
        if not self.by_class:
            group = group_of_class(self.evaluation, index)
            number = GROUPS.index(group) if group else len(GROUPS)
            return ClassMarker(number, number)
        return ClassMarker(index % COLORS, (index % COLORS + index // COLORS) % SHAPES)

    def legend(self) -> list[tuple[ClassMarker, str]]:
        """Return markers with the names of their classes or groups, head to tail."""
        if self.by_class:
            return [(self.marker(index), self.classes[index]) for index in self.order]
        groups = {group_of_class(self.evaluation, index): index for index in self.order}
        return [
            (self.marker(index), group or "no group") for group, index in groups.items()
        ]

    def chip_groups(
        self, stage: str
    ) -> Iterator[tuple[ClassMarker, str, int, list[list[float]]]]:
        """Iterate over the correct and the misclassified chips of each class.

        A group has a marker, a style, a class, and points.

        Args:
            stage: "frozen" or "adapted".
        """
        points = self.points[stage].round(1)
        for index in self.order:
            is_class = self.truth == index
            for is_wrong, style in ((False, "right"), (True, "wrong")):
                chosen = points[is_class & ((self.predicted != index) == is_wrong)]
                if len(chosen):
                    yield self.marker(index), style, index, chosen.tolist()


def linked_maps_data(
    maps: Sequence[tuple[ChipMap, str]],
    labels: Sequence[str] = (),
    with_pictures: bool = False,
) -> dict[str, object]:
    """Return the data for map.js, which marks a chip on several maps at once.

    Args:
        maps: the chip map and the stage of each figure, in the order of the page. All
            maps have the same chips.
        labels: name of each different chip map, before its predicted class; empty with
            one chip map.
        with_pictures: whether the page contains the image of all chips.

    Returns:
        "chips" contains for each chip its coordinates on all maps (x, y, x, y, ...),
        its class, and one predicted class for each different chip map; "side" is the
        side of a map in figure units.
    """
    runs = list(dict.fromkeys(chip_map for chip_map, _ in maps))
    points = (
        np.hstack([chip_map.points[stage] for chip_map, stage in maps])
        .round(1)
        .tolist()
    )
    predicted = np.stack([run.predicted for run in runs], axis=1).tolist()
    chips = list(zip(points, runs[0].truth.tolist(), predicted, strict=True))
    sheet = None
    if with_pictures:
        sheet = {"side": TILE_SIZE, "columns": SHEET_COLUMNS}
    return {
        "side": SIDE,
        "classes": runs[0].classes,
        "labels": list(labels),
        "chips": chips,
        "sheet": sheet,
    }
