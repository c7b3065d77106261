"""Run a prediction job: classify chips or scenes, and write a table of classes and probabilities.

Outputs of a prediction job beside its table: checks of their options, the map, the comparison with a truth.

Classify the same chips with several bundles, with one job and one table per bundle.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import pandas as pd

from rsft.data.imagery.products.product import DEFAULT_OPTIONS
from rsft.data.imagery.scene_uri import SceneUri, file_state
from rsft.errors import RequestError
from rsft.inference.inputs.chip_files import ChipFiles, path_to_text
from rsft.inference.inputs.discovery import Declaration, find_chips, find_scenes
from rsft.inference.inputs.scene_chips import SceneChips
from rsft.inference.predict.pipeline import ChipClassifier, classify_batches, make_batches, read_sample
from rsft.inference.predict.request import (
    DEFAULT_REQUEST,
    PredictionPlan,
    PredictionRequest,
    collect_results,
    describe_empty_result,
    table_columns,
    table_metadata,
    write_rejected_list,
)
from rsft.inference.predict.resume_journal import ResumeJournal, has_note
from rsft.inference.predict.scene_checks import (
    SceneCheck,
    TruthCheck,
    check_scenes,
    check_truth,
    describe_checks,
    read_truth,
)
from rsft.inference.predict.scene_plan import plan_scenes
from rsft.inference.review.page import TrainingSource, write_review_page
from rsft.inference.scenes.raster import RasterScene, gdal_environment
from rsft.inference.selection.exported import LoadedEngine
from rsft.inference.selection.selection import select_engine
from rsft.inference.writers.tables import PredictionLayer, check_output_path, write_prediction_table
from rsft.models.bundle.bundle import Bundle
from rsft.types import Progress
from rsft.version import __version__


def check_extra_outputs(request: PredictionRequest) -> None:
    """Check review page, map and truth before a job starts.

    Args:
        request: options of the job.

    Raises:
        RequestError: a file exists or has a wrong suffix, or an option contradicts the inputs.
    """
    _check_file(request.html_path, (".html", ".htm"), "the review page is an HTML file", request.overwrite)
    _check_file(request.picture_path, (".png",), "the map is a PNG file", request.overwrite)
    if request.picture_path is not None and not request.query.reads_scenes:
        message = "a map needs a scene, but the inputs are chips"
        raise RequestError(message, "--picture", "give --at, --grid or --detect as well")
    if request.truth_path is not None and request.query.detect is None:
        raise RequestError("--truth only works with --detect", "--truth", "give --detect as well")


def _check_file(path: Path | None, suffixes: tuple[str, ...], message: str, overwrite: bool) -> None:
    if path is None:
        return
    if path.suffix.lower() not in suffixes:
        raise RequestError(message, path, f"give it the suffix {suffixes[0]}")
    if path.exists() and not overwrite:
        raise RequestError("the file exists already", path, "give --overwrite to replace it, or another name")


def reject_scene_outputs(request: PredictionRequest, message: str) -> None:
    """Raise an error if a job has options for the scenes of one job and one bundle.

    Args:
        request: options of the job.
        message: why they do not work.

    Raises:
        RequestError: the request has a review page, a map or a truth.
    """
    options = {"--html": request.html_path, "--picture": request.picture_path, "--truth": request.truth_path}
    for option, path in options.items():
        if path is not None:
            raise RequestError(message, option, f"leave out {option}, or run the job without it first")


def compare_with_truth(plan: PredictionPlan, request: PredictionRequest, table: pd.DataFrame) -> list[TruthCheck]:
    """Compare the objects of every scene with the truth.

    Args:
        plan: the scenes of the job.
        request: options of the job.
        table: the predictions.

    Returns:
        One check per scene; empty without a truth.

    Raises:
        RequestError: the truth cannot be read.
        DataError: the truth has no classes.
    """
    path, checks = request.truth_path, []
    if path is None:
        return []
    for source in plan.sources:
        assert isinstance(source, SceneChips) and source.window.side is not None
        side = source.window.side * sum(source.window.scale) / 2
        checks.append(check_truth(table, source.scene, read_truth(path, source.scene), side))
    return checks


def write_map_pictures(
    path: Path, layer: PredictionLayer, scenes: Sequence[RasterScene], truth: Sequence[TruthCheck]
) -> None:
    """Write the map of every scene; with several scenes, the name of the scene follows that of the file.

    Args:
        path: path of the PNG.
        layer: the predictions.
        scenes: the scenes.
        truth: the comparison of every scene with the truth; may be empty.
    """
    from rsft.inference.review.map_picture import write_map_picture

    for number, scene in enumerate(scenes):
        file = path if len(scenes) == 1 else path.with_name(f"{path.stem}.{scene.name}{path.suffix}")
        caption = truth[number].caption() if truth else []
        write_map_picture(file, layer, scene, caption)


@dataclass(frozen=True)
class PredictionResult:
    """The result of a prediction job.

    Attributes:
        table: one row per chip, see docs/analyst.md; its column `geometry` contains shapes or None.
        rejected: path and reason of each rejected chip or position.
        counts: number of chips of each class.
        output_path: the file of the table.
        notes: remarks for the reader; the output contains them as well.
        checks: for every scene, whether its chips are like the training and validation chips; empty if the bundle was
            not calibrated. `describe_checks` puts them into words, which are the last notes.
        truth: for every scene, how many objects of the truth were found; empty without a truth.
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
        bundle: the bundle.
        request: options of the job.
        plan: the chips.
        journal: the results so far.
        output_path: the file of the table.
        skipped_files: number of files in input folders that are not images.
        progress: called with the number of finished chips and the number of all chips.
        bundle_dir: where the bundle is; the review page names it.
        replaces_outputs: whether existing outputs may be replaced: on request, or because this job has written them
            before it was interrupted.
    """

    bundle: Bundle
    request: PredictionRequest
    plan: PredictionPlan
    journal: ResumeJournal
    output_path: Path
    skipped_files: int = 0
    progress: Progress | None = None
    bundle_dir: Path | None = None
    replaces_outputs: bool = False


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

    Results are recorded in `.<output name>.journal` after each batch, so that the same call resumes an interrupted job.
    Chips that cannot be classified are listed in `<output stem>.rejected.csv`.

    Args:
        bundle_dir: a bundle, a run, or a folder of runs.
        inputs: chips (files, folders, chip stores, globs, @list), or scenes if `request.query` says where to cut chips.
        output_path: the file of the table; its suffix selects the format.
        request: options of the job.
        progress: called with the number of finished chips and the number of all chips.
        may_be_outside: whether the table may be empty because all positions lie outside of the scenes.

    Returns:
        The table, and what was rejected.

    Raises:
        RequestError: no bundle or no chips exist, options contradict each other, or the output cannot be written.
        WeightsError: the bundle cannot be used.
        DataError: a scene does not fulfill the contract, all chips were rejected, or all positions lie outside.

    Example:
        >>> result = predict(Path("runs/ships"), [Path("new_chips")], Path("chips.gpkg"))
        >>> sorted(result.counts)
        ['cargo', 'fishing', 'tanker']
    """
    bundle = Bundle.load(bundle_dir)
    with open_job(bundle, inputs, output_path, request, progress, bundle_dir) as job:
        return write_result(job, run_job(job), may_be_outside=may_be_outside)


