"""Results of a sweep: the outcome of each trial, the table, and heat maps (paper, Figures 1c, 1d, S1, S2).

The outcome of a trial is one JSON file in its folder. These files alone decide which trials have ended.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from rsft.recipe.text import to_yaml
from rsft.sweep.schema import Sweep
from rsft.utils.atomic_files import atomic_file, write_text
from rsft.utils.untrusted.documents import parse_json

TRIALS, OUTCOME, RECIPE, ERRORS, LOCK = "trials", "trial.json", "recipe.yaml", "errors.txt", "lock"
"""Folder of all trials, and files in the folder of a trial. RECIPE is an ordinary recipe for `rsft finetune`."""


@dataclass(frozen=True)
class TrialOutcome:
    """Outcome of a trial.

    Attributes:
        keys: recipe keys that the sweep set.
        status: "done", "failed", or "stopped" by the scheduler of the sweep.
        reason: why it failed or was stopped; "" if it is done.
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
        return TrialOutcome(**parse_json((folder / OUTCOME).read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def describe_keys(keys: Mapping[str, Any]) -> str:
    """Return keys and values in one line."""
    return "  ".join(f"{key} {value}" for key, value in keys.items())


def format_measure(name: str, value: Any) -> str:
    """Return a value of a column as text: accuracies in %, losses with three digits."""
    if not isinstance(value, float) or "." in name or name == "seconds":
        return f"{value:g}" if isinstance(value, float) else str(value)
    return f"{value:.3f}" if name.endswith("loss") else f"{100 * value:.1f}"


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
