"""Heat maps of a sweep as PNG and SVG, with the optimum marked (paper, Figures 1c, 1d, S1 and S2)."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from rsft.sweep.results import compared_keys, format_measure, mean_over_seeds, unify_types
from rsft.sweep.schema import Sweep
from rsft.utils.atomic_files import atomic_file

MAX_DISCRETE_VALUES = 24
"""Largest number of values of a searched key for a heat map. A key with more values is shown as points."""


_NAMES = {
    "meta.ratio": "sampling ratio",
    "meta.sampling": "sampling",
    "peft.blocks": "blocks",
    "peft.positions": "position",
    "peft.alpha": "alpha",
    "peft.rank": "rank",
    "peft.scale": "scaling factor",
}


_POSITIONS = {"q": "Q", "k": "K", "v": "V", "o": "Out", "1": "MLP 1", "2": "MLP 2"}


class Panel(NamedTuple):
    """One heat map.

    Attributes:
        title: title of the heat map.
        values: one row and column per value of the keys of the axes; NaN without a finished trial.
        measure: name of the measure; None if each column shows another measure.
    """

    title: str
    values: pd.DataFrame
    measure: str | None

    def optima(self, mode: str) -> list[tuple[int, int]]:
        """Return row and column of the best value, or of the best value of each column if these are measures."""
        values = self.values.to_numpy() * (-1 if mode == "min" else 1)
        columns = range(values.shape[1])
        groups = [[column] for column in columns] if self.measure is None else [list(columns)]
        groups = [group for group in groups if not np.isnan(values[:, group]).all()]
        best = [np.unravel_index(np.nanargmax(values[:, group]), (len(values), len(group))) for group in groups]
        return [(int(row), group[int(column)]) for group, (row, column) in zip(groups, best, strict=True)]


def draw_figures(folder: Path, sweep: Sweep, table: pd.DataFrame, measures: Sequence[str]) -> dict[str, Path]:
    """Draw the results as PNG and SVG.

    Each measure, and each combination of the keys on neither axis, has its own heat map. A sweep over a single key has
    one heat map with the values of the key down and the measures across. If a key was searched continuously, the trials
    are drawn as points, with one panel per key.

    Args:
        folder: folder of the sweep; the files have its name.
        sweep: the sweep.
        table: results, see `results_table`.
        measures: names of the measures.

    Returns:
        Paths by suffix; empty if no trial finished.
    """
    if not (table["status"] == "done").any():
        return {}
    means = mean_over_seeds(table, compared_keys(sweep), measures)
    ranges = [key for key, space in sweep.search.items() if "choice" not in space]
    if any(means[key].nunique() > MAX_DISCRETE_VALUES for key in ranges):
        figure = _draw_points(sweep, means)
    else:
        panels = make_panels(sweep, means, measures)
        columns = min(len(panels), 2)
        rows = -(-len(panels) // columns)
        height, width = panels[0].values.shape
        figure = Figure(figsize=(columns * (1.7 + 0.62 * width), rows * (1.1 + 0.42 * height)), layout="constrained")
        for number, panel in enumerate(panels, start=1):
            _draw_map(figure.add_subplot(rows, columns, number), panel, sweep.mode)
    paths = {suffix: folder / f"{folder.name}.{suffix}" for suffix in ("png", "svg")}
    for suffix, path in paths.items():
        with atomic_file(path) as temporary:
            figure.savefig(temporary, format=suffix, dpi=150)
    return paths


def make_panels(sweep: Sweep, means: pd.DataFrame, measures: Sequence[str]) -> list[Panel]:
    """Make the heat maps of a sweep.

    Args:
        sweep: the sweep.
        means: means over seeds, see `mean_over_seeds`.
        measures: names of the measures.

    Returns:
        One heat map per measure and combination of the keys on neither axis.
    """
    keys = compared_keys(sweep)
    if len(keys) == 1:
        return [Panel("", means.set_index(keys[0])[list(measures)].astype(float), None)]
    x = sweep.x or [key for key in keys if key != sweep.y][-1]
    y = sweep.y or [key for key in keys if key != x][-1]
    other_keys = [key for key in keys if key not in (x, y)]
    rows, columns = _axis_values(sweep, means, y), _axis_values(sweep, means, x)
    panels = []
    for others in itertools.product(*(means[key].unique() for key in other_keys)):
        chosen = means[(means[other_keys] == list(others)).all(axis=1)]
        for measure in measures:
            values = chosen.pivot_table(measure, y, x, sort=False).reindex(index=rows, columns=columns).astype(float)
            labels = [_label(key, value) for key, value in zip(other_keys, others, strict=True)]
            panels.append(Panel(", ".join([*labels, measure]), values.rename_axis(index=y, columns=x), measure))
    return panels


def _axis_values(sweep: Sweep, means: pd.DataFrame, key: str) -> list[Any]:
    """Return the values of a key in the order of the grid; sort them if the grid does not contain the key."""
    return list(dict.fromkeys(unify_types(sweep.grid[key]))) if key in sweep.grid else sorted(set(means[key]))


def _draw_map(axes: Axes, panel: Panel, mode: str) -> None:
    values = panel.values.to_numpy()
    axes.imshow(values, cmap="viridis", aspect="auto")
    low, high = np.nanmin(values), np.nanmax(values)
    for (row, column), value in np.ndenumerate(values):
        color = "white" if value < low + 0.6 * (high - low) else "black"
        text = "-" if np.isnan(value) else format_measure(panel.measure or str(panel.values.columns[column]), value)
        axes.text(column, row, text, ha="center", va="center", fontsize=8, color=color)
    for row, column in panel.optima(mode):
        corner = (column - 0.5, row - 0.5)
        axes.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor="red", linewidth=2, clip_on=False, zorder=3))
    for labels, axis in ((panel.values.columns, axes.xaxis), (panel.values.index, axes.yaxis)):
        key = str(labels.name or "")
        axis.set_ticks(range(len(labels)), [_label(key, value) for value in labels])
        axis.set_label_text(_NAMES.get(key, key))
    axes.set_title(panel.title, fontsize=10)


def _draw_points(sweep: Sweep, means: pd.DataFrame) -> Figure:
    """Draw the metric over each searched key."""
    keys, metric = list(sweep.search), means[sweep.metric].to_numpy(float)
    best = int(metric.argmin() if sweep.mode == "min" else metric.argmax())
    figure = Figure(figsize=(3.2 * len(keys), 2.8), layout="constrained")
    for number, key in enumerate(keys, start=1):
        axes = figure.add_subplot(1, len(keys), number)
        axes.scatter(means[key], metric, s=14)
        axes.scatter(means[key].to_numpy()[best], metric[best], s=120, marker="*", color="red", zorder=3)
        scale = "log" if "log" in sweep.search[key] else "linear"
        axes.set(xlabel=_NAMES.get(key, key), ylabel=sweep.metric, xscale=scale)
    return figure


def _label(key: str, value: Any) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return _POSITIONS.get(text, text) if key == "peft.positions" else text
