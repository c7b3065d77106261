"""`rsft predict`: classify chips or scenes, and write a table."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from rsft.cli.display.console import show_paths, show_used_bundle, warn_about_licenses
from rsft.cli.options import OUT, BundleArgument, documented
from rsft.errors import RequestError
from rsft.inference.options import PredictionRequest
from rsft.utils.command_options import Access, Argument, Option

app = typer.Typer()


@app.command()
@documented
def predict(
    bundle: BundleArgument,
    inputs: Annotated[list[str], Argument(metavar="INPUT...")],
    out: Annotated[Path, OUT],
    request: PredictionRequest,
    strict: bool = False,
    ray: Annotated[bool, Option(panel="Speed", access=Access.ONLINE)] = False,
    *,
    as_json: bool,
) -> None:
    """Classify chips or scenes, and write a table.

    Chips that cannot be read, or that the bundle's contract rejects, are listed. Run
    the same command again to resume an interrupted job.

    Args:
        inputs: Chips: files, folders, globs, @list. With --at, --grid or --detect,
            scenes: rasters, .SAFE folders, .zip files, https:// and s3:// addresses,
            /vsi names, subdatasets (NETCDF:file:variable), STAC items.
        out: Output table: .gpkg, .geojson, .parquet, .csv or .xlsx; .coco.json or
            .labelstudio.json for labeling tools. A folder gets one .gpkg per scene;
            the scenes are classified in parallel.
        strict: Exit with status 1 if anything was rejected.
        ray: For an output folder, use the Ray cluster of RAY_ADDRESS or of this
            machine. If there is none, start one here.
    """
    is_archive = not out.suffix
    if ray and not is_archive:
        raise RequestError(
            "--ray is for many scenes with an output folder", "--ray", "give -o FOLDER"
        )
    request = _split_engine(request)
    if is_archive:
        has_rejected = _predict_archive(bundle, inputs, out, request, ray, as_json)
    else:
        has_rejected = _predict(bundle, inputs, out, request, as_json=as_json)
    if strict and has_rejected:
        raise typer.Exit(1)


def _split_engine(request: PredictionRequest) -> PredictionRequest:
    """Return a request with the engine and the precision that --engine names."""
    engine, _, precision = request.engine.partition(",")
    return replace(request, engine=engine, precision=precision or None)


def _predict_archive(
    bundle: Path,
    inputs: list[str],
    out: Path,
    request: PredictionRequest,
    ray: bool,
    as_json: bool,
) -> bool:
    """Write one table per scene, and return whether anything was rejected.

    Raises:
        typer.Exit: every scene failed.
    """
    from rsft.cli.display.results import report_progress, show_archive
    from rsft.inference.archive import open_archive_executor, predict_archive

    jobs = request.readers
    request = replace(request, readers=None)
    with report_progress(as_json) as report:
        show_used_bundle(bundle)
        warn_about_licenses(bundle)
        with open_archive_executor(request.device, ray, jobs) as executor:
            archive = predict_archive(bundle, inputs, out, request, executor, report)
    show_archive(archive, as_json)
    if all(x.status == "failed" for x in archive.scenes):
        raise typer.Exit(1)
    return any(x.status == "failed" or x.rejected for x in archive.scenes)


def _predict(
    bundle: Path,
    inputs: list[str],
    out: Path,
    request: PredictionRequest,
    *,
    as_json: bool,
) -> bool:
    """Write one table, and return whether anything was rejected."""
    from rsft.cli.display.results import (
        emit_predictions,
        report_progress,
        show_checks,
        show_predictions,
    )

    with report_progress(as_json) as report:
        report(0, 0, "loading the bundle")
        from rsft.inference.predict.job import predict as predict_table
        from rsft.utils.memory import retain_freed_memory

        retain_freed_memory()
        show_used_bundle(bundle)
        warn_about_licenses(bundle)
        result = predict_table(bundle, inputs, out, request, report)
    outputs = {
        "chips": request.chips_dir,
        "page": request.html_path,
        "map": request.picture_path,
    }
    paths = {name: path for name, path in outputs.items() if path}
    if as_json:
        emit_predictions(result, paths)
    else:
        show_predictions(result)
        show_paths(paths)
        show_checks(result)
    return bool(result.rejected)
