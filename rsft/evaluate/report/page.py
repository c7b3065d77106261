"""The page itself: what stands in each section, and why a section is left out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from rsft.evaluate.report.classes import class_rows, frequent_mistakes, group_of, order_by_training
from rsft.evaluate.report.confusion import LABELLED, confusion_matrix
from rsft.evaluate.report.curves import accuracy_curves, loss_curves
from rsft.evaluate.report.files import Evaluation, RunFiles, read_run
from rsft.evaluate.report.intervals import interval_plot
from rsft.evaluate.report.measures import measure_rows, tiles
from rsft.evaluate.report.modulator import ModulatorMap
from rsft.evaluate.report.words import describe, duration, listed, size, verdict
from rsft.files import write_text
from rsft.metrics.accuracy import GROUPS


def write_report(run: Path) -> Path:
    """Write `run`/report.html from the other files of the run folder, and return its path.

    Raises:
        RequestError: `run` is no run folder.
        DataError: one of its files is damaged.
    """
    environment = Environment(
        loader=PackageLoader("rsft.evaluate.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    path = run / "report.html"
    write_text(path, environment.get_template("template.html").render(_sections(read_run(run))))
    return path


def _sections(run: RunFiles) -> dict[str, Any]:
    """What the template is filled with; a section is None where its file is not there."""
    number = run.folder.resolve().name
    return {
        "name": run.recipe.name,
        "number": number,
        "place": f"runs/{run.recipe.name}/{number}",
        "status": run.facts.status,
        "method": describe(run.recipe),
        "facts": _facts(run),
        "results": _results(run.evaluation) if run.evaluation else None,
        "curves": _curves(run),
        "modulator": _modulator(run),
        "modulated": run.recipe.meta is not None,
        "cost": _cost(run),
        "origin": _origin(run),
        "data": run.evaluation.data if run.evaluation else run.recipe.data.root,
        "recipe": run.recipe_text,
    }


def _facts(run: RunFiles) -> dict[str, str]:
    """The lines under the title."""
    facts, evaluation = run.facts, run.evaluation
    chips = {"training": facts.train_chips, "validation": facts.val_chips}
    if evaluation:
        chips[evaluation.split] = evaluation.count
    found = {"Data": Path(evaluation.data if evaluation else run.recipe.data.root).name}
    found["Chips"] = ", ".join(f"{count:,} {split}" for split, count in chips.items() if count is not None)
    if evaluation:
        sizes = [f"{len(indices)} {group}" for group in GROUPS if (indices := evaluation.groups.get(group))]
        found["Classes"] = f"{len(evaluation.classes)}" + (f" ({listed(sizes)})" if sizes else "")
    found["Started"] = f"{facts.started:%Y-%m-%d %H:%M}"
    return {key: value for key, value in found.items() if value}


def _results(evaluation: Evaluation) -> dict[str, Any]:
    order = order_by_training(evaluation)
    groups = [group_of(evaluation, index) for index in order]
    bounds = [place for place in range(1, len(order)) if groups[place] != groups[place - 1]]
    absent = [name for name, row in zip(evaluation.classes, evaluation.confusion, strict=True) if not sum(row)]
    return {
        "verdict": verdict(evaluation),
        "tiles": tiles(evaluation),
        "methods": list(evaluation.methods),
        "rows": measure_rows(evaluation),
        "plot": interval_plot(evaluation.methods),
        "classes": class_rows(evaluation),
        "absent": listed(absent) if absent else "",
        "matrix": confusion_matrix(
            np.array(evaluation.confusion)[np.ix_(order, order)], [evaluation.classes[index] for index in order], bounds
        ),
        "labelled": len(order) <= LABELLED,
        "mistakes": frequent_mistakes(evaluation),
        "split": evaluation.split,
    }


def _curves(run: RunFiles) -> Sequence[Any] | None:
    if run.epochs is None:
        return None
    return [chart for chart in (loss_curves(run.epochs), accuracy_curves(run.epochs)) if chart is not None]


def _modulator(run: RunFiles) -> ModulatorMap | None:
    meta, scales = run.recipe.meta, run.scales
    if meta is None or scales is None or scales["value"].isna().any():
        return None
    return ModulatorMap(scales, meta.init)


def _cost(run: RunFiles) -> dict[str, str]:
    facts, found = run.facts, {}
    if facts.seconds is not None:
        found["Time of the run"] = duration(facts.seconds)
    if run.epochs is not None:
        found["Epochs"] = f"{len(run.epochs)}, each {duration(run.epochs['seconds'].median())} (median)"
        found["Training speed"] = f"{run.epochs['images_per_s'].median():,.0f} images/s (median)"
    if facts.trained_parameters is not None:
        share = f" of {facts.total_parameters:,}" if facts.total_parameters else ""
        found["Trained parameters"] = f"{facts.trained_parameters:,}{share} (adapter and head)"
    if facts.modulator_parameters:
        found["Modulator"] = f"{facts.modulator_parameters:,} scalars"
    if run.bundle_bytes is not None:
        found["Bundle"] = size(run.bundle_bytes)
    if facts.device:
        found["Device"] = facts.device
    return found


def _origin(run: RunFiles) -> dict[str, str]:
    """What must be the same for the same numbers."""
    facts = run.facts
    found = {"Seed": str(run.recipe.seed), "Backbone": run.recipe.backbone.name}
    hashes = {"Backbone SHA-256": facts.backbone_sha256, "Bundle SHA-256": facts.bundle_sha256}
    found |= {label: value for label, value in hashes.items() if value}
    found |= dict(facts.versions)
    return found | ({"machine": facts.machine} if facts.machine else {})
