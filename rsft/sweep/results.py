"""The table of a sweep: a row a trial, from the files in their folders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from rsft.recipe.text import show
from rsft.sweep.outcome import Outcome
from rsft.sweep.schema import Sweep
from rsft.utils.atomic_files import replacing, write_text

RESULTS, TABLE = "results.parquet", "results.md"


def results_table(sweep: Sweep, outcomes: Mapping[str, Outcome]) -> pd.DataFrame:
    """Columns: id, the keys that vary, status, reason, the metrics, seconds, run. Values of a key are numbers, or text
    as soon as one of them is.
    """
    rows = [
        {
            "id": id,
            **{key: outcome.keys.get(key) for key in sweep.keys},
            "status": outcome.status,
            "reason": outcome.reason,
            **outcome.metrics,
            "seconds": outcome.seconds,
            "run": outcome.run,
        }
        for id, outcome in outcomes.items()
    ]
    table = pd.DataFrame(rows, columns=None if rows else ["id", *sweep.keys, "status", "reason", "seconds", "run"])
    for key in sweep.keys:
        table[key] = alike(list(table[key]))
    return table


def alike(values: Sequence[Any]) -> list[Any]:
    """Numbers as they are; with another kind among them, all as text."""
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return list(values)
    return [value if isinstance(value, str) else show(value) for value in values]


def mean_over_seeds(table: pd.DataFrame, keys: Sequence[str], measures: Sequence[str]) -> pd.DataFrame:
    """Of the trials that are done: by the keys, in their order, the mean of each measure, and the number of `runs`."""
    groups = table[table["status"] == "done"].groupby(list(keys), sort=False, dropna=False)
    return groups[list(measures)].mean().assign(runs=groups.size()).reset_index()


def write_results(folder: Path, sweep: Sweep, table: pd.DataFrame, measures: Sequence[str]) -> dict[str, Path]:
    """The table as Parquet, and its means over seeds as Markdown, best first, with what failed below."""
    with replacing(folder / RESULTS) as temporary:
        table.to_parquet(temporary, index=False)
    known = [measure for measure in dict.fromkeys([sweep.metric, *measures]) if measure in table]
    means = mean_over_seeds(table, varied(sweep), known)
    if sweep.metric in known:
        means = means.sort_values(sweep.metric, ascending=sweep.mode == "min", kind="stable")
    lines = [_row(means.columns), _row(["---"] * len(means.columns))]
    lines += [_row(as_text(str(name), value) for name, value in row.items()) for row in means.to_dict("records")]
    failed = table[table["status"] == "failed"].to_dict("records")
    lines += [f"\nFailed: {', '.join(f'{key} {row[key]}' for key in sweep.keys)}: {row['reason']}" for row in failed]
    write_text(folder / TABLE, "\n".join(lines) + "\n")
    return {"results": folder / RESULTS, "table": folder / TABLE}


def varied(sweep: Sweep) -> list[str]:
    """The keys over which results are compared: those that vary, without the seed unless it is alone."""
    return [key for key in sweep.keys if key != "seed"] or sweep.keys


def as_text(name: str, value: Any) -> str:
    """A measure in %, a loss as it is; anything else as it stands."""
    if not isinstance(value, float) or "." in name or name == "seconds":
        return f"{value:g}" if isinstance(value, float) else str(value)
    return f"{value:.3f}" if name.endswith("loss") else f"{100 * value:.1f}"


def _row(cells: Any) -> str:
    return f"| {' | '.join(map(str, cells))} |"
