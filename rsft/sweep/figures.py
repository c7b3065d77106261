"""The heat maps of a sweep (paper, Figures 1c, 1d, S1 and S2), as PNG and SVG, the optimum marked."""

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

from rsft.sweep.results import alike, as_text, mean_over_seeds, varied
from rsft.sweep.schema import Sweep
from rsft.utils.atomic_files import replacing

MANY = 24
"""Drawn values of a searched key beyond which it is continuous, and drawn as points."""

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
        values: (rows, columns), NaN where no trial is done.
        down, across: the key and its values along each axis.
        measure: what the values are, or None where each column is a measure of its own.
    """

    title: str
    values: NDArray[np.float64]
    down: tuple[str, Sequence[Any]]
    across: tuple[str, Sequence[Any]]
    measure: str | None

    def optima(self, mode: str) -> list[tuple[int, int]]:
        """(row, column) of the best value, or of the best of each column where columns are measures."""
        columns = range(self.values.shape[1])
        parts = [list(columns)] if self.measure is not None else [[column] for column in columns]
        found = []
        for part in parts:
            values = self.values[:, part] * (-1 if mode == "min" else 1)
            if not np.isnan(values).all():
                row, column = np.unravel_index(np.nanargmax(values), values.shape)
                found.append((int(row), part[int(column)]))
        return found


def draw_figures(folder: Path, sweep: Sweep, table: pd.DataFrame, measures: Sequence[str]) -> dict[str, Path]:
    """PNG and SVG: a panel for each measure, and each value of the keys on neither axis; none without a finished trial.

    Of a single key its values go down and the measures across. Keys that were searched continuously are drawn as
    points, a panel a key.
    """
    if not (table["status"] == "done").any():
        return {}
    means = mean_over_seeds(table, varied(sweep), measures)
    continuous = [key for key, space in sweep.search.items() if "choice" not in space and means[key].nunique() > MANY]
    figure = _draw_points(sweep, means) if continuous else _draw_maps(sweep, panels(sweep, means, measures))
    paths = {suffix: folder / f"{folder.name}.{suffix}" for suffix in ("png", "svg")}
    for suffix, path in paths.items():
        with replacing(path) as temporary:
            figure.savefig(temporary, format=suffix, dpi=150)
    return paths


def panels(sweep: Sweep, means: pd.DataFrame, measures: Sequence[str]) -> list[Panel]:
    """The heat maps of a table of means."""
    keys = varied(sweep)
    if len(keys) == 1:
        values = means[list(measures)].to_numpy(float)
        return [Panel("", values, (keys[0], list(means[keys[0]])), ("", list(measures)), None)]
    x = sweep.x or [key for key in keys if key != sweep.y][-1]
    y = sweep.y or [key for key in keys if key != x][-1]
    rest = [key for key in keys if key not in (x, y)]
    down, across = _values(sweep, means, y), _values(sweep, means, x)
    found = []
    for others in itertools.product(*(list(dict.fromkeys(means[key])) for key in rest)):
        chosen = (
            means[np.all([means[key] == value for key, value in zip(rest, others, strict=True)], axis=0)]
            if rest
            else means
        )
        for measure in measures:
            grid = chosen.pivot_table(measure, y, x, sort=False).reindex(index=down, columns=across)
            title = ", ".join([*(_label(key, value) for key, value in zip(rest, others, strict=True)), measure])
            found.append(Panel(title, grid.to_numpy(float), (y, down), (x, across), measure))
    return found


def _values(sweep: Sweep, means: pd.DataFrame, key: str) -> list[Any]:
    """In the order of the sweep's grid; elsewhere sorted."""
    return list(dict.fromkeys(alike(sweep.grid[key]))) if key in sweep.grid else sorted(set(means[key]))


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
        measure = panel.measure or str(panel.across[1][column])
        dark = value < low + 0.6 * (high - low)
        text = "-" if np.isnan(value) else as_text(measure, float(value))
        axes.text(column, row, text, ha="center", va="center", fontsize=8, color="white" if dark else "black")
    for row, column in panel.optima(mode):
        box = Rectangle(
            (column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor="red", linewidth=2, clip_on=False, zorder=3
        )
        axes.add_patch(box)
    for (key, values), axis in ((panel.across, axes.xaxis), (panel.down, axes.yaxis)):
        axis.set_ticks(range(len(values)), [_label(key, value) for value in values])
        axis.set_label_text(_NAMES.get(key, key))
    axes.set_title(panel.title, fontsize=10)


def _draw_points(sweep: Sweep, means: pd.DataFrame) -> Figure:
    """The metric over each key that was searched."""
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
