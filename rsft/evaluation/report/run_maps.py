"""Prepare the maps of several runs for the comparison page: features and modulators side by side.

Prepare the replay check of a run that started at a bundle.

Keep maps of classified scenes in a run folder, and read them for the report.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from rsft.errors import DataError
from rsft.evaluation.report.charts.scale_history import ModulatorMap
from rsft.evaluation.report.charts.tsne_map import ChipMap, linked_maps_data
from rsft.evaluation.report.render import format_percent, pluralize
from rsft.evaluation.report.run_files import RunFiles, read_json_list
from rsft.training.runs.replay_check import TERMS, PartReplay
from rsft.utils.atomic_files import atomic_folder

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


def replay_section(run: RunFiles) -> dict[str, Any] | None:
    """Return the variables of the section on gained and lost chips.

    Args:
        run: files of the run.

    Returns:
        The old bundle, sentences, the meaning of the terms, and one table per part ("parts", None without replay.json);
        None if the run did not start at a bundle.
    """
    if run.recipe.train.start_bundle is None:
        return None
    start = run.metadata.start.get("bundle", run.recipe.train.start_bundle)
    section: dict[str, Any] = {"start": start, "sentences": [], "parts": None}
    if run.replay is None:
        return section
    return section | {
        "sentences": [sentence[0].upper() + sentence[1:] for sentence in run.replay.sentences()],
        "terms": TERMS,
        "parts": [{"name": part.name, "chips": part.chips, "rows": _rows(part)} for part in run.replay.parts],
    }


def _rows(part: PartReplay) -> list[dict[str, Any]]:
    """Return one row per class, and one for all of them; the cells are those of the terminal."""
    rows = [
        {
            "name": item.name,
            "cells": _cells(item.chips, item.before, item.after, item.gained, item.lost, item.p),
            "warning": "lost more than chance explains" if item.lost_more_than_chance else "",
        }
        for item in part.classes
    ]
    total = _cells(part.chips, part.macro_before, part.macro_after, part.gained, part.lost, part.p)
    return [*rows, {"name": "All (mean recall)", "cells": total, "warning": ""}]


def _cells(chips: int, before: float | None, after: float | None, gained: int, lost: int, p: float) -> list[str]:
    recalls = ["–" if value is None else format_percent(value) for value in (before, after)]
    return [f"{chips:,}", *recalls, f"{gained:,}", f"{lost:,}", f"{p:.2g}"]


MAPS_DIR, MAPS_FILE = "maps", "maps.json"
"""Subfolder of a run folder, and the file in it that lists the maps; the pictures are 1.png, 2.png, ..."""

_WEBP_QUALITY = 85


@dataclass(frozen=True)
class SceneMap:
    """A map of a scene in which the bundle of a run classified chips.

    Attributes:
        scene: name of the scene.
        chips: number of classified chips.
        ood: number of them that are unlike the training chips; None if the bundle is not calibrated.
        truth: comparison with the truth, in short lines; empty without a truth.
    """

    scene: str
    chips: int
    ood: int | None
    truth: list[str]

    @property
    def caption(self) -> str:
        """The numbers in sentences."""
        unlike = "" if self.ood is None else f", {self.ood:,} of them unlike the training chips (gray)"
        truth = f" Compared with the truth: {'; '.join(self.truth)}." if self.truth else ""
        return f"{self.scene}: {pluralize(self.chips, 'classified object')}{unlike}.{truth}"


@dataclass(frozen=True)
class ShownMap:
    """A map on the page.

    Attributes:
        caption: the numbers in sentences.
        picture: data URI of the picture.
    """

    caption: str
    picture: str


def save_scene_maps(run: Path, maps: Sequence[tuple[SceneMap, bytes]]) -> None:
    """Replace the maps in a run folder, all of them or none.

    Args:
        run: the run folder.
        maps: the numbers of every scene, and its picture as PNG.
    """
    with atomic_folder(run / MAPS_DIR) as folder:
        for number, (_, picture) in enumerate(maps, 1):
            (folder / f"{number}.png").write_bytes(picture)
        (folder / MAPS_FILE).write_text(json.dumps([asdict(item) for item, _ in maps], indent=1), encoding="utf-8")


def read_scene_maps(run: Path) -> list[ShownMap]:
    """Read the maps in a run folder.

    Args:
        run: the run folder.

    Returns:
        The maps for the page; empty if the run has none.

    Raises:
        DataError: a file is damaged or missing.
    """
    listing = run / MAPS_DIR / MAPS_FILE
    maps = read_json_list(listing, SceneMap) if listing.is_file() else []
    return [
        ShownMap(item.caption, _data_uri(listing.with_name(f"{number}.png"))) for number, item in enumerate(maps, 1)
    ]


def _data_uri(path: Path) -> str:
    """Return a picture as WebP in a data URI, which is several times smaller than the PNG."""
    data = np.frombuffer(path.read_bytes(), np.uint8) if path.is_file() else np.empty(0, np.uint8)
    picture = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    if picture is None:
        raise DataError(
            "the picture of a map is damaged or missing", path, "write it again: rsft report RUN --map TABLE"
        )
    encoded = cv2.imencode(".webp", picture, [cv2.IMWRITE_WEBP_QUALITY, _WEBP_QUALITY])[1]
    return f"data:image/webp;base64,{base64.b64encode(encoded.tobytes()).decode('ascii')}"
