"""Prepare the replay check of a run that started at a bundle."""

from __future__ import annotations

from typing import Any

from rsft.evaluation.report.formatting import format_percent
from rsft.evaluation.report.run_files import RunFiles
from rsft.training.runs.replay_check import TERMS, PartReplay


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