@contextmanager
def open_job(
    bundle: Bundle,
    inputs: Sequence[str | Path],
    output_path: Path,
    request: PredictionRequest,
    progress: Progress | None = None,
    bundle_dir: Path | None = None,
) -> Iterator[PredictionJob]:
    """Check the output, find the inputs and open the journal. Delete the journal if the block ends without an error.

    Args:
        bundle: the bundle.
        inputs: see `predict`.
        output_path: the file of the table.
        request: options of the job.
        progress: called with numbers of windows of a scene while objects are detected, then with numbers of chips.
        bundle_dir: where the bundle is; the review page names it.

    Yields:
        The job.

    Raises:
        RequestError: no chips exist, options contradict each other, or the output cannot be written.
        DataError: a scene cannot be read or does not fulfill the contract.
    """
    has_journal = journal_path(output_path).is_file()
    _check_outputs(bundle, output_path, request, request.overwrite or has_journal)
    paths, declarations, skipped_files = find_inputs(inputs, request)
    key = job_key(bundle, paths, declarations, request)
    note = _writing_note(output_path, request)
    replaces_outputs = request.overwrite or (has_journal and has_note(journal_path(output_path), key, *note))
    _check_outputs(bundle, output_path, request, replaces_outputs)
    journal = ResumeJournal(journal_path(output_path), key)
    finished = False
    try:
        with gdal_environment(), ExitStack() as stack:
            plan = plan_inputs(bundle, paths, declarations, request, journal, progress)
            for source in plan.sources:
                stack.callback(source.close)
            job = PredictionJob(bundle, request, plan, journal, output_path, skipped_files, progress, bundle_dir)
            yield replace(job, replaces_outputs=replaces_outputs)
        finished = True
    finally:
        journal.close(finished)


