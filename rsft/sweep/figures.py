"""Heat maps of a sweep as PNG and SVG, with the optimum marked (paper, Figures 1c, 1d, S1 and S2)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

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
    "peft.rank": "rank",
    "peft.scale": "scaling factor",
}
_POSITIONS = {"q": "Q", "k": "K", "v": "V", "o": "Out", "1": "MLP 1", "2": "MLP 2"}


@dataclass(frozen=True)
class Panel:
    """One heat map.

    Attributes:
        title: title of the heat map.
        values: values (rows, columns); NaN for combinations without a finished trial.
        rows: key of the vertical axis and its values.
        columns: key of the horizontal axis and its values.
        measure: name of the measure; None if each column shows another measure.
    """

    title: str
    values: NDArray[np.float64]
    rows: tuple[str, Sequence[Any]]
    columns: tuple[str, Sequence[Any]]
    measure: str | None

    def optima(self, mode: str) -> list[tuple[int, int]]:
        """Find the best value, or the best value of each column if the columns are measures.

        Args:
            mode: "max" or "min".

        Returns:
            (row, column) of each optimum.
        """
        indices = range(self.values.shape[1])
        groups = [list(indices)] if self.measure is not None else [[index] for index in indices]
        optima = []
        for group in groups:
            values = self.values[:, group] * (-1 if mode == "min" else 1)
            if not np.isnan(values).all():
                row, column = np.unravel_index(np.nanargmax(values), values.shape)
                optima.append((int(row), group[int(column)]))
        return optima


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
    continuous = [
        key
        for key, space in sweep.search.items()
        if "choice" not in space and means[key].nunique() > MAX_DISCRETE_VALUES
    ]
    figure = _draw_points(sweep, means) if continuous else _draw_maps(sweep, make_panels(sweep, means, measures))
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
        values = means[list(measures)].to_numpy(float)
        return [Panel("", values, (keys[0], list(means[keys[0]])), ("", list(measures)), None)]
    x = sweep.x or [key for key in keys if key != sweep.y][-1]
    y = sweep.y or [key for key in keys if key != x][-1]
    other_keys = [key for key in keys if key not in (x, y)]
    rows, columns = _values(sweep, means, y), _values(sweep, means, x)
    maps = []
    for others in itertools.product(*(list(dict.fromkeys(means[key])) for key in other_keys)):
        pairs = list(zip(other_keys, others, strict=True))
        chosen = means[np.all([means[key] == value for key, value in pairs], axis=0)] if pairs else means
        for measure in measures:
            grid = chosen.pivot_table(measure, y, x, sort=False).reindex(index=rows, columns=columns)
            title = ", ".join([*(_label(key, value) for key, value in pairs), measure])
            maps.append(Panel(title, grid.to_numpy(float), (y, rows), (x, columns), measure))
    return maps


def _values(sweep: Sweep, means: pd.DataFrame, key: str) -> list[Any]:
    """Return the values of a key in the order of the grid; sort them if the grid does not contain the key."""
    return list(dict.fromkeys(unify_types(sweep.grid[key]))) if key in sweep.grid else sorted(set(means[key]))


def _draw_maps(sweep: Sweep, maps: Sequence[Panel]) -> Figure:
    columns = min(len(maps), 2)
    rows = -(-len(maps) // columns)
    height, width = maps[0].values.shape
    figure = Figure(figsize=(columns * (1.7 + 0.62 * width), rows * (1.1 + 0.42 * height)), layout="constrained")
    for number, panel in enumerate(maps, start=1):
        _draw_map(figure.add_subplot(rows, columns, number), panel, sweep.mode)
    return figure


def _draw_map(axes: Axes, panel: Panel, mode: str) -> None:
    axes.imshow(panel.values, cmap="viridis", aspect="auto")
    low, high = np.nanmin(panel.values), np.nanmax(panel.values)
    for (row, column), value in np.ndenumerate(panel.values):
        measure = panel.measure or str(panel.columns[1][column])
        dark = value < low + 0.6 * (high - low)
        text = "-" if np.isnan(value) else format_measure(measure, float(value))
        axes.text(column, row, text, ha="center", va="center", fontsize=8, color="white" if dark else "black")
    for row, column in panel.optima(mode):
        box = Rectangle(
            (column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor="red", linewidth=2, clip_on=False, zorder=3
        )
        axes.add_patch(box)
    for (key, values), axis in ((panel.columns, axes.xaxis), (panel.rows, axes.yaxis)):
        axis.set_ticks(range(len(values)), [_label(key, value) for value in values])
        axis.set_label_text(_NAMES.get(key, key))
    axes.set_title(panel.title, fontsize=10)


def _draw_points(sweep: Sweep, means: pd.DataFrame) -> Figure:
    """Draw the metric over each searched key."""
    keys, metric = list(sweep.search), means[sweep.metric].to_numpy(float)
    best = int(np.argmin(metric) if sweep.mode == "min" else np.argmax(metric))
    figure = Figure(figsize=(3.2 * len(keys), 2.8), layout="constrained")
    for number, key in enumerate(keys, start=1):
        axes = figure.add_subplot(1, len(keys), number)
        values = means[key].to_numpy()
        axes.scatter(values, metric, s=14)
        axes.scatter(values[best], metric[best], s=120, marker="*", color="red", zorder=3)
        axes.set(
            xlabel=_NAMES.get(key, key), ylabel=sweep.metric, xscale="log" if "log" in sweep.search[key] else "linear"
        )
    return figure


def _label(key: str, value: Any) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return _POSITIONS.get(text, text) if key == "peft.positions" else text
