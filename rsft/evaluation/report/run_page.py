"""Write the report of a run: the content of every section, or the reason why it is missing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from rsft.data.chips.store import ChipStore
from rsft.errors import RsftError
from rsft.evaluation.report.charts.bars import class_bars
from rsft.evaluation.report.charts.confusion import MAX_LABELED_CLASSES, confusion_chart
from rsft.evaluation.report.charts.cost import cost_table, phase_bar
from rsft.evaluation.report.charts.coverage import (
    coverage_plot,
    coverage_rows,
    scene_rows,
    uncovered_class_sentences,
    unlike_sentences,
)
from rsft.evaluation.report.charts.curves import accuracy_curves, loss_curves
from rsft.evaluation.report.charts.intervals import accuracy_plot
from rsft.evaluation.report.charts.reliability import reliability_bins, reliability_diagram
from rsft.evaluation.report.charts.site_heatmap import contribution_heatmap
from rsft.evaluation.report.charts.tsne_map import SHEET_COLUMNS, TILE_SIZE, ChipMap
from rsft.evaluation.report.dataset import ChipPictures, Gallery, make_gallery, open_chip_store, summarize_store
from rsft.evaluation.report.metric_tables import (
    class_rows,
    frequent_mistakes,
    gains_and_losses,
    group_of_class,
    headline_tiles,
    measure_rows,
    method_columns,
    method_rows,
    order_by_training,
    summary_sentences,
)
from rsft.evaluation.report.recipe_text import recipe_sentences
from rsft.evaluation.report.render import join_words, write_page
from rsft.evaluation.report.run_files import RunFiles, read_run_files
from rsft.evaluation.report.run_maps import ShownMap, modulator_map, read_scene_maps, replay_section
from rsft.evaluation.schema import Evaluation
from rsft.recipe.schema import Recipe
from rsft.types import GROUPS, Progress
from rsft.utils.licenses import UNKNOWN

REPORT_FILE = "report.html"


def write_report(
    run_dir: Path, data: Path | None = None, *, pictures: bool = True, progress: Progress | None = None
) -> Path:
    """Write report.html from the files of a run and from its chip store, if it still exists.

    Args:
        run_dir: the run folder.
        data: the chip store (default: its path in the evaluation or in the run).
        pictures: whether the page contains small pictures of chips, and the maps of scenes in the run folder.
        progress: called while chips are read.

    Returns:
        The path of the page.

    Raises:
        RequestError: `run_dir` is not a run folder.
        DataError: one of its files is damaged.
        WeightsError: the index of its bundle is damaged or was edited.
    """
    files = read_run_files(run_dir)
    store, missing_reason = _open_store(files, data)
    chips = None
    if store and pictures:
        try:
            chips = ChipPictures(files, store, progress)
        except RsftError as error:
            missing_reason = f"No pictures of chips: {error}."
    elif not pictures:
        missing_reason = "Pictures of chips were left out on request."
    scenes = read_scene_maps(run_dir) if pictures else []
    return write_page(run_dir / REPORT_FILE, "run.html", _page_content(files, store, chips, missing_reason, scenes))


def _open_store(run: RunFiles, data: Path | None) -> tuple[ChipStore | None, str]:
    """Return the chip store and ""; or None and the reason why it cannot be opened."""
    try:
        return open_chip_store(run, data), ""
    except RsftError as error:
        reason = f"The chips were not found ({error.message}: {error.location})."
        return None, f"{reason} Use --data to give the folder of the chip store."


def _page_content(
    run: RunFiles,
    store: ChipStore | None,
    pictures: ChipPictures | None,
    missing_reason: str,
    scenes: Sequence[ShownMap],
) -> dict[str, Any]:
    """Return the variables of the template. A section is None if its file is missing."""
    evaluation = run.evaluation
    return {
        "name": run.recipe.name,
        "number": run.folder.resolve().name,
        "run_path": f"runs/{run.name}",
        "status": run.metadata.status,
        "method": recipe_sentences(run.recipe),
        "overview": _overview(run),
        "results": _results(evaluation, run.recipe) if evaluation else None,
        "replay": replay_section(run),
        "scenes": scenes,
        "curves": _curves(run),
        "modulator": modulator_map(run),
        "modulated": run.recipe.meta is not None,
        "contributions": None
        if run.contributions is None
        else contribution_heatmap(run.contributions, run.metadata.stage_depths),
        "map": _map(run, pictures),
        "gallery": _gallery(run, pictures),
        "confidence": _confidence(run),
        "cost": cost_table(run),
        "phases": None if run.epochs is None else phase_bar(run.epochs),
        "dataset": summarize_store(run, store) if store else None,
        "planes": pictures.plane_names if pictures else "",
        "missing_reason": missing_reason,
        "origin": _origin(run),
        "data": run.data,
        "recipe": run.recipe_text,
    }


def _overview(run: RunFiles) -> dict[str, str]:
    """Return the entries below the title."""
    metadata, evaluation = run.metadata, run.evaluation
    chips = {"training": metadata.train_chips, "validation": metadata.val_chips}
    if evaluation and evaluation.split != "val":
        chips[evaluation.split] = evaluation.count
    entries = {"Data": Path(run.data).name}
    entries["Chips"] = ", ".join(f"{count:,} {split}" for split, count in chips.items() if count is not None)
    if evaluation:
        sizes = [f"{len(indices)} {group}" for group in GROUPS if (indices := evaluation.groups.get(group))]
        entries["Classes"] = f"{len(evaluation.classes)}" + (f" ({join_words(sizes)})" if sizes else "")
    restrictions = dict.fromkeys(name for entry in run.licenses or () for name in entry.restrictions if name != UNKNOWN)
    entries["Restrictions"] = ", ".join(restrictions)
    entries["Started"] = f"{metadata.started:%Y-%m-%d %H:%M}"
    return {label: value for label, value in entries.items() if value}


def _results(evaluation: Evaluation, recipe: Recipe) -> dict[str, Any]:
    order = order_by_training(evaluation)
    groups = [group_of_class(evaluation, index) for index in order]
    bounds = [row for row in range(1, len(order)) if groups[row] != groups[row - 1]]
    absent = [name for name, row in zip(evaluation.classes, evaluation.confusion, strict=True) if not sum(row)]
    matrix = np.array(evaluation.confusion)[np.ix_(order, order)]
    names = [evaluation.classes[index] for index in order]
    return {
        "sentences": summary_sentences(evaluation),
        "differences": gains_and_losses(evaluation),
        "notes": evaluation.notes,
        "tiles": headline_tiles(evaluation),
        "columns": list(method_columns(evaluation).values()),
        "method_rows": method_rows(evaluation, recipe),
        "methods": list(evaluation.methods),
        "rows": measure_rows(evaluation),
        "plot": accuracy_plot(evaluation.methods),
        "classes": class_rows(evaluation),
        "bars": class_bars(evaluation),
        "absent": join_words(absent) if absent else "",
        "matrix": {
            "% of the true class": confusion_chart(matrix, names, bounds),
            "chips": confusion_chart(matrix, names, bounds, "chips"),
        },
        "labeled": len(order) <= MAX_LABELED_CLASSES,
        "mistakes": frequent_mistakes(evaluation),
        "split": evaluation.split,
    }


def _curves(run: RunFiles) -> Sequence[Markup] | None:
    if run.epochs is None:
        return None
    return [chart for chart in (loss_curves(run.epochs), accuracy_curves(run.epochs)) if chart is not None]


def _map(run: RunFiles, pictures: ChipPictures | None) -> dict[str, Any] | None:
    if run.embedding is None or run.evaluation is None:
        return None
    chip_map = ChipMap(run.embedding, run.evaluation, run.predictions)
    before, after = chip_map.figures()
    return {
        "figures": [("Before: frozen features", "Before", before), ("After: adapted features", "After", after)],
        "legend": chip_map.legend(),
        "counts": chip_map.counts,
        "data": chip_map.data(pictures is not None),
        "sheet": pictures.sheet(chip_map.paths, TILE_SIZE, SHEET_COLUMNS) if pictures else "",
        "chips": len(chip_map.paths),
        "total": run.evaluation.count,
    }


def _gallery(run: RunFiles, pictures: ChipPictures | None) -> Gallery | None:
    predictions = _evaluated_predictions(run)
    if predictions is None or run.evaluation is None:
        return None
    return make_gallery(predictions, run.evaluation.classes, pictures)


def _confidence(run: RunFiles) -> dict[str, Any] | None:
    predictions, evaluation = _evaluated_predictions(run), run.evaluation
    if evaluation is None:
        return None
    report = evaluation.confidence
    bins = [] if predictions is None else reliability_bins(predictions, evaluation.classes)
    return {
        "diagram": reliability_diagram(bins) if bins else None,
        "ece": evaluation.summary.ece,
        "report": report,
        "unlike": unlike_sentences(report, evaluation.count, evaluation.split) if report else "",
        "rows": coverage_rows(report) if report else [],
        "scenes": scene_rows(report) if report else [],
        "plot": coverage_plot(report) if report else None,
        "uncovered": uncovered_class_sentences(report, evaluation.classes) if report else [],
    }


def _evaluated_predictions(run: RunFiles) -> pd.DataFrame | None:
    """Return the predictions of chips with a class of metrics.json; None without such chips."""
    table, evaluation = run.predictions, run.evaluation
    if table is None or evaluation is None:
        return None
    chosen = table[table["class"].isin(evaluation.classes)]
    return None if chosen.empty else chosen


def _origin(run: RunFiles) -> dict[str, str]:
    """Return the seed, licenses, hashes and versions that belong to the numbers of a run."""
    metadata = run.metadata
    entries = {"Seed": str(run.recipe.seed), "Backbone": run.recipe.backbone.name}
    entries |= {f"License of the {entry.source}": str(entry) for entry in run.licenses or ()}
    hashes = {
        "Backbone SHA-256": metadata.backbone_sha256,
        "Bundle SHA-256": metadata.bundle_sha256,
        "Manifest SHA-256": metadata.data.get("manifest_sha256"),
    }
    entries |= {label: value for label, value in hashes.items() if value}
    if metadata.git:
        entries["Recipe's commit"] = f"{metadata.git.commit}{' with changes' if metadata.git.dirty else ''}"
    entries |= metadata.versions
    return entries | ({"machine": metadata.machine} if metadata.machine else {})
