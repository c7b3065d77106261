"""Prepare the maps of several runs for the comparison page: features and modulators side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rsft.evaluation.report.charts.scale_history import ModulatorMap
from rsft.evaluation.report.charts.tsne_map import ChipMap, linked_maps_data
from rsft.evaluation.report.run_files import RunFiles

MAX_FEATURE_MAPS = 6
"""Largest number of feature maps on a page. A map has up to 1,500 chips."""


def modulator_map(run: RunFiles) -> ModulatorMap | None:
    """Return the map of the learned scales; None if the run has no modulator, or its table is missing or not finite.

    Args:
        run: files of the run.
    """
    meta, scales = run.recipe.meta, run.scales
    if meta is None or scales is None or scales["value"].isna().any():
        return None
    return ModulatorMap(scales, meta.init_scale, run.metadata.stage_depths)


def feature_section(runs: Mapping[str, RunFiles]) -> dict[str, Any] | None:
    """Return the variables of the section with one map of the adapted features for each run.

    The maps show the chips of the first run that has a map. A run with other chips has no map, but a reason.

    Args:
        runs: files of each run by its letter.

    Returns:
        Heading, title and chart of each map, legend, counts by class, data for map.js, and reasons for missing maps;
        None if no run has a map.
    """
    maps, reasons = _comparable_maps(runs)
    if not maps:
        return None
    first = next(iter(maps.values()))
    titles = {letter: _title(letter, runs[letter]) for letter in maps}
    return {
        "figures": [
            (titles[letter], f"Features of {titles[letter]}", chip_map.figure("adapted", titles[letter]))
            for letter, chip_map in maps.items()
        ],
        "legend": first.legend(),
        "counts": first.counts,
        "data": linked_maps_data([(chip_map, "adapted") for chip_map in maps.values()], list(maps)),
        "chips": len(first.paths),
        "reasons": reasons,
    }


def modulator_section(runs: Mapping[str, RunFiles]) -> dict[str, Any] | None:
    """Return the variables of the section with the learned scales of each run that has a modulator.

    The colors of all maps cover the same distance from the initial scale.

    Args:
        runs: files of each run by its letter.

    Returns:
        Figures and summaries by title, and by position one cell for each map: mean, lowest and highest scale; None if
        no run has a modulator.
    """
    maps = {letter: found for letter, run in runs.items() if (found := modulator_map(run)) is not None}
    if not maps:
        return None
    widest = max(scale_map.color_range for scale_map in maps.values())
    for scale_map in maps.values():
        scale_map.color_range = widest
    by_position = {
        letter: {name: (mean, f"{low:.2f} to {high:.2f}") for name, mean, low, high in scale_map.by_position()}
        for letter, scale_map in maps.items()
    }
    positions = dict.fromkeys(name for values in by_position.values() for name in values)
    return {
        "figures": {_title(letter, runs[letter]): scale_map.figure() for letter, scale_map in maps.items()},
        "summaries": {letter: scale_map.summary() for letter, scale_map in maps.items()},
        "without": [letter for letter in runs if letter not in maps],
        "letters": list(maps),
        "positions": {name: [by_position[letter].get(name) for letter in maps] for name in positions},
    }


def _title(letter: str, run: RunFiles) -> str:
    method = run.evaluation.method if run.evaluation else run.recipe.peft.title
    return f"{letter}: {method} ({run.name})"


def _comparable_maps(runs: Mapping[str, RunFiles]) -> tuple[dict[str, ChipMap], dict[str, str]]:
    """Return the maps of the runs with the same chips as the first map, and why other runs have none."""
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
    return maps, reasons