def _writing_note(output_path: Path, request: PredictionRequest) -> tuple[str, str]:
    """Return the note of a job that has begun to write its table, page and map; the next call finishes them all."""
    paths = (output_path, request.html_path, request.picture_path)
    return "outputs", json.dumps([str(path.absolute()) for path in paths if path is not None])


def _check_outputs(bundle: Bundle, output_path: Path, request: PredictionRequest, overwrite: bool) -> None:
    """Check table, review page, map and truth; `overwrite` tells whether existing files may be replaced."""
    discards = request.discard_corrections
    check_output_path(output_path, table_columns(bundle.classes), overwrite=overwrite, discard_corrections=discards)
    check_extra_outputs(replace(request, overwrite=overwrite))


def find_inputs(
    inputs: Sequence[str | Path], request: PredictionRequest
) -> tuple[Sequence[SceneUri | Path], dict[Path, Declaration], int]:
    """Expand folders, globs and lists.

    Args:
        inputs: see `predict`.
        request: options of the job.

    Returns:
        Scenes, or paths of chips, a declaration for every chip, and the number of files in folders that are not images.

    Raises:
        RequestError: an input does not exist, or an option contradicts the inputs.
        DataError: declared names of bands contradict those of a chip store.
    """
    if request.query.reads_scenes:
        return find_scenes(inputs), {}, 0
    if request.product_options != DEFAULT_OPTIONS:
        message = "--modulus, --calibrate, --keep-noise and --asset are options for scenes"
        raise RequestError(message, hint="give --at, --grid or --detect as well")
    if request.chips_dir is not None:
        message = "chips are only saved if they are cut from scenes"
        raise RequestError(message, "--chips", "give --at, --grid or --detect as well")
    listing = find_chips(inputs)
    return listing.chips, listing.declare(request.declaration), listing.skipped


def journal_path(output_path: Path) -> Path:
    """Return the path of the journal of the job that writes `output_path`."""
    return output_path.parent / f".{output_path.name}.journal"


def job_key(
    bundle: Bundle,
    inputs: Sequence[SceneUri | Path],
    declarations: Mapping[Path, Declaration],
    request: PredictionRequest,
) -> str:
    """Return a hash of everything that determines the results of a job. The metadata of the output has it as `job`.

    Args:
        bundle: the bundle.
        inputs: chips or scenes.
        declarations: unit, bands and pixel spacing of each chip.
        request: options. Options that do not change the results are not part of the hash.

    Raises:
        NetworkError: a web server does not send a scene.
    """
    neutral = {
        "device": "",
        "readers": 0,
        "overwrite": False,
        "discard_corrections": False,
        "html_path": request.html_path is not None,
        "picture_path": None,
        "truth_path": None,
    }
    source = request.query.detect.land if request.query.detect else None
    land = source if isinstance(source, Path) else None
    files = (*inputs, *(path for path in (request.query.at, land) if path is not None))
    states = [(path_to_text(x), x.state() if isinstance(x, SceneUri) else file_state(x)) for x in files]
    declared = [declarations[path] for path in inputs if isinstance(path, Path) and path in declarations]
    content = [__version__, bundle.sha256, states, declared, request.as_json() | neutral]
    return hashlib.sha256(json.dumps(content, default=path_to_text).encode()).hexdigest()


def plan_inputs(
    bundle: Bundle,
    scenes: Sequence[SceneUri | Path],
    declarations: dict[Path, Declaration],
    request: PredictionRequest,
    journal: ResumeJournal,
    progress: Progress | None,
) -> PredictionPlan:
    """Make the chip sources of a job.

    Args:
        bundle: the bundle.
        scenes: the scenes; not used for chips.
        declarations: declaration of each chip; not used for scenes.
        request: options of the job.
        journal: stores detected objects for a resumed job.
        progress: called with numbers of windows of a scene while objects are detected.

    Returns:
        The chip sources.

    Raises:
        RequestError: an option contradicts the contract or the positions.
        DataError: a scene cannot be read or does not fulfill the contract.
    """
    if not request.query.reads_scenes:
        return PredictionPlan([ChipFiles(declarations, bundle.contract, request.chip_options)], [], [], [])
    plan = plan_scenes(
        scenes,
        request.query,
        request.chip_options,
        request.declaration,
        bundle.contract,
        journal=journal,
        product_options=request.product_options,
        chips_dir=request.chips_dir,
        progress=progress,
    )
    return PredictionPlan(plan.sources, plan.scenes, plan.rejected, plan.notes, plan.positions)


