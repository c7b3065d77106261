"""The page of a run: what stands in each section, and why a section is left out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rsft.data.chips.store import ChipStore
from rsft.errors import RsftError
from rsft.evaluation.report.charts.bars import class_bars
from rsft.evaluation.report.charts.confusion import LABELLED, confusion_matrix
from rsft.evaluation.report.charts.cost import cost_facts, phase_bar
from rsft.evaluation.report.charts.coverage import coverage_plot, coverage_rows, scarce_classes
from rsft.evaluation.report.charts.curves import accuracy_curves, loss_curves
from rsft.evaluation.report.charts.intervals import accuracy_plot
from rsft.evaluation.report.charts.reliability import reliability_bins, reliability_diagram
from rsft.evaluation.report.charts.scale_history import ModulatorMap
from rsft.evaluation.report.charts.site_heatmap import contribution_map
from rsft.evaluation.report.charts.tsne_map import SHEET_COLUMNS, SHEET_SIDE, ChipMap, distance_rows
from rsft.evaluation.report.class_tables import class_rows, frequent_mistakes, group_of, order_by_training
from rsft.evaluation.report.formatting import listed, verdict
from rsft.evaluation.report.recipe_text import describe
from rsft.evaluation.report.render import write_page
from rsft.evaluation.report.run_files import RunFiles, read_run
from rsft.evaluation.report.schema import Evaluation
from rsft.evaluation.report.sections.dataset import Pictures, describe_store, open_store
from rsft.evaluation.report.sections.gallery import make_gallery
from rsft.evaluation.report.sections.metric_table import measure_rows, tiles
from rsft.types import GROUPS, Progress

REPORT = "report.html"


def write_report(
    run: Path, data: Path | None = None, *, pictures: bool = True, progress: Progress | None = None
) -> Path:
    """Write `run`/report.html from the run's folder and, where it still lies, its chip store; return the page's path.

    Args:
        run: the folder of a run.
        data: where the chips are now; None looks where they were.
        pictures: whether small pictures of chips go into the page.
        progress: told of chips that are read.

    Raises:
        RequestError: `run` is no run folder.
        DataError: one of its files is damaged.
    """
    files = read_run(run)
    store, absent = _store(files, data)
    chips = None
    if store and pictures:
        try:
            chips = Pictures(files, store, progress)
        except RsftError as error:
            absent = f"No pictures of chips: {error}."
    elif not pictures:
        absent = "Pictures of chips were left out on request."
    return write_page(run / REPORT, "run.html", _sections(files, store, chips, absent))


def _store(run: RunFiles, data: Path | None) -> tuple[ChipStore | None, str]:
    """The chip store, and why there is none."""
    try:
        return open_store(run, data), ""
    except RsftError as error:
        return None, f"The chips were not found ({error.what}: {error.where}); --data says where they are now."


def _sections(run: RunFiles, store: ChipStore | None, pictures: Pictures | None, absent: str) -> dict[str, Any]:
    """What the template is filled with; a section is None where its file is not there."""
    evaluation = run.evaluation
    return {
        "name": run.recipe.name,
        "number": run.folder.resolve().name,
        "place": f"runs/{run.name}",
        "status": run.facts.status,
        "method": describe(run.recipe),
        "facts": _facts(run),
        "results": _results(evaluation) if evaluation else None,
        "curves": _curves(run),
        "modulator": _modulator(run),
        "modulated": run.recipe.meta is not None,
        "contributions": None if run.contributions is None else contribution_map(run.contributions),
        "map": _map(run, pictures),
        "distances": distance_rows(evaluation.distances) if evaluation else [],
        "gallery": _gallery(run, pictures),
        "trust": _trust(run),
        "cost": cost_facts(run),
        "phases": None if run.epochs is None else phase_bar(run.epochs),
        "dataset": describe_store(run, store) if store else None,
        "planes": pictures.words if pictures else "",
        "absent": absent,
        "origin": _origin(run),
        "data": run.data,
        "recipe": run.recipe_text,
    }


def _facts(run: RunFiles) -> dict[str, str]:
    """The lines under the title."""
    facts, evaluation = run.facts, run.evaluation
    chips = {"training": facts.train_chips, "validation": facts.val_chips}
    if evaluation and evaluation.split != "val":
        chips[evaluation.split] = evaluation.count
    found = {"Data": Path(run.data).name}
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
    matrix = np.array(evaluation.confusion)[np.ix_(order, order)]
    names = [evaluation.classes[index] for index in order]
    return {
        "verdict": verdict(evaluation),
        "notes": evaluation.notes,
        "tiles": tiles(evaluation),
        "methods": list(evaluation.methods),
        "rows": measure_rows(evaluation),
        "plot": accuracy_plot(evaluation.methods),
        "classes": class_rows(evaluation),
        "bars": class_bars(evaluation),
        "absent": listed(absent) if absent else "",
        "matrix": {
            "% of the true class": confusion_matrix(matrix, names, bounds),
            "chips": confusion_matrix(matrix, names, bounds, "chips"),
        },
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


def _map(run: RunFiles, pictures: Pictures | None) -> dict[str, Any] | None:
    if run.embedding is None or run.evaluation is None:
        return None
    found = ChipMap(run.embedding, run.evaluation, run.predictions)
    return {
        "figures": found.figures(),
        "legend": found.legend(),
        "counts": found.counts,
        "data": found.data(pictures is not None),
        "sheet": pictures.sheet(found.paths, SHEET_SIDE, SHEET_COLUMNS) if pictures else "",
        "chips": len(found.paths),
        "of": run.evaluation.count,
    }


def _gallery(run: RunFiles, pictures: Pictures | None) -> Any:
    predictions = _known_classes(run)
    return (
        None
        if predictions is None or not run.evaluation
        else make_gallery(predictions, run.evaluation.classes, pictures)
    )


def _trust(run: RunFiles) -> dict[str, Any] | None:
    predictions, evaluation = _known_classes(run), run.evaluation
    if evaluation is None:
        return None
    trust = evaluation.confidence
    bins = [] if predictions is None else reliability_bins(predictions, evaluation.classes)
    return {
        "diagram": reliability_diagram(bins) if bins else None,
        "ece": evaluation.summary.ece,
        "found": trust,
        "rows": coverage_rows(trust) if trust else [],
        "plot": coverage_plot(trust) if trust else None,
        "scarce": scarce_classes(trust, evaluation.classes) if trust else [],
    }


def _known_classes(run: RunFiles) -> pd.DataFrame | None:
    """The predictions, without those of classes that metrics.json does not name."""
    table, evaluation = run.predictions, run.evaluation
    if table is None or evaluation is None:
        return None
    known = table[table["class"].isin(evaluation.classes)]
    return None if known.empty else known


def _origin(run: RunFiles) -> dict[str, str]:
    """What must be the same for the same numbers."""
    facts = run.facts
    found = {"Seed": str(run.recipe.seed), "Backbone": run.recipe.backbone.name}
    hashes = {
        "Backbone SHA-256": facts.backbone_sha256,
        "Bundle SHA-256": facts.bundle_sha256,
        "Manifest SHA-256": facts.data.get("manifest_sha256"),
    }
    found |= {label: value for label, value in hashes.items() if value}
    if facts.git:
        found["Recipe's commit"] = f"{facts.git['commit']}{' with changes' if facts.git.get('dirty') else ''}"
    found |= dict(facts.versions)
    return found | ({"machine": facts.machine} if facts.machine else {})
