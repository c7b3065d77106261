"""Write the report of a run: the content of every section, or the reason why it is missing."""

from pathlib import Path
from typing import Any

from rsft.data.chips.store import ChipStore
from rsft.errors import RsftError
from rsft.evaluation.report import charts, metric_tables
from rsft.evaluation.report.dataset import ChipPictures, make_gallery, open_chip_store, summarize_store
from rsft.evaluation.report.recipe_text import recipe_sentences
from rsft.evaluation.report.render import join_words, write_page
from rsft.evaluation.report.run_files import RunFiles, read_run_files
from rsft.evaluation.report.scene_maps import read_scene_maps
from rsft.evaluation.report.site_maps import ModulatorMap, contribution_heatmap
from rsft.evaluation.report.tsne_map import SHEET_COLUMNS, STAGES, TILE_SIZE, ChipMap, linked_maps_data
from rsft.training.runs.replay_check import TERMS
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
    run = read_run_files(run_dir)
    store, chips, reason = None, None, "" if pictures else "Pictures of chips were left out on request."
    try:
        store = open_chip_store(run, data)
    except RsftError as error:
        location = f"The chips were not found ({error.message}: {error.location})."
        reason = reason or f"{location} Use --data to give the folder of the chip store."
    if store and pictures:
        try:
            chips = ChipPictures(run, store, progress)
        except RsftError as error:
            reason = f"No pictures of chips: {error}."
    scenes = read_scene_maps(run_dir) if pictures else []
    content = _page_content(run, store, chips) | {"missing_reason": reason, "scenes": scenes}
    return write_page(run_dir / REPORT_FILE, "run.html", content)


def _page_content(run: RunFiles, store: ChipStore | None, pictures: ChipPictures | None) -> dict[str, Any]:
    """Return the variables of the template, which calls charts and tables. None means that a file is missing."""
    evaluation, embedding, predictions = run.evaluation, run.embedding, run.predictions
    if predictions is not None:  # without classes that are not in metrics.json
        predictions = predictions[predictions["class"].isin(evaluation.classes)] if evaluation else None
    if predictions is not None and predictions.empty:
        predictions = None
    start = run.recipe.train.start_bundle
    return {
        "run": run,
        "number": run.folder.resolve().name,
        "evaluation": evaluation,
        "predictions": predictions,
        "pictures": pictures,
        "charts": charts,
        "tables": metric_tables,
        "contribution_heatmap": contribution_heatmap,
        "method": recipe_sentences(run.recipe),
        "overview": _overview(run),
        "start": start and run.metadata.start.get("bundle", start),
        "terms": TERMS,
        "modulator": ModulatorMap.of_run(run),
        "map": _map(ChipMap(embedding, evaluation, run.predictions), pictures)
        if embedding is not None and evaluation
        else None,
        "gallery": make_gallery(predictions, evaluation.classes, pictures)
        if predictions is not None and evaluation
        else None,
        "dataset": summarize_store(run, store) if store else None,
        "origin": _origin(run),
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


def _map(chip_map: ChipMap, pictures: ChipPictures | None) -> dict[str, Any]:
    maps = [(chip_map, stage) for stage in STAGES]
    return {
        "figures": [(title, title.partition(":")[0], chip_map.figure(stage, title)) for stage, title in STAGES.items()],
        "legend": chip_map.legend(),
        "counts": chip_map.counts,
        "data": linked_maps_data(maps, with_pictures=pictures is not None),
        "sheet": pictures.sheet(chip_map.paths, TILE_SIZE, SHEET_COLUMNS) if pictures else "",
        "chips": len(chip_map.paths),
    }


def _origin(run: RunFiles) -> dict[str, str]:
    """Return the seed, licenses, hashes and versions that belong to the numbers of a run."""
    metadata = run.metadata
    git = metadata.git
    entries = {
        "Seed": str(run.recipe.seed),
        "Backbone": run.recipe.backbone.name,
        **{f"License of the {entry.source}": str(entry) for entry in run.licenses or ()},
        "Backbone SHA-256": metadata.backbone_sha256,
        "Bundle SHA-256": metadata.bundle_sha256,
        "Manifest SHA-256": metadata.data.get("manifest_sha256"),
        "Recipe's commit": git and f"{git.commit}{' with changes' if git.dirty else ''}",
        **metadata.versions,
        "machine": metadata.machine,
    }
    return {label: value for label, value in entries.items() if value}
