"""Write the page that compares several runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from rsft.errors import RequestError, RsftError
from rsft.evaluation.files import Comparison, compare_runs
from rsft.evaluation.report.charts.cost import cost_table, peak_memory_mb
from rsft.evaluation.report.charts.intervals import ACCURACY_LABELS, accuracy_plot
from rsft.evaluation.report.charts.pareto import ParetoPoint, pareto_plot
from rsft.evaluation.report.metric_tables import TableCell, format_interval
from rsft.evaluation.report.render import format_percent, write_page
from rsft.evaluation.report.run_files import RunFiles, read_run_files
from rsft.evaluation.report.run_maps import feature_section, modulator_section
from rsft.metrics.accuracy import AccuracySummary
from rsft.metrics.bootstrap import Interval
from rsft.recipe.text import to_yaml
from rsft.training.runs.reader import read_run_info, recipe_differences
from rsft.types import GROUPS

MAX_RUNS = len(ascii_uppercase)
"""Largest number of runs on a page, because a letter names each run."""

MEASURE_TITLES = {measure: label.capitalize() for measure, label in ACCURACY_LABELS.items()}


@dataclass(frozen=True)
class DifferenceCell:
    """The accuracy of a run minus that of the reference.

    Attributes:
        value: the difference in percentage points.
        interval: its 95 % interval in percentage points.
        is_significant: whether the interval excludes 0.
    """

    value: str
    interval: str
    is_significant: bool


def write_comparison(runs: Sequence[Path], page_path: Path) -> Path:
    """Write one page that compares runs with the first run.

    Args:
        runs: 2 to 26 different run folders; the first one is the reference.
        page_path: path of the page.

    Returns:
        The path of the page.

    Raises:
        RequestError: the number of runs is not 2 to 26, a run is repeated, or a folder is not a run folder.
        DataError: a file of a run is damaged.
    """
    if len(runs) < 2 or len(runs) > MAX_RUNS or len({run.resolve() for run in runs}) < len(runs):
        raise RequestError(
            f"{len(runs)} runs cannot be compared, or one of them is listed twice",
            ", ".join(map(str, runs)),
            f"name 2 to {MAX_RUNS} different runs",
        )
    return write_page(page_path, "compare.html", _page_content([read_run_files(run) for run in runs]))


def _page_content(runs: list[RunFiles]) -> dict[str, Any]:
    """Return the variables of the template."""
    letters = ascii_uppercase[: len(runs)]
    evaluated = {
        f"{letter} {run.name}": run.evaluation.summary
        for letter, run in zip(letters, runs, strict=True)
        if run.evaluation
    }
    costs = [cost_table(run) for run in runs]
    cost_names = dict.fromkeys(name for cost in costs for name in cost)
    return {
        "runs": [
            {
                "letter": letter,
                "name": run.name,
                "folder": str(run.folder),
                "method": run.evaluation.method if run.evaluation else run.recipe.peft.title,
                "status": run.metadata.status,
                "split": f"{run.evaluation.count:,} {run.evaluation.split}" if run.evaluation else "not evaluated",
            }
            for letter, run in zip(letters, runs, strict=True)
        ],
        "keys": _recipe_keys(runs),
        "rows": _accuracy_rows(runs),
        "plot": accuracy_plot(evaluated) if evaluated else None,
        "pairs": [_pair(runs[0], letter, run) for letter, run in zip(letters[1:], runs[1:], strict=True)],
        "measures": list(MEASURE_TITLES.values()),
        "pareto": _pareto_plots(runs),
        "features": feature_section(dict(zip(letters, runs, strict=True))),
        "modulators": modulator_section(dict(zip(letters, runs, strict=True))),
        "costs": {name: [cost.get(name, "–") for cost in costs] for name in cost_names},
        "several_machines": len({(r.metadata.machine, str(r.metadata.hardware), r.metadata.device) for r in runs}) > 1,
    }


def _recipe_keys(runs: Sequence[RunFiles]) -> dict[str, list[str]]:
    """Return the recipe keys that differ, with the value of each run."""
    differences = recipe_differences([read_run_info(run.folder) for run in runs])
    return {key: [to_yaml(value) for value in values] for key, values in differences.items()}


def _accuracy_rows(runs: Sequence[RunFiles]) -> list[tuple[str, list[TableCell | None]]]:
    """Return each measure with one cell per run; None if the measure is not defined or the run was not evaluated."""
    labels = MEASURE_TITLES | {"macro": "All classes (macro)", "macro_f1": "Macro F1", "top2": "Top 2"}
    rows: list[tuple[str, list[TableCell | None]]] = []
    for measure, label in labels.items():
        values = [_value(run.evaluation.summary, measure) if run.evaluation else None for run in runs]
        best = max((interval.value for interval in values if interval), default=None)
        cells = [None if interval is None else _accuracy_cell(interval, best) for interval in values]
        if any(cells):
            rows.append((label, cells))
    return rows


def _accuracy_cell(interval: Interval, best: float | None) -> TableCell:
    return TableCell(format_percent(interval.value), format_interval(interval), interval.value == best)


def _value(summary: AccuracySummary, measure: str) -> Interval | None:
    interval: Interval | None = getattr(summary, measure)
    return interval


def _pair(reference: RunFiles, letter: str, run: RunFiles) -> dict[str, Any]:
    """Return the differences of a run from the reference, or the reason why they cannot be compared."""
    try:
        comparison = compare_runs(run.folder, reference.folder)
    except RsftError as error:
        return {"letter": letter, "name": run.name, "reason": f"{error.message} ({error.location})"}
    test = comparison.paired.mcnemar["all"]
    return {
        "letter": letter,
        "name": run.name,
        "reason": "",
        "chips": comparison.count,
        "cells": [_difference_cell(comparison, measure) for measure in ACCURACY_LABELS],
        "mcnemar": f"{test.first:,} : {test.second:,}",
        "p": f"{test.p:.2g}",
    }


def _difference_cell(comparison: Comparison, measure: str) -> DifferenceCell | None:
    difference = comparison.paired.differences.get(measure)
    if difference is None:
        return None
    interval = f"{100 * difference.low:+.1f} to {100 * difference.high:+.1f}"
    return DifferenceCell(f"{100 * difference.value:+.1f}", interval, not difference.low <= 0 <= difference.high)


def _pareto_plots(runs: Sequence[RunFiles]) -> dict[str, Any]:
    """Return one plot per kind of cost. It shows the accuracy of the rarest group that all evaluated runs have."""
    summaries = {index: run.evaluation.summary for index, run in enumerate(runs) if run.evaluation}
    if not summaries:
        return {}
    shared = [group for group in GROUPS if all(getattr(summary, group) for summary in summaries.values())]
    measure = shared[-1] if shared else "macro"
    costs_by_name: dict[str, list[float | None]] = {
        "seconds": [run.metadata.seconds for run in runs],
        "trained parameters": [run.metadata.trained_parameters for run in runs],
        "peak memory, MB": [None if run.epochs is None else peak_memory_mb(run.epochs) for run in runs],
    }
    plots = {}
    for name, costs in costs_by_name.items():
        points = [
            ParetoPoint(ascii_uppercase[index], index, float(cost), getattr(summary, measure))
            for index, summary in summaries.items()
            if (cost := costs[index])
        ]
        if len(points) > 1:
            plots[name] = pareto_plot(points, f"{measure} accuracy", name)
    return plots
