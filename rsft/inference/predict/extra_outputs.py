"""Outputs of a prediction job beside its table: checks of their options, the map, the comparison with a truth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from rsft.errors import RequestError
from rsft.inference.inputs.scene_chips import SceneChips
from rsft.inference.predict.request import PredictionPlan, PredictionRequest
from rsft.inference.predict.truth import TruthCheck, check_truth, read_truth
from rsft.inference.scenes.raster import RasterScene
from rsft.inference.writers.tables import PredictionLayer


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
