"""Classify the same chips with several bundles, with one job and one table per bundle."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from rsft.errors import RequestError
from rsft.inference.predict.extra_outputs import reject_scene_outputs
from rsft.inference.predict.job import PredictionJob, PredictionResult, open_job, run_job, write_result
from rsft.inference.predict.request import DEFAULT_REQUEST, PredictionRequest
from rsft.models.bundle.bundle import Bundle
from rsft.types import Progress


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
