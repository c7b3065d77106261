"""Classify the same chips with several bundles."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from rsft.errors import RequestError
from rsft.inference.options import (
    DEFAULT_REQUEST,
    PredictionRequest,
)
from rsft.inference.predict.job import (
    PredictionJob,
    PredictionResult,
    open_job,
    run_job,
    write_result,
)
from rsft.inference.writers.tables import (
    table_suffix,
)
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
        inputs: see `predict`.
        output_path: the table of the first bundle; see `output_paths` for the others.
        request: options of each job.
        progress: called with numbers of chips, for each bundle.

    Returns:
        One result per bundle.

    Raises:
        RequestError: the bundles differ in backbone, contract or test-time views; also
            see `predict`.
        WeightsError: see `predict`.
        DataError: see `predict`.
    """
    reject_scene_outputs(
        request, "review page, map and truth are for one bundle, without --also"
    )
    if request.engine not in ("auto", "torch") or request.precision not in (
        None,
        "fp32",
    ):
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
        for bundle, path in zip(bundles, paths, strict=True):
            # the journal of the first job is deleted last, so it tells whether an
            # interrupted call wrote these tables
            replaces = request.overwrite or any(job.replaces_outputs for job in jobs)
            job = stack.enter_context(
                open_job(
                    bundle, inputs, path, replace(request, overwrite=replaces), progress
                )
            )
            jobs.append(replace(job, request=request))
        engines = [run_job(job) for job in jobs]
        return [
            write_result(job, engine) for job, engine in zip(jobs, engines, strict=True)
        ]


def output_paths(output_path: Path, bundles: Sequence[Bundle]) -> list[Path]:
    """Return one path per bundle: `output_path`, then `<stem>.<recipe name><suffix>`, numbered if names repeat."""
    paths = [output_path]
    stem = output_path.name[: -len(table_suffix(output_path)) or None]
    for bundle in bundles[1:]:
        name = bundle.recipe.name
        number = 2
        while (
            path := output_path.with_name(
                f"{stem}.{name}{output_path.name[len(stem) :]}"
            )
        ) in paths:
            name = f"{bundle.recipe.name}-{number}"
            number = number + 1
        paths.append(path)
    return paths


def reject_scene_outputs(request: PredictionRequest, message: str) -> None:
    """Raise a RequestError with this message if a job has a review page, a map or a truth: these are for one job."""
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
    """Raise a RequestError if two bundles do not take the same chips: other backbone, contract or test-time views."""
    names = (
        f"{first.recipe.name} ({first.sha256[:12]}) and {other.recipe.name}"
        f" ({other.sha256[:12]})"
    )
    hint = "classify with one bundle at a time"
    if first.backbone_sha256 != other.backbone_sha256:
        backbones = " and ".join(
            f"{x.recipe.backbone.name} {x.backbone_sha256[:12]}" for x in (first, other)
        )
        raise RequestError(
            f"{names} have different backbones: {backbones}", "--also", hint
        )
    contract = first.contract.model_dump(exclude={"statistics"})
    other_contract = other.contract.model_dump(exclude={"statistics"})
    differences = ", ".join(
        key for key in contract if contract[key] != other_contract[key]
    )
    if differences:
        raise RequestError(
            f"{names} take different chips: their contracts differ in {differences}",
            "--also",
            hint,
        )
    tta = first.recipe.evaluate
    other_tta = other.recipe.evaluate
    if (tta.tta, tta.crop_margin) != (other_tta.tta, other_tta.crop_margin):
        raise RequestError(
            f"{names} use different test-time views (evaluate.tta)", "--also", hint
        )