def run_job(job: PredictionJob) -> LoadedEngine | None:
    """Classify all chips of a job and record the results in its journal.

    Args:
        job: the job.

    Returns:
        The engine that was used; None if the job has no chips.

    Raises:
        RequestError: the requested engine cannot be used.
        WeightsError: the bundle cannot be used, or its logits are not finite.
    """
    request, bundle = job.request, job.bundle
    batches = make_batches(job.plan.sources, request.batch_size)
    if not batches:
        return None
    engine = select_engine(
        bundle,
        request.engine,
        request.precision,
        request.device,
        partial(read_sample, batches),
        sum(len(batch.chips) for batch in batches),
        job.journal.get_note("engine"),
    )
    job.journal.set_note("engine", engine.metadata["kind"])
    classify_batches(
        batches,
        ChipClassifier(engine.infer, engine.contract, bundle.classes, bundle.calibrator, engine.concurrency),
        job.journal,
        readers=request.readers,
        thumbnails=request.html_path is not None,
        progress=job.progress,
    )
    return engine


def write_result(job: PredictionJob, engine: LoadedEngine | None, *, may_be_outside: bool = False) -> PredictionResult:
    """Write the table, the list of rejected chips, and the review page.

    Args:
        job: a job that has run.
        engine: the engine that was used; None if the job has no chips.
        may_be_outside: see `predict`.

    Returns:
        The table, and what was rejected.

    Raises:
        DataError: all chips were rejected, or all positions lie outside of the scenes.
    """
    bundle, request, plan, output_path = job.bundle, job.request, job.plan, job.output_path
    table, rejected, notes = collect_results(job.journal, plan, bundle)
    table, checks = check_scenes(table, bundle.calibrator, bundle.classes)
    rejected_list = write_rejected_list(output_path, rejected)
    if job.skipped_files:
        notes.append(f"files in folders that are not images by their suffix: {job.skipped_files:,}")
    if rejected:
        notes.append(f"rejected: {len(rejected):,}, listed in {rejected_list}")
    notes += [engine.summary] if engine else []
    if table.empty:
        notes.insert(0, describe_empty_result(plan, request.query, rejected, rejected_list, may_be_outside))
    thumbnails = table.pop("thumb").tolist() if "thumb" in table else []
    if plan.crs is None and output_path.suffix.lower() == ".geojson":
        notes.append("the table has no geometry: GeoJSON needs degrees; .gpkg also takes pixel coordinates")
    if output_path.suffix.lower() == ".parquet":
        notes.append("QGIS opens .parquet if its GDAL can; that of Debian and Ubuntu cannot: use .gpkg for QGIS")
    truth = compare_with_truth(plan, request, table)
    notes += [str(check) for check in truth]
    notes += (warnings := describe_checks(checks))
    metadata = table_metadata(bundle, plan, request, notes, engine.metadata if engine else {})
    metadata |= {"job": job.journal.key, "chips": len(table), "rejected": len(rejected)}
    metadata |= {
        "ood": sum(check.ood for check in checks),
        "withheld": sum(check.chips for check in checks if check.class_sets == "withheld"),
        "checks": [check.as_json() for check in checks],
        "truth": [check.as_json() for check in truth],
    }
    layer = PredictionLayer(table, plan.crs, bundle.classes, metadata, plan.geometry_type, request.query.tile_step)
    job.journal.set_note(*_writing_note(output_path, request))
    discards = request.discard_corrections
    write_prediction_table(layer, output_path, overwrite=job.replaces_outputs, discard_corrections=discards)
    if request.html_path is not None:
        source = TrainingSource(job.bundle_dir or Path("BUNDLE"), bundle.recipe.data.root)
        write_review_page(request.html_path, layer, thumbnails, plan.scenes, source, output_path, warnings)
    if request.picture_path is not None:
        write_map_pictures(request.picture_path, layer, plan.scenes, truth)
    counts = {name: int((table["class"] == name).sum()) for name in bundle.classes}
    reasons = [(Path(f"{file}:{line}" if line else file), reason) for file, line, reason in rejected]
    return PredictionResult(table, reasons, counts, output_path, notes, checks, truth)


