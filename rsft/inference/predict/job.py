"""Run a prediction job: find the chips, classify them, and write the table and what belongs to it.

Several bundles classify the same chips with one job and one table per bundle.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pandas as pd

from rsft.data.imagery.products.options import DEFAULT_OPTIONS
from rsft.data.imagery.scene_uri import SceneUri, file_state
from rsft.errors import RequestError
from rsft.inference.options import DEFAULT_REQUEST, PredictionRequest
from rsft.inference.predict import pipeline
from rsft.inference.predict.batch_journal import BatchJournal, journal_path
from rsft.inference.predict.chip_files import ChipFiles, PredictionPlan
from rsft.inference.predict.inputs import find_chips, find_scenes
from rsft.inference.predict.metadata import scene_sources, table_metadata
from rsft.inference.predict.rejections import describe_empty_result, write_rejected_list
from rsft.inference.predict.result_table import collect_results
from rsft.inference.predict.scene_check import SceneCheck, check_scenes, describe_checks
from rsft.inference.review.page import write_review_page
from rsft.inference.review.truth import TruthCheck, check_truth
from rsft.inference.selection.selection import select_engine
from rsft.inference.writers.columns import table_columns
from rsft.inference.writers.layer import PredictionLayer
from rsft.inference.writers.pre_annotations import SUFFIXES as BOX_SUFFIXES
from rsft.inference.writers.tables import (
    check_output_path,
    check_table_size,
    table_suffix,
    write_prediction_table,
)
from rsft.models.bundle.bundle import Bundle
from rsft.models.outputs import ClassifierOutputs
from rsft.scenes.options import UNDECLARED, Declaration
from rsft.types import Progress
from rsft.utils.atomic_files import write_bytes
from rsft.utils.journal import has_note
from rsft.utils.memory import return_freed_memory
from rsft.utils.operating_system import path_to_text
from rsft.version import __version__


@dataclass(frozen=True)
class PredictionResult:
    """The result of a prediction job.

    Attributes:
        table: one row per chip, see docs/analyst.md; its column `geometry` contains
            shapes or None.
        rejected: path and reason of each rejected chip or position.
        counts: number of chips of each class.
        output_path: the file of the table.
        notes: remarks for the reader; the output contains them as well.
        checks: for every scene, whether its chips are like the training and validation
            chips; empty if the bundle was not calibrated. `describe_checks` puts them
            into words, which are the last notes.
        truth: for every scene, how many objects of the truth were found; empty without
            a truth.
    """

    table: pd.DataFrame
    rejected: list[tuple[Path, str]]
    counts: dict[str, int]
    output_path: Path
    notes: list[str]
    checks: list[SceneCheck]
    truth: list[TruthCheck] = field(default_factory=list)


@dataclass(frozen=True)
class PredictionJob:
    """One bundle, the chips to classify, and the output.

    Attributes:
        replaces_outputs: whether existing outputs may be replaced: on request, or
            because this job has written them before it was interrupted.
        skipped_files: number of files in input folders that are not images.
        progress: called with the number of finished chips and the number of all chips.
        bundle_dir: where the bundle is; the review page names it.
    """

    bundle: Bundle
    request: PredictionRequest
    plan: PredictionPlan
    journal: BatchJournal
    output_path: Path
    replaces_outputs: bool
    skipped_files: int = 0
    progress: Progress | None = None
    bundle_dir: Path | None = None


class UsedEngine(NamedTuple):
    """What the output says of the engine that was used.

    Its weights are not kept until the output is written.

    Attributes:
        summary: one line for the user.
        metadata: entry "engine" of the metadata.
    """

    summary: str = ""
    metadata: Mapping[str, Any] = {}


def predict(
    bundle_dir: Path,
    inputs: Sequence[str | Path],
    output_path: Path,
    request: PredictionRequest = DEFAULT_REQUEST,
    progress: Progress | None = None,
    *,
    may_be_outside: bool = False,
) -> PredictionResult:
    """Classify chips or scenes, and write one table.

    Results are recorded in `.<output name>.journal` after each batch, so that the same
    call resumes an interrupted job. Chips that cannot be classified are listed in
    `<output stem>.rejected.csv`.

    Args:
        bundle_dir: a bundle, a run, or a folder of runs.
        inputs: chips (files, folders, chip stores, globs, @list), or scenes if
            `request.query` says where to cut chips.
        output_path: the file of the table; its suffix selects the format.
        request: options of the job.
        progress: called with the number of finished chips and the number of all chips.
        may_be_outside: whether the table may be empty because all positions lie outside
            of the scenes.

    Returns:
        The table, and what was rejected.

    Raises:
        RequestError: no bundle or no chips exist, options contradict each other, or the
            output cannot be written.
        WeightsError: the bundle cannot be used.
        DataError: a scene does not fulfill the contract, all chips were rejected, or
            all positions lie outside.

    Example:
        >>> result = predict(Path("runs/ships"), [Path("new_chips")], Path("chips.gpkg"))
        >>> sorted(result.counts)
        ['cargo', 'fishing', 'tanker']
    """
    bundle = Bundle.load(bundle_dir)
    with open_job(bundle, inputs, output_path, request, progress, bundle_dir) as job:
        engine = run_job(job)
        # the libraries that write the outputs take as much as a small network
        return_freed_memory()
        return write_result(job, engine, may_be_outside=may_be_outside)


@contextmanager
def open_job(
    bundle: Bundle,
    inputs: Sequence[str | Path],
    output_path: Path,
    request: PredictionRequest,
    progress: Progress | None = None,
    bundle_dir: Path | None = None,
) -> Iterator[PredictionJob]:
    """Check the output, find the inputs and open the journal.

    Delete the journal if the block ends without an error.

    Args:
        bundle: the bundle.
        inputs: see `predict`.
        output_path: see `predict`.
        request: see `predict`.
        progress: called with numbers of windows of a scene while objects are detected,
            then with numbers of chips.
        bundle_dir: where the bundle is; the review page names it.

    Returns:
        The job, as the value of a `with` block.

    Raises:
        RequestError: no chips exist, options contradict each other, or the output
            cannot be written.
        DataError: a scene cannot be read or does not fulfill the contract.
    """
    path = journal_path(output_path)
    has_journal = path.is_file()
    _check_outputs(bundle, output_path, request, request.overwrite or has_journal)
    scenes = find_scenes(inputs) if request.query.reads_scenes else []
    chips, skipped_files = (
        ({}, 0)
        if request.query.reads_scenes
        else find_chips(inputs, request.declaration)
    )
    key = job_key(bundle, scenes, chips, request)
    replaces_outputs = request.overwrite or (
        has_journal and has_note(path, key, *_writing_note(output_path, request))
    )
    _check_outputs(bundle, output_path, request, replaces_outputs)
    journal = BatchJournal(path, key)
    finished = False
    try:
        with ExitStack() as stack:
            if request.query.reads_scenes:
                from rsft.inference.predict.scene_chips import plan_scenes
                from rsft.scenes.raster import gdal_environment

                stack.enter_context(gdal_environment())
                plan = plan_scenes(scenes, request, bundle.contract, journal, progress)
            else:
                files = ChipFiles(chips, bundle.contract, request.chip_options)
                if (
                    len(files) == 1
                ):  # of several files, those that are scenes are rejected
                    files.check_header(0)
                plan = PredictionPlan([files])
            for source in plan.sources:
                stack.callback(source.close)
            columns = table_columns(bundle.classes)
            check_table_size(output_path, sum(map(len, plan.sources)), len(columns))
            yield PredictionJob(
                bundle,
                request,
                plan,
                journal,
                output_path,
                replaces_outputs,
                skipped_files,
                progress,
                bundle_dir,
            )
        finished = True
    finally:
        journal.close(finished)


def _check_outputs(
    bundle: Bundle, output_path: Path, request: PredictionRequest, overwrite: bool
) -> None:
    """Check table, review page, map and truth; `overwrite` tells whether existing files may be replaced."""
    check_output_path(
        output_path,
        table_columns(bundle.classes),
        overwrite=overwrite,
        discard_corrections=request.discard_corrections,
    )
    pages = (
        (request.html_path, (".html", ".htm"), "the review page is an HTML file"),
        (request.picture_path, (".png",), "the map is a PNG file"),
    )
    for path, suffixes, message in pages:
        if path is not None and path.suffix.lower() not in suffixes:
            raise RequestError(message, path, f"give it the suffix {suffixes[0]}")
        if path is not None and path.exists() and not overwrite:
            raise RequestError(
                "the file exists already",
                path,
                "give --overwrite to replace it, or another name",
            )
    has_boxes = table_suffix(output_path) in BOX_SUFFIXES
    scene_options = (
        (
            str(output_path),
            has_boxes,
            "this format has boxes in scenes, but the inputs are chips",
        ),
        (
            "--picture",
            request.picture_path is not None,
            "a map needs a scene, but the inputs are chips",
        ),
        (
            "",
            request.product_options != DEFAULT_OPTIONS,
            "options of products such as --asset need scenes",
        ),
        (
            "--chips",
            request.chips_dir is not None,
            "chips are only saved if they are cut from scenes",
        ),
    )
    for option, is_given, message in scene_options:
        if is_given and not request.query.reads_scenes:
            raise RequestError(message, option, "give --at, --grid or --detect as well")
    if request.truth_path is not None and request.query.detect is None:
        raise RequestError(
            "--truth only works with --detect", "--truth", "give --detect as well"
        )


def _writing_note(output_path: Path, request: PredictionRequest) -> tuple[str, str]:
    """Return the note of a job that has begun to write its table, page and map; the next call finishes them all."""
    paths = (output_path, request.html_path, request.picture_path)
    return "outputs", json.dumps(
        [str(path.absolute()) for path in paths if path is not None]
    )


def job_key(
    bundle: Bundle,
    scenes: Sequence[SceneUri],
    chips: Mapping[str, Declaration],
    request: PredictionRequest,
) -> str:
    """Return a hash of everything that determines the results of a job.

    The metadata of the output has it as `job`.

    Args:
        bundle: the bundle.
        scenes: the scenes; none for chips.
        chips: unit, bands and pixel spacing of each chip; none for scenes.
        request: options. Options that do not change the results are not part of the
            hash.

    Raises:
        NetworkError: a web server does not send a scene.
    """
    neutral = {
        "device": "",
        "readers": 0,
        "overwrite": False,
        "discard_corrections": False,
    }
    neutral |= {
        "html_path": request.html_path is not None,
        "picture_path": None,
        "truth_path": None,
    }
    files = chain(chips, map(str, request.query.files()))
    states = [(path_to_text(scene), scene.state()) for scene in scenes]
    content = [__version__, bundle.sha256, states, asdict(request) | neutral]
    digest = hashlib.sha256(json.dumps(content, default=path_to_text).encode())
    for path in files:
        state = [
            path_to_text(path),
            file_state(Path(path)),
            chips.get(path, UNDECLARED),
        ]
        digest.update(json.dumps(state, default=asdict).encode())
    return digest.hexdigest()


def run_job(job: PredictionJob) -> UsedEngine:
    """Classify all chips of a job that are not in its journal yet, and record each batch when it is finished.

    Returns:
        The engine that was used; empty if the job has no chips.

    Raises:
        RequestError: the requested engine cannot be used.
        WeightsError: the bundle cannot be used, or its logits are not finite.
    """
    request = job.request
    bundle = job.bundle
    journal = job.journal
    batches = pipeline.make_batches(job.plan.sources, request.batch_size)
    if not batches:
        return UsedEngine()
    total = sum(len(batch.chips) for batch in batches)
    sample = partial(pipeline.read_sample, batches)
    previous = journal.get_note("engine")
    device = request.device
    engine = select_engine(
        bundle, request.engine, request.precision, device, sample, total, previous
    )
    journal.set_note("engine", engine.metadata["kind"])
    finished = journal.finished_batches()
    remaining = [batch for batch in batches if batch.number not in finished]
    done = total - sum(len(batch.chips) for batch in remaining)
    threads = engine.concurrency
    prepare = partial(
        pipeline.prepare_batch,
        contract=engine.contract,
        thumbnails=request.html_path is not None,
    )

    def compute(
        prepared: pipeline.PreparedBatch,
    ) -> tuple[pipeline.PreparedBatch, ClassifierOutputs | None]:
        return prepared, engine.infer(prepared.inputs) if prepared.numbers else None

    with closing(
        pipeline.prefetch(prepare, remaining, request.readers)
    ) as prepared_batches:
        for prepared, outputs in pipeline.prefetch(
            compute, prepared_batches, threads, ahead=threads
        ):
            journal.record(
                prepared.batch.number, pipeline.batch_result(prepared, outputs, bundle)
            )
            done += len(prepared.batch.chips)
            if job.progress:
                job.progress(done, total, "classifying")
    return UsedEngine(engine.summary, engine.metadata)


def write_result(
    job: PredictionJob, engine: UsedEngine, *, may_be_outside: bool = False
) -> PredictionResult:
    """Write the table, the list of rejected chips, the review page and the map.

    Args:
        job: a job that has run.
        engine: the engine that was used.
        may_be_outside: see `predict`.

    Returns:
        The table, and what was rejected.

    Raises:
        RequestError: the truth cannot be read.
        DataError: all chips were rejected, or all positions lie outside of the scenes;
            the truth has no classes.
    """
    bundle = job.bundle
    request = job.request
    plan = job.plan
    output_path = job.output_path
    table, rejected, notes = collect_results(job.journal, plan, bundle)
    table, checks = check_scenes(table, bundle.calibrator, bundle.classes)
    rejected_list = write_rejected_list(output_path, rejected)
    if job.skipped_files:
        notes.append(
            "files in folders that are not images by their suffix:"
            f" {job.skipped_files:,}"
        )
    if rejected:
        notes.append(f"rejected: {len(rejected):,}, listed in {rejected_list}")
    notes += [engine.summary] if engine.summary else []
    for item in request.signatures:
        signed_at = item.get("signed_at", "an unknown time")
        notes.append(
            f"verified: {item['folder']}, signed at {signed_at}, signature"
            f" {item['signature_sha256'][:12]}"
        )
    if table.empty:
        empty = describe_empty_result(
            plan, request.query, rejected, rejected_list, may_be_outside
        )
        notes.insert(0, empty)
    thumbnails = table.pop("thumb").tolist() if "thumb" in table else []
    if plan.crs is None and output_path.suffix.lower() == ".geojson":
        notes.append(
            "the table has no geometry: GeoJSON needs degrees; .gpkg also takes pixel"
            " coordinates"
        )
    if output_path.suffix.lower() == ".parquet":
        notes.append(
            "QGIS opens .parquet if its GDAL can; that of Debian and Ubuntu cannot: use"
            " .gpkg for QGIS"
        )
    truth = []
    if request.truth_path is not None:
        for source in scene_sources(plan):
            side = (source.window.side or 0) * sum(source.window.scale) / 2
            truth.append(check_truth(table, source.scene, request.truth_path, side))
    notes += [*map(str, truth), *describe_checks(checks)]
    metadata = table_metadata(bundle, plan, request, notes, engine.metadata) | {
        "job": job.journal.key,
        "chips": len(table),
        "rejected": len(rejected),
        "ood": sum(check.ood for check in checks),
        "withheld": sum(
            check.chips for check in checks if check.class_sets == "withheld"
        ),
        "checks": [check.as_json() for check in checks],
        "truth": [asdict(check) for check in truth],
    }
    are_boxes = bool(plan.positions) and all(item.are_boxes for item in plan.positions)
    grid = request.query.grid
    stride = request.query.stride
    step = None if grid is None else min((stride or grid) / grid, 1.0)
    boxes = {}
    if table_suffix(output_path) in BOX_SUFFIXES:
        boxes = dict(source.boxes() for source in scene_sources(plan))
    kind: Literal["Polygon", "Point"] = "Polygon" if are_boxes else "Point"
    layer = PredictionLayer(
        table, plan.crs, bundle.classes, metadata, kind, step, boxes
    )
    counts = {name: int((table["class"] == name).sum()) for name in bundle.classes}
    reasons = [
        (Path(f"{file}:{line}" if line else file), reason)
        for file, line, reason in rejected
    ]
    result = PredictionResult(table, reasons, counts, output_path, notes, checks, truth)
    _write_outputs(job, layer, thumbnails, result)
    return result


def _write_outputs(
    job: PredictionJob,
    layer: PredictionLayer,
    thumbs: list[bytes],
    result: PredictionResult,
) -> None:
    """Write table, review page and maps.

    With several scenes, the name of the scene follows that of the map's file.
    """
    request = job.request
    scenes = job.plan.scenes
    output_path = job.output_path
    job.journal.set_note(*_writing_note(output_path, request))
    write_prediction_table(
        layer,
        output_path,
        overwrite=job.replaces_outputs,
        discard_corrections=request.discard_corrections,
    )
    if request.html_path is not None:
        bundle = job.bundle_dir or Path("BUNDLE")
        store = job.bundle.recipe.data.root
        is_doubtful = any(check.is_doubtful for check in result.checks)
        warnings = describe_checks(result.checks) if is_doubtful else ()
        write_review_page(
            request.html_path,
            layer,
            thumbs,
            scenes,
            bundle,
            store,
            output_path,
            warnings,
        )
    path = request.picture_path
    if path is not None:
        from rsft.inference.review.map_picture import draw_map_picture

        for number, scene in enumerate(scenes):
            if len(scenes) == 1:
                file = path
            else:
                file = path.with_name(f"{path.stem}.{scene.name}{path.suffix}")
            write_bytes(
                file,
                draw_map_picture(
                    layer, scene, result.truth[number].caption() if result.truth else []
                ),
            )
