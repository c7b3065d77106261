"""Classify objects in scenes from Python, as `rsft predict` does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
from geopandas import GeoDataFrame

from rsft.data.imagery.products.options import parse_product_options
from rsft.errors import RequestError
from rsft.inference.options import PredictionRequest
from rsft.inference.predict.job import run_job, warn_about_calibrator
from rsft.inference.predict.open_job import open_job
from rsft.inference.predict.predictor import Predictor, path_names
from rsft.inference.predict.python_words import name_arguments, python_words
from rsft.inference.predict.result import PredictionResult, write_result
from rsft.scenes.options import ChipOptions, ChipSize, Declaration
from rsft.scenes.query import CfarOptions, Query, parse_land
from rsft.types import Progress


def predict_scene(
    bundle: Predictor | Path | str,
    scene: Any,
    *,
    at: GeoDataFrame | Path | str | None = None,
    detect: bool = False,
    grid: int | None = None,
    stride: int | None = None,
    crs: str | None = None,
    layer: str | None = None,
    columns: str | None = None,
    sources: Mapping[str, Path | str] | None = None,
    pfa: float = 1e-6,
    land: Path | str = "auto",
    unit: str | None = None,
    bands: Sequence[str] | None = None,
    size: int | str | None = None,
    spacing: float | None = None,
    resample_to: float | None = None,
    read: Sequence[str] = (),
    progress: Progress | None = None,
) -> GeoDataFrame:
    """Classify objects in scenes, as `rsft predict` does, and return the table.

    Give one of `at`, `detect` and `grid`. All options are those of the command.

    Args:
        bundle: what `rsft.load_bundle` returns, or the path of a bundle or run.
        scene: path, address or open dataset of rasterio, or a list of scenes.
        at: positions or labels of objects: a file, or a table such as that of
            `rsft.detect`.
        detect: whether to detect bright objects on dark water.
        grid: side of the tiles that cover the scene, in chip pixels.
        stride: step between tiles in chip pixels; None is `grid`.
        crs: coordinate system of `at`, if its file declares none.
        layer: layer of `at`, if its file has several.
        columns: columns of `at` by their role, such as "lon=X,lat=Y,class=kind".
        sources: files of locators by name, such as {"ais": "ais.csv"}.
        pfa: probability of a false alarm per pixel of water, for `detect`.
        land: for `detect`, where nothing is detected: a file of polygons, "brightness",
            "none" or "auto".
        unit: unit of the pixels, such as "sigma0", if the scenes do not name it.
        bands: names of the bands in order, if the scenes do not name them.
        size: chip size in pixels, or as "640m" or "box+8"; None is the bundle's.
        spacing: pixel spacing in meters, if a scene has no georeference.
        resample_to: pixel spacing in meters to which chips are resampled.
        read: how values are read, such as ["calibrate=0.001"].
        progress: called with numbers of windows and of chips.

    Returns:
        One row per object with the columns of the command's file, in EPSG:4326, or
        without a coordinate system in pixels if no scene has a georeference. `attrs`
        has the notes of the command, and `rejected` with place and reason of each
        object that cannot be classified.

    Raises:
        RequestError: an argument is wrong or contradicts another one.
        WeightsError: the bundle cannot be used.
        DataError: a scene cannot be read or does not fulfill the contract, or no object
            can be classified.

    Example:
        >>> table = predict_scene("runs/ships", "scene.tif", detect=True)
        >>> table.crs.to_string(), len(table), list(table)[:3]
        ('EPSG:4326', 3, ['chip', 'scene', 'path'])
    """
    with python_words(), _position_file(at) as positions:
        scenes = path_names(scene, "scene")
        query = Query(
            at=positions,
            crs=crs,
            layer=layer,
            columns=columns,
            sources={name: Path(x) for name, x in (sources or {}).items()},
            grid=grid,
            stride=stride,
            detect=CfarOptions(pfa, parse_land(str(land))) if detect else None,
        )
        if not query.reads_scenes:
            raise RequestError(
                "where the objects are is not said",
                "scene",
                "give at=positions, detect=True or grid=N",
            )
        chip_size = None if size is None else ChipSize.parse(str(size))
        request = PredictionRequest(
            query,
            Declaration(unit, tuple(bands) if bands else None),
            ChipOptions(chip_size, resample_to, spacing),
            parse_product_options(list(read)),
        )
        predictor = bundle
        if not isinstance(predictor, Predictor):
            predictor = Predictor.load(Path(predictor))
        result = _run(predictor, scenes, request, progress)
    return geo_table(result.table, result.crs, result.notes, result.rejected)


def _run(
    predictor: Predictor,
    scenes: Sequence[str],
    request: PredictionRequest,
    progress: Progress | None,
) -> PredictionResult:
    """Do the job of `rsft predict`, whose journal is a temporary file."""
    bundle = predictor.bundle
    warn_about_calibrator(bundle)
    with TemporaryDirectory(prefix="rsft-") as folder:
        path = Path(folder) / "predictions.csv"
        with open_job(
            bundle, Path(), scenes, path, request, progress, writes_files=False
        ) as job:
            return write_result(job, run_job(job, lambda _: predictor.engine))


def geo_table(
    table: pd.DataFrame,
    crs: str | None,
    notes: Sequence[str],
    rejected: Sequence[tuple[Path, str]] = (),
) -> GeoDataFrame:
    """Return the table of a command with its messages as `attrs`.

    Args:
        table: the table, with its shapes in the column `geometry`.
        crs: their coordinate system; None if they are in pixels.
        notes: remarks for the reader.
        rejected: place and reason of each object that is not in the table.
    """
    frame = GeoDataFrame(table, geometry="geometry", crs=crs)
    frame.attrs["notes"] = list(map(name_arguments, notes))
    frame.attrs["rejected"] = [(str(x), name_arguments(text)) for x, text in rejected]
    return frame


@contextmanager
def _position_file(at: GeoDataFrame | Path | str | None) -> Iterator[Path | None]:
    """Yield the file of positions; a table is written to one."""
    if not isinstance(at, GeoDataFrame):
        yield None if at is None else Path(at)
        return
    with TemporaryDirectory(prefix="rsft-") as folder:
        path = Path(folder) / "positions.gpkg"
        at.to_file(path, layer="positions")
        yield path