def predict_bundles(
    bundle_dirs: Sequence[Path],
    inputs: Sequence[str | Path],
    output_path: Path,
    request: PredictionRequest = DEFAULT_REQUEST,
    progress: Progress | None = None,
) -> list[PredictionResult]:
    """Classify the same chips with several bundles, one after the other.

    Tables are written after the last bundle has finished, so that the same call resumes an interrupted job.

    Args:
        bundle_dirs: the bundles.
        inputs: see `predict`.
        output_path: the table of the first bundle; see `output_paths` for the others.
        request: options of each job.
        progress: called with numbers of chips, for each bundle.

    Returns:
        One result per bundle.

    Raises:
        RequestError: the bundles differ in backbone, contract or test-time views; also see `predict`.
        WeightsError: see `predict`.
        DataError: see `predict`.
    """
    _check_request(request)
    bundles = [Bundle.load(folder) for folder in bundle_dirs]
    paths = output_paths(output_path, bundles)
    for bundle in bundles:
        check_compatible(bundles[0], bundle)
    request = replace(request, engine="torch")
    with ExitStack() as stack:
        jobs: list[PredictionJob] = []
        for bundle, path in zip(bundles, paths, strict=True):
            # the journal of the first job is deleted last, so it tells whether an interrupted call wrote these tables
            replaces = request.overwrite or any(job.replaces_outputs for job in jobs)
            job = stack.enter_context(open_job(bundle, inputs, path, replace(request, overwrite=replaces), progress))
            jobs.append(replace(job, request=request))
        engines = [run_job(job) for job in jobs]
        return [write_result(job, engine) for job, engine in zip(jobs, engines, strict=True)]


def output_paths(output_path: Path, bundles: Sequence[Bundle]) -> list[Path]:
    """Return one path per bundle: `output_path`, then `<stem>.<recipe name><suffix>`, numbered if names repeat.

    Args:
        output_path: the table of the first bundle.
        bundles: all bundles.

    Returns:
        The paths of the tables, without duplicates.
    """
    paths = [output_path]
    for bundle in bundles[1:]:
        name, number = bundle.recipe.name, 2
        while output_path.with_name(f"{output_path.stem}.{name}{output_path.suffix}") in paths:
            name, number = f"{bundle.recipe.name}-{number}", number + 1
        paths.append(output_path.with_name(f"{output_path.stem}.{name}{output_path.suffix}"))
    return paths


def check_compatible(first: Bundle, other: Bundle) -> None:
    """Check that two bundles can classify the same chips in one call.

    Args:
        first: the bundle that is given first.
        other: a bundle given with --also.

    Raises:
        RequestError: they differ in backbone, contract or test-time views.
    """
    names = f"{first.recipe.name} ({first.sha256[:12]}) and {other.recipe.name} ({other.sha256[:12]})"
    hint = "classify with one bundle at a time"
    if first.backbone_sha256 != other.backbone_sha256:
        backbones = " and ".join(f"{x.recipe.backbone.name} {x.backbone_sha256[:12]}" for x in (first, other))
        raise RequestError(f"{names} have different backbones: {backbones}", "--also", hint)
    contract, other_contract = (bundle.contract.model_dump(exclude={"statistics"}) for bundle in (first, other))
    if differences := ", ".join(key for key in contract if contract[key] != other_contract[key]):
        raise RequestError(f"{names} take different chips: their contracts differ in {differences}", "--also", hint)
    tta, other_tta = first.recipe.evaluate, other.recipe.evaluate
    if (tta.tta, tta.crop_margin) != (other_tta.tta, other_tta.crop_margin):
        raise RequestError(f"{names} use different test-time views (evaluate.tta)", "--also", hint)


def _check_request(request: PredictionRequest) -> None:
    reject_scene_outputs(request, "review page, map and truth are for one bundle, without --also")
    if request.engine not in ("auto", "torch") or request.precision not in (None, "fp32"):
        message = "several bundles are only computed by PyTorch in float32"
        raise RequestError(message, "--also", "leave out --engine and --precision, or give one bundle at a time")
