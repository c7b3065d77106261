"""The page that puts runs side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from rsft.errors import RequestError, RsftError
from rsft.evaluation.paired_comparison import Comparison, compare_runs
from rsft.evaluation.report.charts.cost import cost_facts, peak_memory
from rsft.evaluation.report.charts.intervals import MEASURES, accuracy_plot
from rsft.evaluation.report.charts.pareto import Point, pareto_plot
from rsft.evaluation.report.formatting import percent
from rsft.evaluation.report.render import write_page
from rsft.evaluation.report.run_files import RunFiles, read_run
from rsft.evaluation.report.schema import Interval, Summary
from rsft.evaluation.report.sections.metric_table import Cell, interval
from rsft.recipe.text import show
from rsft.training.runs.reader import differences
from rsft.training.runs.reader import read_run as read_info
from rsft.types import GROUPS

MOST = len(ascii_uppercase)
TITLES = {measure: label.capitalize() for measure, label in MEASURES.items()}


@dataclass(frozen=True)
class Difference:
    """A run less the reference, in points; `decided` says whether the interval leaves 0 out."""

    value: str
    interval: str
    decided: bool


def write_comparison(runs: Sequence[Path], out: Path) -> Path:
    """Write one page of several runs, the first of which the others are compared with, and return its path.

    Raises:
        RequestError: fewer than two runs or more than 26, one twice, or a folder that is no run.
        DataError: a file of a run is damaged.
    """
    if len(runs) < 2 or len(runs) > MOST or len({run.resolve() for run in runs}) < len(runs):
        raise RequestError(
            f"{len(runs)} runs cannot be compared, or one stands there twice",
            ", ".join(map(str, runs)),
            f"name 2 to {MOST} different runs",
        )
    return write_page(out, "compare.html", _sections([read_run(run) for run in runs]))


def _sections(runs: list[RunFiles]) -> dict[str, Any]:
    letters = ascii_uppercase[: len(runs)]
    evaluated = {
        f"{letter} {run.name}": run.evaluation.summary
        for letter, run in zip(letters, runs, strict=True)
        if run.evaluation
    }
    costs = [cost_facts(run) for run in runs]
    names = dict.fromkeys(name for cost in costs for name in cost)
    return {
        "runs": [
            {
                "letter": letter,
                "name": run.name,
                "folder": str(run.folder),
                "method": run.evaluation.method if run.evaluation else run.recipe.peft.title,
                "status": run.facts.status,
                "split": f"{run.evaluation.count:,} {run.evaluation.split}" if run.evaluation else "not evaluated",
            }
            for letter, run in zip(letters, runs, strict=True)
        ],
        "keys": _keys(runs),
        "rows": _rows(runs),
        "plot": accuracy_plot(evaluated) if evaluated else None,
        "pairs": [_pair(runs[0], letter, run) for letter, run in zip(letters[1:], runs[1:], strict=True)],
        "measures": list(TITLES.values()),
        "pareto": _pareto(runs),
        "costs": {name: [cost.get(name, "–") for cost in costs] for name in names},
        "machines": len({(run.facts.machine, str(run.facts.hardware), run.facts.device) for run in runs}) > 1,
    }


def _keys(runs: Sequence[RunFiles]) -> dict[str, list[str]]:
    """Keys of the recipes that differ."""
    found = differences([read_info(run.folder) for run in runs])
    return {key: [show(value) for value in values] for key, values in found.items()}


def _rows(runs: Sequence[RunFiles]) -> list[tuple[str, list[Cell | None]]]:
    """Measure, then a cell a run; None where it is not defined or the run was not evaluated."""
    labels = TITLES | {"macro": "All classes (macro)", "macro_f1": "Macro F1", "top2": "Top 2"}
    rows: list[tuple[str, list[Cell | None]]] = []
    for measure, label in labels.items():
        found = [_value(run.evaluation.summary, measure) if run.evaluation else None for run in runs]
        best = max((spread.value for spread in found if spread), default=None)
        cells = [Cell(percent(s.value), interval(s), s.value == best) if s else None for s in found]
        if any(cells):
            rows.append((label, cells))
    return rows


def _value(summary: Summary, measure: str) -> Interval | None:
    found: Interval | None = getattr(summary, measure)
    return found


def _pair(reference: RunFiles, letter: str, run: RunFiles) -> dict[str, Any]:
    """The run less the reference, or why they cannot be compared."""
    try:
        comparison = compare_runs(run.folder, reference.folder)
    except RsftError as error:
        return {"letter": letter, "name": run.name, "reason": f"{error.what} ({error.where})"}
    test = comparison.paired.mcnemar["all"]
    return {
        "letter": letter,
        "name": run.name,
        "reason": "",
        "chips": comparison.count,
        "cells": [_difference(comparison, measure) for measure in MEASURES],
        "mcnemar": f"{test.first:,} : {test.second:,}",
        "p": f"{test.p:.2g}",
    }


def _difference(comparison: Comparison, measure: str) -> Difference | None:
    found = comparison.paired.differences.get(measure)
    if found is None:
        return None
    spread = f"{100 * found.low:+.1f} to {100 * found.high:+.1f}"
    return Difference(f"{100 * found.value:+.1f}", spread, not found.low <= 0 <= found.high)


def _pareto(runs: Sequence[RunFiles]) -> dict[str, Any]:
    """A plot by kind of cost, of the rarest group that all evaluated runs have."""
    summaries = {place: run.evaluation.summary for place, run in enumerate(runs) if run.evaluation}
    if not summaries:
        return {}
    measure = next(
        (group for group in reversed(GROUPS) if all(getattr(own, group) for own in summaries.values())), "macro"
    )
    kinds: dict[str, list[float | None]] = {
        "seconds": [run.facts.seconds for run in runs],
        "trained parameters": [run.facts.trained_parameters for run in runs],
        "peak memory, MB": [None if run.epochs is None else peak_memory(run.epochs) for run in runs],
    }
    plots = {}
    for name, costs in kinds.items():
        points = [
            Point(ascii_uppercase[place], place, float(cost), getattr(own, measure))
            for place, own in summaries.items()
            if (cost := costs[place])
        ]
        if len(points) > 1:
            plots[name] = pareto_plot(points, f"{measure} accuracy", name)
    return plots
