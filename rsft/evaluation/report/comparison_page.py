"""Write the page that compares several runs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from rsft.errors import RequestError, RsftError
from rsft.evaluation.files import compare_runs
from rsft.evaluation.report.charts import ParetoPoint, accuracy_plot, pareto_plot
from rsft.evaluation.report.metric_tables import ACCURACIES, TableCell, accuracy_cells, cost_table, peak_memory_mb
from rsft.evaluation.report.render import write_page
from rsft.evaluation.report.run_files import RunFiles, read_run_files
from rsft.evaluation.report.site_maps import ModulatorMap
from rsft.evaluation.report.tsne_map import ChipMap, linked_maps_data
from rsft.recipe.text import to_yaml
from rsft.training.runs.reader import read_run_info, recipe_differences
from rsft.types import GROUPS

MAX_RUNS = len(ascii_uppercase)
"""Largest number of runs on a page, because a letter names each run."""

MAX_FEATURE_MAPS = 6
"""Largest number of feature maps on a page. A map has up to 1,500 chips."""


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
    files = [read_run_files(run) for run in runs]
    by_letter = dict(zip(ascii_uppercase, files, strict=False))
    evaluated = {f"{x} {run.name}": run.evaluation.summary for x, run in by_letter.items() if run.evaluation}
    differences = recipe_differences([read_run_info(run) for run in runs])
    costs = [cost_table(run) for run in files]
    machines = {(run.metadata.machine, str(run.metadata.hardware), run.metadata.device) for run in files}
    content = {
        "runs": by_letter,
        "reference": files[0],
        "keys": {key: [to_yaml(value) for value in values] for key, values in differences.items()},
        "rows": _accuracy_rows(files),
        "plot": accuracy_plot(evaluated) if evaluated else None,
        "pairs": [_pair(files[0], letter, run) for letter, run in list(by_letter.items())[1:]],
        "measures": ACCURACIES,
        "pareto": _pareto_plots(by_letter),
        "features": _feature_section(by_letter),
        "modulators": _modulator_section(by_letter),
        "costs": {name: [cost.get(name, "–") for cost in costs] for name in dict.fromkeys(n for c in costs for n in c)},
        "several_machines": len(machines) > 1,
    }
    return write_page(page_path, "compare.html", content)


def _accuracy_rows(runs: Sequence[RunFiles]) -> list[tuple[str, list[TableCell | None]]]:
    """Return each measure with one cell per run; None if the measure is not defined or the run was not evaluated."""
    labels = ACCURACIES | {"macro": "All classes (macro)", "macro_f1": "Macro F1", "top2": "Top 2"}
    rows = []
    for measure, label in labels.items():
        values = [getattr(run.evaluation.summary, measure) if run.evaluation else None for run in runs]
        best = max((interval.value for interval in values if interval), default=None)
        if best is not None:
            rows.append((label, accuracy_cells(values, [best] * len(values))))
    return rows


def _pair(reference: RunFiles, letter: str, run: RunFiles) -> dict[str, Any]:
    """Return the differences of a run from the reference, or the reason why they cannot be compared."""
    try:
        comparison = compare_runs(run.folder, reference.folder)
    except RsftError as error:
        return {"letter": letter, "name": run.name, "reason": f"{error.message} ({error.location})"}
    paired = comparison.paired
    cells = [paired.differences.get(measure) for measure in ACCURACIES]
    return {"letter": letter, "name": run.name, "reason": "", "cells": cells, "test": paired.mcnemar["all"]}


def _pareto_plots(runs: Mapping[str, RunFiles]) -> dict[str, Any]:
    """Return one plot per kind of cost. It shows the accuracy of the rarest group that all evaluated runs have."""
    summaries = {letter: run.evaluation.summary for letter, run in runs.items() if run.evaluation}
    shared = [group for group in GROUPS if all(getattr(summary, group) for summary in summaries.values())]
    measure = shared[-1] if shared else "macro"
    costs_by_name: dict[str, list[float | None]] = {
        "seconds": [run.metadata.seconds for run in runs.values()],
        "trained parameters": [run.metadata.trained_parameters for run in runs.values()],
        "peak memory, MB": [None if x.epochs is None else peak_memory_mb(x.epochs) for x in runs.values()],
    }
    plots = {}
    for name, costs in costs_by_name.items():
        points = [
            ParetoPoint(letter, index, float(cost), getattr(summaries[letter], measure))
            for index, (letter, cost) in enumerate(zip(runs, costs, strict=True))
            if cost and letter in summaries
        ]
        if len(points) > 1:
            plots[name] = pareto_plot(points, f"{measure} accuracy", name)
    return plots


def _feature_section(runs: Mapping[str, RunFiles]) -> dict[str, Any] | None:
    """Return the variables of the section with one map of the adapted features for each run; None without a map.

    The maps show the chips of the first run that has a map. A run with other chips has no map, but a reason.
    """
    maps: dict[str, ChipMap] = {}
    reasons: dict[str, str] = {}
    for letter, run in runs.items():
        if run.embedding is None or run.evaluation is None:
            reasons[letter] = "evaluation/embedding.parquet is missing; write it with rsft evaluate"
            continue
        chip_map = ChipMap(run.embedding, run.evaluation, run.predictions)
        first = next(iter(maps.values()), chip_map)
        if (chip_map.paths, chip_map.classes) != (first.paths, first.classes):
            reasons[letter] = f"its chips or classes differ from those of {next(iter(maps))}"
        elif len(maps) == MAX_FEATURE_MAPS:
            reasons[letter] = f"a page has at most {MAX_FEATURE_MAPS} maps"
        else:
            maps[letter] = chip_map
    if not maps:
        return None
    first = next(iter(maps.values()))
    titles = {letter: f"{letter}: {runs[letter].method} ({runs[letter].name})" for letter in maps}
    return {
        "figures": [(title, f"Features of {title}", maps[x].figure("adapted", title)) for x, title in titles.items()],
        "legend": first.legend(),
        "counts": first.counts,
        "data": linked_maps_data([(chip_map, "adapted") for chip_map in maps.values()], list(maps)),
        "chips": len(first.paths),
        "reasons": reasons,
    }


def _modulator_section(runs: Mapping[str, RunFiles]) -> dict[str, Any] | None:
    """Return the variables of the section with the learned scales of each run; None if no run has a modulator.

    The colors of all maps cover the same distance from the initial scale.
    """
    maps = {x: scale_map for x, run in runs.items() if (scale_map := ModulatorMap.of_run(run)) is not None}
    if not maps:
        return None
    widest = max(scale_map.color_range for scale_map in maps.values())
    for scale_map in maps.values():
        scale_map.color_range = widest
    by_position = [{name: numbers for name, *numbers in scale_map.by_position()} for scale_map in maps.values()]
    positions = dict.fromkeys(name for values in by_position for name in values)
    return {
        "maps": maps,
        "without": [letter for letter in runs if letter not in maps],
        "positions": {name: [values.get(name) for values in by_position] for name in positions},
    }
