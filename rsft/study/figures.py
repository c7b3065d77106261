"""The results of a sweep as heat maps (paper, Figures 1c, 1d, S1, S2)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from rsft.study.outcomes import format_measure
from rsft.study.sweep_file import Sweep
from rsft.study.tables import compared_keys, mean_over_seeds, unify_types
from rsft.utils.atomic_files import atomic_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

MAX_DISCRETE_VALUES = 24
"""Largest number of values of a searched key for a heat map. A key with more values is
shown as points."""

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
        values: one row and column per value of the keys of the axes; NaN without a
            finished trial.
        measure: name of the measure; None if each column shows another measure.
    """

    title: str
    values: pd.DataFrame
    measure: str | None

    def optima(self, mode: str) -> list[tuple[int, int]]:
        """Return row and column of the best value, or of that of each measure."""
        values = self.values.to_numpy()
        if mode == "min":
            values = -values
        if self.measure is not None:
            if np.isnan(values).all():
                return []
            return [divmod(int(np.nanargmax(values)), values.shape[1])]
        optima = []
        for column, measured in enumerate(values.T):
            if not np.isnan(measured).all():
                optima.append((int(np.nanargmax(measured)), column))
        return optima


def draw_figures(
    folder: Path, sweep: Sweep, table: pd.DataFrame, measures: Sequence[str]
) -> dict[str, Path]:
    """Draw the results as PNG and SVG.

    Each measure, and each combination of the keys on neither axis, has its own heat
    map. A sweep over a single key has one heat map with the values of the key down and
    the measures across. If a key was searched continuously, the trials are drawn as
    points, with one panel per key.

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
        figure = _draw_maps(make_panels(sweep, means, measures), sweep.mode)
    paths = {suffix: folder / f"{folder.name}.{suffix}" for suffix in ("png", "svg")}
    for suffix, path in paths.items():
        with atomic_file(path) as temporary:
            figure.savefig(temporary, format=suffix, dpi=150)
    return paths


def make_panels(
    sweep: Sweep, means: pd.DataFrame, measures: Sequence[str]
) -> list[Panel]:
    """Return one heat map per measure and combination of the keys on neither axis.

    Args:
        sweep: the sweep.
        means: means over seeds, see `mean_over_seeds`.
        measures: names of the measures.
    """
    keys = compared_keys(sweep)
    if len(keys) == 1:
        return [Panel("", means.set_index(keys[0])[list(measures)].astype(float), None)]
    x = sweep.x or [key for key in keys if key != sweep.y][-1]
    y = sweep.y or [key for key in keys if key != x][-1]
    other_keys = [key for key in keys if key not in (x, y)]
    rows = _axis_values(sweep, y, means)
    columns = _axis_values(sweep, x, means)
    panels = []
    for others in itertools.product(*(means[key].unique() for key in other_keys)):
        chosen = means[(means[other_keys] == list(others)).all(axis=1)]
        labels = list(map(_label, other_keys, others))
        for measure in measures:
            values = chosen.pivot_table(measure, y, x, sort=False)
            values = values.reindex(index=rows, columns=columns).astype(float)
            values = values.rename_axis(index=y, columns=x)
            panels.append(Panel(", ".join([*labels, measure]), values, measure))
    return panels


def _axis_values(sweep: Sweep, key: str, means: pd.DataFrame) -> list[Any]:
    """Return the values of an axis in the order of the grid, or sorted."""
    if key in sweep.grid:
        return list(dict.fromkeys(unify_types(sweep.grid[key])))
    return sorted(set(means[key]))


def _draw_points(sweep: Sweep, means: pd.DataFrame) -> Figure:
    """Draw the metric over each searched key, with a star at the best trial."""
    from matplotlib.figure import Figure

    keys = list(sweep.search)
    metric = means[sweep.metric].to_numpy(float)
    best = int(metric.argmin() if sweep.mode == "min" else metric.argmax())
    star = {"s": 120, "marker": "*", "color": "red", "zorder": 3}
    figure = Figure(figsize=(3.2 * len(keys), 2.8), layout="constrained")
    panels = figure.subplots(1, len(keys), squeeze=False)[0]
    for key, axes in zip(keys, panels, strict=True):
        axes.scatter(means[key], metric, s=14)
        axes.scatter(means[key].to_numpy()[best], metric[best], **star)
        scale = "log" if "log" in sweep.search[key] else "linear"
        axes.set(xlabel=_NAMES.get(key, key), ylabel=sweep.metric, xscale=scale)
    return figure


def _draw_maps(panels: Sequence[Panel], mode: str) -> Figure:
    from matplotlib.figure import Figure

    columns = min(len(panels), 2)
    rows = -(-len(panels) // columns)
    height, width = panels[0].values.shape
    size = (columns * (1.7 + 0.62 * width), rows * (1.1 + 0.42 * height))
    figure = Figure(figsize=size, layout="constrained")
    for number, panel in enumerate(panels, start=1):
        _draw_map(figure.add_subplot(rows, columns, number), panel, mode)
    return figure


def _draw_map(axes: Axes, panel: Panel, mode: str) -> None:
    from matplotlib.patches import Rectangle

    values = panel.values.to_numpy()
    axes.imshow(values, cmap="viridis", aspect="auto")
    low = np.nanmin(values)
    bright = low + 0.6 * (np.nanmax(values) - low)
    for (row, column), value in np.ndenumerate(values):
        color = "white" if value < bright else "black"
        text = "-"
        if not np.isnan(value):
            measure = panel.measure or str(panel.values.columns[column])
            text = format_measure(measure, value)
        axes.text(column, row, text, ha="center", va="center", fontsize=8, color=color)
    frame: dict[str, Any] = {"fill": False, "edgecolor": "red", "linewidth": 2}
    for row, column in panel.optima(mode):
        corner = (column - 0.5, row - 0.5)
        axes.add_patch(Rectangle(corner, 1, 1, clip_on=False, zorder=3, **frame))
    _label_axis(axes.xaxis, panel.values.columns)
    _label_axis(axes.yaxis, panel.values.index)
    axes.set_title(panel.title, fontsize=10)


def _label_axis(axis: Axis, labels: pd.Index) -> None:
    key = str(labels.name or "")
    axis.set_ticks(range(len(labels)), [_label(key, value) for value in labels])
    axis.set_label_text(_NAMES.get(key, key))


def _label(key: str, value: Any) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    if key == "peft.positions":
        return _POSITIONS.get(text, text)
    return text
