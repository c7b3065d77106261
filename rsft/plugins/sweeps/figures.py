"""The results of a sweep as heat maps (paper, Figures 1c, 1d, S1, S2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from rsft.plugins.sweeps.sweep_file import Sweep
from rsft.plugins.sweeps.tables import compared_keys, mean_over_seeds, unify_types
from rsft.study.outcomes import format_measure
from rsft.utils.atomic_files import atomic_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_DISCRETE_VALUES = 24
"""Largest number of values of a searched key for a heat map."""

_MAX_LEVEL_LABEL = 12
"""Largest number of letters of labels that are not turned."""


def draw_figures(
    folder: Path, sweep: Sweep, table: pd.DataFrame, measures: Sequence[str]
) -> dict[str, Path]:
    """Draw the results as PNG and SVG.

    Args:
        folder: folder of the sweep; the files have its name.
        sweep: the sweep.
        table: from `results_table`.
        measures: columns of the table.

    Returns:
        Paths by suffix; empty without a finished trial, if one key varies, and for a
            search whose keys have too many values.
    """
    if not (table["status"] == "done").any():
        return {}
    keys = compared_keys(sweep)
    if len(keys) == 1:
        return {}
    means = mean_over_seeds(table, keys, measures)
    if any(means[key].nunique() > MAX_DISCRETE_VALUES for key in sweep.search):
        return {}
    figure = _draw_maps(make_panels(sweep, means, measures), sweep.mode)
    paths = {suffix: folder / f"{folder.name}.{suffix}" for suffix in ("png", "svg")}
    for suffix, path in paths.items():
        with atomic_file(path) as temporary:
            figure.savefig(temporary, format=suffix, dpi=150)
    return paths


def make_panels(
    sweep: Sweep, means: pd.DataFrame, measures: Sequence[str]
) -> dict[str, pd.DataFrame]:
    """Return one table per measure: rows by all keys but one, columns by that key.

    Args:
        sweep: the sweep.
        means: from `mean_over_seeds`.
        measures: columns of `means`.
    """
    keys = compared_keys(sweep)
    x = sweep.x or [key for key in keys if key != sweep.y][-1]
    rows = sorted((key for key in keys if key != x), key=lambda key: key == sweep.y)
    ordered = means.copy()
    for key in keys:
        values = sorted(set(means[key]))
        if key in sweep.grid:
            values = list(dict.fromkeys(unify_types(sweep.grid[key])))
        ordered[key] = pd.Categorical(means[key], values)
    return {
        measure: ordered.pivot_table(measure, rows, x, observed=True).astype(float)
        for measure in measures
    }


def _draw_maps(panels: Mapping[str, pd.DataFrame], mode: str) -> Figure:
    from matplotlib.figure import Figure

    columns = min(len(panels), 2)
    rows = -(-len(panels) // columns)
    table = next(iter(panels.values()))
    height, width = table.shape
    left = 0.08 * _longest_label(table.index)
    below = 0.08 * _longest_label(table.columns) * _is_turned(table.columns)
    size = (
        columns * (1.5 + left + 0.62 * width),
        rows * (1.1 + below + 0.42 * height),
    )
    figure = Figure(figsize=size, layout="constrained")
    for number, (measure, table) in enumerate(panels.items(), start=1):
        _draw_map(figure.add_subplot(rows, columns, number), measure, table, mode)
    return figure


def _draw_map(axes: Axes, measure: str, table: pd.DataFrame, mode: str) -> None:
    """Draw a table, with a red frame around the optimum of its measure."""
    from matplotlib.patches import Rectangle

    values = table.to_numpy()
    axes.imshow(values, cmap="viridis", aspect="auto")
    low = np.nanmin(values)
    bright = low + 0.6 * (np.nanmax(values) - low)
    for (row, column), value in np.ndenumerate(values):
        color = "white" if value < bright else "black"
        text = "-"
        if not np.isnan(value):
            text = format_measure(measure, value)
        axes.text(column, row, text, ha="center", va="center", fontsize=8, color=color)
    best = table.agg(mode).agg(mode)
    for row, column in np.argwhere(values == best).tolist():
        frame = Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, clip_on=False)
        frame.set(edgecolor="red", linewidth=2, zorder=3)
        axes.add_patch(frame)
    axes.set_xticks(
        range(len(table.columns)),
        list(map(_label, table.columns)),
        rotation=90 * _is_turned(table.columns),
    )
    axes.set_yticks(range(len(table)), list(map(_label, table.index)))
    axes.set_xlabel(str(table.columns.name))
    axes.set_ylabel(", ".join(map(str, table.index.names)))
    axes.set_title(measure, fontsize=10)


def _longest_label(values: pd.Index[Any]) -> int:
    return max(map(len, map(_label, values)))


def _is_turned(values: pd.Index[Any]) -> bool:
    """Return whether labels below the map have no place beside each other."""
    return _longest_label(values) > _MAX_LEVEL_LABEL


def _label(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(_label, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
