"""Make the tables behind the heat maps and the t-SNE maps; `charts` draws them."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from rsft.evaluation.report.metric_tables import group_of_class, order_by_training
from rsft.evaluation.report.run_files import RunFiles
from rsft.evaluation.schema import Evaluation
from rsft.peft.sites import POSITIONS
from rsft.types import GROUPS, Floats

SMALLEST_RANGE = 0.1
"""The colors cover at least this distance from the initial scale, so that small changes
have weak colors."""

MAX_LABELED_CLASSES = 24
"""Up to this number of classes, the confusion matrix has names and numbers."""

MAX_MARKED_CLASSES = 48
"""Up to this number of classes, every class has a different marker. With more, every
group has one."""


class HeatMap(NamedTuple):
    """A table whose cells are shaded.

    Attributes:
        title: title of the chart.
        summary: a sentence for readers who do not see it.
        texts: texts of the cells by row and column; "" has no cell.
        shades: strength of the colors (rows, columns), -1 to 1; the sign selects the
            color.
        has_labels: whether cells, rows and columns have texts.
    """

    title: str
    summary: str
    texts: pd.DataFrame
    shades: Floats
    has_labels: bool = True


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


def _site_table(
    rows: pd.DataFrame, column: str, stage_depths: Sequence[int] | None
) -> pd.DataFrame:
    """Return a value of every site by name of the block and by position."""
    table = rows.pivot_table(column, "block", "position", aggfunc="last")
    ordered = [name for name in POSITIONS if name in table]
    table = table[[*ordered, *table.columns.difference(ordered)]]
    return table.rename(index=block_names(table.index, stage_depths))


def _format_cells(table: pd.DataFrame, number: str) -> pd.DataFrame:
    return table.map(lambda value: "" if np.isnan(value) else number.format(value))


def _last_scales(run: RunFiles) -> pd.DataFrame | None:
    """Return the rows of the last epoch in modulator.csv.

    None without a modulator or its table. A table with empty or infinite values counts
    as missing.
    """
    scales = run.scales
    if not run.recipe.meta or scales is None:
        return None
    if not np.isfinite(scales["value"].to_numpy(float)).all():
        return None
    last: pd.DataFrame = scales[scales["epoch"] == scales["epoch"].max()]
    return last


def modulator_map(run: RunFiles) -> HeatMap | None:
    """Return the scale of every site after the last epoch; None without a modulator.

    The shade is the distance from the initial scale.
    """
    scales = _last_scales(run)
    if scales is None or not run.recipe.meta:
        return None
    table = _site_table(scales, "value", run.metadata.stage_depths)
    distances = table.to_numpy() - run.recipe.meta.init_scale
    return HeatMap(
        "Modulator by block and position",
        f"{int(table.count().sum())} sites",
        _format_cells(table, "{:.2f}"),
        distances / max(SMALLEST_RANGE, float(np.nanmax(np.abs(distances)))),
    )


def confusion_map(evaluation: Evaluation) -> HeatMap:
    """Return the confusion matrix; the shade is the share of the true class.

    Classes go from head to tail.
    """
    order = order_by_training(evaluation)
    confusion = np.array(evaluation.confusion)[np.ix_(order, order)]
    names = [evaluation.classes[index] for index in order]
    texts = pd.DataFrame(confusion, names, names).astype(str).replace("0", "")
    return HeatMap(
        "Confusion matrix, in chips",
        f"{len(order)} classes; {confusion.trace()} of {confusion.sum()} chips lie on"
        " the diagonal",
        texts.rename_axis(index="truth", columns="predicted"),
        confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1),
        has_labels=len(order) <= MAX_LABELED_CLASSES,
    )


def mapped_chips(embedding: pd.DataFrame, evaluation: Evaluation) -> pd.DataFrame:
    """Return the table embedding.parquet with the column "label".

    It is a category of the class of each chip, or of its group if there are too many
    classes.
    """
    chips = embedding.assign(label=embedding["class"])
    names = [evaluation.classes[index] for index in order_by_training(evaluation)]
    if len(names) > MAX_MARKED_CLASSES:
        group_of = {
            name: group_of_class(evaluation, index) or "no group"
            for index, name in enumerate(evaluation.classes)
        }
        chips["label"] = chips["class"].map(group_of)
        names = [*GROUPS, "no group"]
    present = [name for name in names if name in set(chips["label"])]
    return chips.assign(label=pd.Categorical(chips["label"], present))
