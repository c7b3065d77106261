"""Table of a sweep: one row per trial, and means over seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from rsft.recipe.text import to_yaml
from rsft.sweep.outcome import TrialOutcome, format_measure
from rsft.sweep.schema import Sweep
from rsft.utils.atomic_files import atomic_file, write_text

RESULTS, TABLE = "results.parquet", "results.md"


def results_table(sweep: Sweep, outcomes: Mapping[str, TrialOutcome]) -> pd.DataFrame:
    """Return the table of all trials.

    Args:
        sweep: the sweep.
        outcomes: outcomes by trial id.

    Returns:
        One row per trial. Columns: id, the keys of the sweep, status, reason, the metrics, seconds, run. The values of
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
    table = pd.DataFrame(rows, columns=None if rows else ["id", *sweep.keys, "status", "reason", "seconds", "run"])
    for key in sweep.keys:
        table[key] = unify_types(list(table[key]))
    return table


def unify_types(values: Sequence[Any]) -> list[Any]:
    """Return numbers unchanged; convert all values to text if one of them is not a number."""
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return list(values)
    return [value if isinstance(value, str) else to_yaml(value) for value in values]


def mean_over_seeds(table: pd.DataFrame, keys: Sequence[str], measures: Sequence[str]) -> pd.DataFrame:
    """Average the finished trials over seeds.

    Args:
        table: results, see `results_table`.
        keys: keys by which trials are grouped.
        measures: names of the measures.

    Returns:
        One row per combination of keys: the keys, the mean of each measure, and the number of `runs`.
    """
    groups = table[table["status"] == "done"].groupby(list(keys), sort=False, dropna=False)
    return groups[list(measures)].mean().assign(runs=groups.size()).reset_index()


def write_results(folder: Path, sweep: Sweep, table: pd.DataFrame, measures: Sequence[str]) -> dict[str, Path]:
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
    columns = [measure for measure in dict.fromkeys([sweep.metric, *measures]) if measure in table]
    means = mean_over_seeds(table, compared_keys(sweep), columns)
    if sweep.metric in columns:
        means = means.sort_values(sweep.metric, ascending=sweep.mode == "min", kind="stable")
    rows = [[format_measure(str(name), value) for name, value in row.items()] for row in means.to_dict("records")]
    lines = [f"| {' | '.join(cells)} |" for cells in [list(means.columns), ["---"] * len(means.columns), *rows]]
    for row in table[table["status"] != "done"].to_dict("records"):
        values = ", ".join(f"{key} {row[key]}" for key in sweep.keys)
        lines.append(f"\n{row['status'].capitalize()}: {values}: {row['reason']}")
    write_text(folder / TABLE, "\n".join(lines) + "\n")
    return {"results": folder / RESULTS, "table": folder / TABLE}


def compared_keys(sweep: Sweep) -> list[str]:
    """Return the keys by which results are compared: all keys of the sweep except the seed, or only the seed."""
    return [key for key in sweep.keys if key != "seed"] or sweep.keys
