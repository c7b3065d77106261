"""The results of a sweep as tables: one row per trial, and means over seeds."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from rsft.evaluation.files import write_parquet
from rsft.plugins.sweeps.sweep_file import Sweep
from rsft.recipe.text import to_yaml
from rsft.study.outcomes import TrialOutcome, format_measure
from rsft.utils.atomic_files import write_text
from rsft.utils.templates import render_template

RESULTS = "results.parquet"
TABLE = "results.md"


def results_table(sweep: Sweep, outcomes: Mapping[str, TrialOutcome]) -> pd.DataFrame:
    """Return the table of all trials, given their outcomes by trial id.

    Returns:
        One row per trial. Columns: id, the keys of the sweep, status, reason, the
            metrics, seconds, run. The values of a key are numbers, or text if one of
            them is not a number.
    """
    rows = []
    for id, outcome in outcomes.items():
        row = {"id": id, **{key: outcome.keys.get(key) for key in sweep.keys}}
        row |= {"status": outcome.status, "reason": outcome.reason}
        row |= outcome.metrics
        rows.append(row | {"seconds": outcome.seconds, "run": outcome.run})
    columns = ["id", *sweep.keys, "status", "reason", "seconds", "run"]
    table = pd.DataFrame(rows) if rows else pd.DataFrame(columns=columns)
    for key in sweep.keys:
        table[key] = unify_types(list(table[key]))
    return table


def unify_types(values: Sequence[Any]) -> list[Any]:
    """Return numbers unchanged; all as text if one of them is not a number."""
    if all(type(value) in (int, float) for value in values):
        return list(values)
    return [value if isinstance(value, str) else to_yaml(value) for value in values]


def compared_keys(sweep: Sweep) -> list[str]:
    """Return the keys by which results are compared: all but the seed, or the seed."""
    return [key for key in sweep.keys if key != "seed"] or sweep.keys


def mean_over_seeds(
    table: pd.DataFrame, keys: Sequence[str], measures: Sequence[str]
) -> pd.DataFrame:
    """Average the finished trials of `results_table` over seeds.

    Returns:
        One row per combination of `keys`: the keys, the mean of each measure, and the
            number of `runs`.
    """
    done = table[table["status"] == "done"]
    groups = done.groupby(list(keys), sort=False, dropna=False)
    means = groups[list(measures)].mean()
    return means.assign(runs=groups.size()).reset_index()


def write_results(
    folder: Path, sweep: Sweep, table: pd.DataFrame, measures: Sequence[str]
) -> dict[str, Path]:
    """Write the table as Parquet, and its means over seeds as Markdown.

    The best mean is first; the trials that did not finish are listed below.

    Args:
        folder: folder of the sweep.
        sweep: the sweep.
        table: results, see `results_table`.
        measures: names of the measures.

    Returns:
        Paths by name.
    """
    paths = {"results": folder / RESULTS, "table": folder / TABLE}
    write_parquet(paths["results"], table)
    columns = [x for x in dict.fromkeys([sweep.metric, *measures]) if x in table]
    means = mean_over_seeds(table, compared_keys(sweep), columns)
    if sweep.metric in columns:
        means = means.sort_values(
            sweep.metric, ascending=sweep.mode == "min", kind="stable"
        )
    text = render_template(
        __package__,
        "results.md.jinja",
        names=list(means),
        means=means.to_dict("records"),
        format_measure=format_measure,
        keys=sweep.keys,
        unfinished=table[table["status"] != "done"].to_dict("records"),
    )
    write_text(paths["table"], text)
    return paths
