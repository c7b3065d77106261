"""Classify the same chips with several bundles."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from rsft.errors import RequestError
from rsft.inference.options import DEFAULT_REQUEST, PredictionRequest
from rsft.inference.predict.job import run_job
from rsft.inference.predict.open_job import PredictionJob, open_job
from rsft.inference.predict.result import PredictionResult, write_result
from rsft.inference.writers.table_format import table_suffix
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

    Tables are written after the last bundle has finished, so that the same call resumes
    an interrupted job.

    Args:
        bundle_dirs: the bundles.
        inputs: see `rsft.inference.predict.job.predict`.
        output_path: the table of the first bundle; see `output_paths` for the others.
        request: options of each job.
        progress: called with numbers of chips, for each bundle.

    Returns:
        One result per bundle.

    Raises:
        RequestError: the bundles differ in backbone, contract or test-time views; also
            see `rsft.inference.predict.job.predict`, as for the other errors.
        WeightsError: a bundle cannot be used.
        DataError: the chips cannot be used.
    """
    reject_scene_outputs(
        request, "review page, map and truth are for one bundle, without --also"
    )
    is_reference = request.engine in ("auto", "torch")
    if not is_reference or request.precision not in (None, "fp32"):
        raise RequestError(
            "several bundles are only computed by PyTorch in float32",
            "--also",
            "leave out --engine and --precision, or give one bundle at a time",
        )
    bundles = [Bundle.load(folder) for folder in bundle_dirs]
    for bundle in bundles:
        check_compatible(bundles[0], bundle)
    paths = output_paths(output_path, bundles)
    request = replace(request, engine="torch")
    with ExitStack() as stack:
        jobs: list[PredictionJob] = []
        for bundle, folder, path in zip(bundles, bundle_dirs, paths, strict=True):
            # the journal of the first job is deleted last, so it tells whether an
            # interrupted call wrote these tables
            replaces = request.overwrite or any(job.replaces_outputs for job in jobs)
            options = replace(request, overwrite=replaces)
            job = stack.enter_context(
                open_job(bundle, folder, inputs, path, options, progress)
            )
            jobs.append(replace(job, request=request))
        engines = [run_job(job) for job in jobs]
        return [
            write_result(job, engine) for job, engine in zip(jobs, engines, strict=True)
        ]


def output_paths(output_path: Path, bundles: Sequence[Bundle]) -> list[Path]:
    """Return the path of the table of each bundle.

    The first one is `output_path`, the others are `<stem>.<recipe name><suffix>`,
    numbered if names repeat.
    """
    paths = [output_path]
    file_name = output_path.name
    stem = file_name[: len(file_name) - len(table_suffix(output_path))]
    suffix = file_name[len(stem) :]
    for bundle in bundles[1:]:
        name = bundle.recipe.name
        path = output_path.with_name(f"{stem}.{name}{suffix}")
        number = 2
        while path in paths:
            path = output_path.with_name(f"{stem}.{name}-{number}{suffix}")
            number += 1
        paths.append(path)
    return paths


def reject_scene_outputs(request: PredictionRequest, message: str) -> None:
    """Raise a RequestError if a job has a review page, a map or a truth.

    These are for one job.
    """
    options = {
        "--html": request.html_path,
        "--picture": request.picture_path,
        "--truth": request.truth_path,
    }
    for option, path in options.items():
        if path is not None:
            raise RequestError(
                message, option, f"leave out {option}, or run the job without it first"
            )


def check_compatible(first: Bundle, other: Bundle) -> None:
    """Raise a RequestError if two bundles do not take the same chips.

    Their backbones, contracts or test-time views differ.
    """
    fault = _describe_difference(first, other)
    if fault:
        raise RequestError(
            f"{_describe(first)} and {_describe(other)} {fault}",
            "--also",
            "classify with one bundle at a time",
        )


def _describe(bundle: Bundle) -> str:
    return f"{bundle.recipe.name} ({bundle.sha256[:12]})"


def _describe_difference(first: Bundle, other: Bundle) -> str:
    """Return in which way two bundles do not take the same chips; "" if they do."""
    if first.backbone_sha256 != other.backbone_sha256:
        names = [
            f"{bundle.recipe.backbone.name} {bundle.backbone_sha256[:12]}"
            for bundle in (first, other)
        ]
        return f"have different backbones: {' and '.join(names)}"
    contract = first.contract.model_dump(exclude={"statistics"})
    other_contract = other.contract.model_dump(exclude={"statistics"})
    keys = [key for key in contract if contract[key] != other_contract[key]]
    if keys:
        return f"take different chips: their contracts differ in {', '.join(keys)}"
    views = first.recipe.evaluate
    other_views = other.recipe.evaluate
    if (views.tta, views.crop_margin) != (other_views.tta, other_views.crop_margin):
        return "use different test-time views (evaluate.tta)"
    return ""
