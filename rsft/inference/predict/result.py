"""The result of a prediction job, and the files that are written from it."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from rsft.inference.predict.metadata import scene_sources, table_metadata
from rsft.inference.predict.open_job import PredictionJob, writing_note
from rsft.inference.predict.rejections import (
    describe_empty_result,
    locate_rejection,
    write_rejected_list,
)
from rsft.inference.predict.result_table import collect_results
from rsft.inference.predict.scene_check import SceneCheck, check_scenes, describe_checks
from rsft.inference.review.page import write_review_page
from rsft.inference.review.truth import TruthCheck, check_truth
from rsft.inference.writers.layer import PredictionLayer
from rsft.inference.writers.table_format import find_table_format
from rsft.inference.writers.tables import write_prediction_table
from rsft.models.bundle.bundle import Bundle
from rsft.types import JsonObject, Names, Rejection
from rsft.utils.atomic_files import write_bytes

_FORMAT_NOTES = {
    ".geojson": (
        "the table has no geometry: GeoJSON needs degrees; .gpkg also takes pixel"
        " coordinates"
    ),
    ".parquet": (
        "QGIS opens .parquet if its GDAL can; that of Debian and Ubuntu cannot: use"
        " .gpkg for QGIS"
    ),
}


class UsedEngine(NamedTuple):
    """What the output says of the engine that was used.

    Its weights are not kept until the output is written.

    Attributes:
        summary: one line for the user.
        metadata: entry "engine" of the metadata.
    """

    summary: str
    metadata: JsonObject


@dataclass
class PredictionResult:
    """The result of a prediction job, which each of its last steps extends.

    Attributes:
        table: one row per chip, see docs/analyst.md; its column `geometry` contains
            shapes or None.
        rejections: file, line (0 for the whole file) and reason of each rejected chip
            or position.
        classes: names of the classes.
        output_path: the file of the table.
        crs: coordinate system of the geometries; None if they are in pixels.
        notes: remarks for the reader; the output contains them as well.
        checks: for every scene, whether its chips are like the training and validation
            chips; empty if the bundle was not calibrated. `describe_checks` puts them
            into words, which are the last notes.
        truth: for every scene, how many objects of the truth were found; empty without
            a truth.
    """

    table: pd.DataFrame
    rejections: list[Rejection]
    classes: Names
    output_path: Path
    crs: str | None
    notes: list[str] = field(default_factory=list)
    checks: list[SceneCheck] = field(default_factory=list)
    truth: list[TruthCheck] = field(default_factory=list)

    @property
    def counts(self) -> dict[str, int]:
        """Number of chips of each class."""
        counts = Counter(self.table["class"])
        return {name: counts[name] for name in self.classes}

    @property
    def rejected(self) -> list[tuple[Path, str]]:
        """Path and reason of each rejected chip or position."""
        return [locate_rejection(rejection) for rejection in self.rejections]

    @property
    def rejected_list(self) -> Path:
        """The file that lists what was rejected, if anything was."""
        return self.output_path.with_suffix(".rejected.csv")


def write_result(
    job: PredictionJob, engine: UsedEngine, *, may_be_outside: bool = False
) -> PredictionResult:
    """Write the table, the list of rejected chips, the review page and the map.

    A job that writes no files only returns the table.

    Args:
        job: a job that has run.
        engine: the engine that was used.
        may_be_outside: see `rsft.inference.predict.job.predict`.

    Returns:
        The table, and what was rejected.

    Raises:
        RequestError: the truth cannot be read.
        DataError: all chips were rejected, or all positions lie outside of the scenes;
            the truth has no classes.
    """
    bundle = job.bundle
    query = job.request.query
    table, rejections, notes = collect_results(job.journal, job.plan, bundle)
    table, checks = check_scenes(table, bundle.calibrator, bundle.classes)
    thumbnails = table.pop("thumb").tolist() if "thumb" in table else []
    result = PredictionResult(
        table,
        rejections,
        bundle.classes,
        job.output_path,
        job.plan.crs,
        notes,
        checks,
    )
    if job.writes_files:
        write_rejected_list(result.rejected_list, rejections)
    if table.empty:
        listed = result.rejected_list if job.writes_files else None
        notes.insert(
            0,
            describe_empty_result(job.plan, query, rejections, listed, may_be_outside),
        )
    _add_notes(result, job, engine)
    _add_truth(result, job)
    notes += describe_checks(checks)
    if not job.writes_files:
        return result
    _write_outputs(result, job, _make_layer(result, job, engine), thumbnails)
    return result


def _add_notes(
    result: PredictionResult, job: PredictionJob, engine: UsedEngine
) -> None:
    """Add what the files, the engine and the format tell."""
    notes = result.notes
    if job.skipped_files:
        notes.append(
            "files in folders that are not images by their suffix:"
            f" {job.skipped_files:,}"
        )
    if result.rejections:
        count = len(result.rejections)
        listed = f", listed in {result.rejected_list}" if job.writes_files else ""
        notes.append(f"rejected: {count:,}{listed}")
    if engine.summary:
        notes.append(engine.summary)
    suffix = job.output_path.suffix.lower()
    if suffix == ".parquet" or (suffix == ".geojson" and job.plan.crs is None):
        notes.append(_FORMAT_NOTES[suffix])


def _add_truth(result: PredictionResult, job: PredictionJob) -> None:
    """Compare the objects of each scene with the truth, if there is one."""
    path = job.request.truth_path
    if not path:
        return
    for source in scene_sources(job.plan):
        side = (source.window.side or 0) * sum(source.window.scale) / 2
        check = check_truth(result.table, source.scene, path, side)
        result.truth.append(check)
        result.notes.append(str(check))


def _make_layer(
    result: PredictionResult, job: PredictionJob, engine: UsedEngine
) -> PredictionLayer:
    """Return the table with the metadata and shapes that its file contains."""
    plan = job.plan
    query = job.request.query
    withheld = [check for check in result.checks if check.class_sets == "withheld"]
    metadata = table_metadata(
        job.bundle, plan, job.request, result.notes, engine.metadata
    )
    metadata |= {
        "job": job.journal.key,
        "chips": len(result.table),
        "rejected": len(result.rejections),
        "ood": sum(check.ood for check in result.checks),
        "withheld": sum(check.chips for check in withheld),
        "checks": [check.as_json() for check in result.checks],
        "truth": [asdict(check) for check in result.truth],
    }
    boxes = {}
    if find_table_format(job.output_path).has_boxes:
        boxes = dict(source.boxes() for source in scene_sources(plan))
    layer = PredictionLayer(
        result.table, plan.crs, job.bundle.classes, metadata, boxes=boxes
    )
    if plan.positions and all(item.are_boxes for item in plan.positions):
        layer = layer._replace(geometry_type="Polygon")
    if query.grid is not None:
        step = (query.stride or query.grid) / query.grid
        layer = layer._replace(tile_step=min(step, 1.0))
    return layer


def _write_outputs(
    result: PredictionResult,
    job: PredictionJob,
    layer: PredictionLayer,
    thumbnails: list[bytes],
) -> None:
    """Write table, review page and maps."""
    request = job.request
    job.journal.set_note(*writing_note(job.output_path, request))
    write_prediction_table(
        layer,
        job.output_path,
        overwrite=job.replaces_outputs,
    )
    if request.html_path:
        warnings = []
        if any(check.is_doubtful for check in result.checks):
            warnings = describe_checks(result.checks)
        write_review_page(
            request.html_path,
            layer,
            thumbnails,
            job.plan.scenes,
            job.bundle_dir,
            job.bundle.recipe.data.root,
            job.output_path,
            warnings,
        )
    if request.picture_path:
        _write_maps(request.picture_path, result, job, layer)


def _write_maps(
    path: Path, result: PredictionResult, job: PredictionJob, layer: PredictionLayer
) -> None:
    """Write one map per scene; with several, its name contains that of the scene."""
    from rsft.inference.review.map_picture import draw_map_picture

    scenes = job.plan.scenes
    captions = [check.caption() for check in result.truth] or [[] for _ in scenes]
    accuracy = _describe_accuracy(job.bundle)
    for scene, caption in zip(scenes, captions, strict=True):
        file = path
        if len(scenes) > 1:
            file = path.with_name(f"{path.stem}.{scene.name}{path.suffix}")
        write_bytes(file, draw_map_picture(layer, scene, [*caption, *accuracy]))


def _describe_accuracy(bundle: Bundle) -> list[str]:
    """Return how right the validation chips are, in short lines."""
    if not bundle.calibrator:
        return []
    one = bundle.calibrator.compare_with_one_class()
    name = bundle.classes[one.index]
    return [
        f"validation: {one.accuracy:.0%} right",
        f"all {name}: {one.share:.0%} right",
    ]
