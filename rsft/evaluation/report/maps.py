"""Make the tables behind the heat maps and the t-SNE maps; `charts` draws them."""

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

    The shade is the distance from the initial scale. Blocks are counted from 0 through
    all stages of a network, as in modulator.csv.
    """
    scales = _last_scales(run)
    if scales is None or not run.recipe.meta:
        return None
    table = scales.pivot_table("value", "block", "position", aggfunc="last")
    ordered = [name for name in POSITIONS if name in table]
    table = table[[*ordered, *table.columns.difference(ordered)]]
    table = table.rename(index="block {}".format)
    distances = table.to_numpy() - run.recipe.meta.init_scale
    return HeatMap(
        "Modulator by block and position",
        f"{int(table.count().sum())} sites",
        table.map(lambda value: "" if np.isnan(value) else f"{value:.2f}"),
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
