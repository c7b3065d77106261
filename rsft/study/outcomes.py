"""Results of a sweep: the outcome of each trial, the table, and heat maps (paper, Figures 1c, 1d, S1, S2).

The outcome of a trial is one JSON file in its folder. These files alone decide which
trials have ended.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from rsft.recipe.text import to_yaml
from rsft.study.sweep_file import Sweep
from rsft.utils.atomic_files import atomic_file, write_text
from rsft.utils.untrusted.documents import load_json

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TRIALS = "trials"
OUTCOME = "trial.json"
RECIPE = "recipe.yaml"
ERRORS = "errors.txt"
LOCK = "lock"
"""Folder of all trials, and files in the folder of a trial. RECIPE is an ordinary
recipe for `rsft finetune`."""


@dataclass(frozen=True)
class TrialOutcome:
    """Outcome of a trial.

    Attributes:
        keys: recipe keys that the sweep set.
        status: "done", "failed", or "stopped" by the scheduler of the sweep.
        metrics: last row of metrics.csv, and the accuracy on the evaluated split.
        seconds: duration of the run, summed over all resumed sessions.
        run: run folder; "" if the trial failed before it was made.
        data: SHA-256 of the manifest of the training data.
    """

    keys: dict[str, Any]
    status: Literal["done", "failed", "stopped"]
    reason: str = ""
    metrics: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    run: str = ""
    data: str = ""

    def save(self, folder: Path) -> None:
        """Write the outcome to the folder of the trial, whole or not at all."""
        write_text(folder / OUTCOME, json.dumps(asdict(self), indent=1))


def read_outcome(folder: Path) -> TrialOutcome | None:
    """Return the outcome in the folder of a trial; None if it is missing or damaged, so that the trial must be run."""
    try:
        return TrialOutcome(**load_json(folder / OUTCOME))
    except (OSError, ValueError, TypeError):
        return None


def describe_keys(keys: Mapping[str, Any]) -> str:
    """Return keys and values in one line."""
    return "  ".join(f"{key} {value}" for key, value in keys.items())


def format_measure(name: str, value: Any) -> str:
    """Return a value of a column as text: accuracies in %, losses with three digits."""
    if not isinstance(value, float) or "." in name or name == "seconds":
        if isinstance(value, float):
            return f"{value:g}"
        return str(value)
    if name.endswith("loss"):
        return f"{value:.3f}"
    return f"{100 * value:.1f}"


RESULTS = "results.parquet"
TABLE = "results.md"

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


def results_table(sweep: Sweep, outcomes: Mapping[str, TrialOutcome]) -> pd.DataFrame:
    """Return the table of all trials, given their outcomes by trial id.

    Returns:
        One row per trial. Columns: id, the keys of the sweep, status, reason, the
            metrics, seconds, run. The values of
        a key are numbers, or text if one of them is not a number.
    """
    rows = [
        {"id": id}
        | {key: outcome.keys.get(key) for key in sweep.keys}
        | {"status": outcome.status, "reason": outcome.reason}
        | outcome.metrics
        | {"seconds": outcome.seconds, "run": outcome.run}
        for id, outcome in outcomes.items()
    ]
    table = pd.DataFrame(
        rows,
        columns=(
            None if rows else ["id", *sweep.keys, "status", "reason", "seconds", "run"]
        ),
    )
    for key in sweep.keys:
        table[key] = unify_types(list(table[key]))
    return table


def unify_types(values: Sequence[Any]) -> list[Any]:
    """Return numbers unchanged; convert all values to text if one of them is not a number."""
    if all(
        isinstance(value, int | float) and not isinstance(value, bool)
        for value in values
    ):
        return list(values)
    return [value if isinstance(value, str) else to_yaml(value) for value in values]


def mean_over_seeds(
    table: pd.DataFrame, keys: Sequence[str], measures: Sequence[str]
) -> pd.DataFrame:
    """Average the finished trials of `results_table` over seeds.

    Returns:
        One row per combination of `keys`: the keys, the mean of each measure, and the
            number of `runs`.
    """
    groups = table[table["status"] == "done"].groupby(
        list(keys), sort=False, dropna=False
    )
    return groups[list(measures)].mean().assign(runs=groups.size()).reset_index()


def write_results(
    folder: Path, sweep: Sweep, table: pd.DataFrame, measures: Sequence[str]
) -> dict[str, Path]:
    """Write the table as Parquet, and its means over seeds as Markdown (best first, then the other trials).

    Args:
        folder: folder of the sweep.
        sweep: the sweep.
        table: results, see `results_table`.
        measures: names of the measures.

    Returns:
        Paths by name.
    """
    with atomic_file(folder / RESULTS) as temporary:
        table.to_parquet(temporary, index=False)
    columns = [
        measure
        for measure in dict.fromkeys([sweep.metric, *measures])
        if measure in table
    ]
    means = mean_over_seeds(table, compared_keys(sweep), columns)
    if sweep.metric in columns:
        means = means.sort_values(
            sweep.metric, ascending=sweep.mode == "min", kind="stable"
        )
    rows = [
        [format_measure(str(name), value) for name, value in row.items()]
        for row in means.to_dict("records")
    ]
    lines = [
        f"| {' | '.join(cells)} |"
        for cells in [list(means.columns), ["---"] * len(means.columns), *rows]
    ]
    for row in table[table["status"] != "done"].to_dict("records"):
        values = ", ".join(f"{key} {row[key]}" for key in sweep.keys)
        lines.append(f"\n{row['status'].capitalize()}: {values}: {row['reason']}")
    write_text(folder / TABLE, "\n".join(lines) + "\n")
    return {"results": folder / RESULTS, "table": folder / TABLE}


def compared_keys(sweep: Sweep) -> list[str]:
    """Return the keys by which results are compared: all keys of the sweep except the seed, or only the seed."""
    return [key for key in sweep.keys if key != "seed"] or sweep.keys


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
        """Return row and column of the best value, or of the best value of each column if these are measures."""
        values = self.values.to_numpy() * (-1 if mode == "min" else 1)
        if self.measure is None:
            return [
                (int(np.nanargmax(x)), column)
                for column, x in enumerate(values.T)
                if not np.isnan(x).all()
            ]
        if np.isnan(values).all():
            return []
        return [divmod(int(np.nanargmax(values)), values.shape[1])]


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
    from matplotlib.figure import Figure

    if not (table["status"] == "done").any():
        return {}
    means = mean_over_seeds(table, compared_keys(sweep), measures)
    ranges = [key for key, space in sweep.search.items() if "choice" not in space]
    if any(means[key].nunique() > MAX_DISCRETE_VALUES for key in ranges):
        keys = list(sweep.search)
        metric = means[sweep.metric].to_numpy(float)
        best = int(metric.argmin() if sweep.mode == "min" else metric.argmax())
        figure = Figure(figsize=(3.2 * len(keys), 2.8), layout="constrained")
        for key, axes in zip(
            keys, figure.subplots(1, len(keys), squeeze=False)[0], strict=True
        ):
            axes.scatter(means[key], metric, s=14)
            axes.scatter(
                means[key].to_numpy()[best],
                metric[best],
                s=120,
                marker="*",
                color="red",
                zorder=3,
            )
            scale = "log" if "log" in sweep.search[key] else "linear"
            axes.set(xlabel=_NAMES.get(key, key), ylabel=sweep.metric, xscale=scale)
    else:
        panels = make_panels(sweep, means, measures)
        columns = min(len(panels), 2)
        rows = -(-len(panels) // columns)
        height, width = panels[0].values.shape
        figure = Figure(
            figsize=(columns * (1.7 + 0.62 * width), rows * (1.1 + 0.42 * height)),
            layout="constrained",
        )
        for number, panel in enumerate(panels, start=1):
            _draw_map(figure.add_subplot(rows, columns, number), panel, sweep.mode)
    paths = {suffix: folder / f"{folder.name}.{suffix}" for suffix in ("png", "svg")}
    for suffix, path in paths.items():
        with atomic_file(path) as temporary:
            figure.savefig(temporary, format=suffix, dpi=150)
    return paths


def make_panels(
    sweep: Sweep, means: pd.DataFrame, measures: Sequence[str]
) -> list[Panel]:
    """Return one heat map per measure and combination of the keys on neither axis, given the means over seeds."""
    keys = compared_keys(sweep)
    if len(keys) == 1:
        return [Panel("", means.set_index(keys[0])[list(measures)].astype(float), None)]
    x = sweep.x or [key for key in keys if key != sweep.y][-1]
    y = sweep.y or [key for key in keys if key != x][-1]
    other_keys = [key for key in keys if key not in (x, y)]
    # in the order of the grid; sorted if the grid does not contain the key
    if y in sweep.grid:
        rows = list(dict.fromkeys(unify_types(sweep.grid[y])))
    else:
        rows = sorted(set(means[y]))
    if x in sweep.grid:
        columns = list(dict.fromkeys(unify_types(sweep.grid[x])))
    else:
        columns = sorted(set(means[x]))
    panels = []
    for others in itertools.product(*(means[key].unique() for key in other_keys)):
        chosen = means[(means[other_keys] == list(others)).all(axis=1)]
        labels = [
            _label(key, value) for key, value in zip(other_keys, others, strict=True)
        ]
        for measure in measures:
            values = (
                chosen.pivot_table(measure, y, x, sort=False)
                .reindex(index=rows, columns=columns)
                .astype(float)
            )
            panels.append(
                Panel(
                    ", ".join([*labels, measure]),
                    values.rename_axis(index=y, columns=x),
                    measure,
                )
            )
    return panels


def _draw_map(axes: Axes, panel: Panel, mode: str) -> None:
    from matplotlib.patches import Rectangle

    values = panel.values.to_numpy()
    axes.imshow(values, cmap="viridis", aspect="auto")
    low, high = np.nanmin(values), np.nanmax(values)
    for (row, column), value in np.ndenumerate(values):
        color = "white" if value < low + 0.6 * (high - low) else "black"
        if np.isnan(value):
            text = "-"
        else:
            text = format_measure(
                panel.measure or str(panel.values.columns[column]), value
            )
        axes.text(column, row, text, ha="center", va="center", fontsize=8, color=color)
    for row, column in panel.optima(mode):
        corner = (column - 0.5, row - 0.5)
        axes.add_patch(
            Rectangle(
                corner,
                1,
                1,
                fill=False,
                edgecolor="red",
                linewidth=2,
                clip_on=False,
                zorder=3,
            )
        )
    for labels, axis in (
        (panel.values.columns, axes.xaxis),
        (panel.values.index, axes.yaxis),
    ):
        key = str(labels.name or "")
        axis.set_ticks(range(len(labels)), [_label(key, value) for value in labels])
        axis.set_label_text(_NAMES.get(key, key))
    axes.set_title(panel.title, fontsize=10)


def _label(key: str, value: Any) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    if key == "peft.positions":
        return _POSITIONS.get(text, text)
    return text
