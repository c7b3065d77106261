"""Write the vectors of an encoder for chips, or for places of scenes, as GeoParquet."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import shapely

from rsft.backbones.catalog import find_encoder
from rsft.data.chips.chip_content import resolve_band_names, resolve_unit
from rsft.data.chips.manifest import MANIFEST, read_manifest
from rsft.data.imagery.reader import read_chip
from rsft.errors import DataError, RequestError
from rsft.inference.options import PredictionRequest
from rsft.inference.predict.batch_journal import BatchResult
from rsft.inference.predict.job import run_job
from rsft.inference.predict.open_job import PredictionJob, open_job, writing_note
from rsft.inference.predict.pipeline import PreparedBatch
from rsft.inference.predict.rejections import write_rejected_list
from rsft.inference.writers.geoparquet import GeoParquet
from rsft.inference.writers.layer import PredictionLayer
from rsft.inference.writers.tables import check_output_file
from rsft.models.bundle.bundle import Bundle
from rsft.models.contract_fitting import fit_contract
from rsft.models.loading import build_classifier, load_encoder
from rsft.models.outputs import ClassifierOutputs
from rsft.plugins.vectors.vector_file import VECTOR
from rsft.recipe.schema import Recipe
from rsft.scenes.inputs import find_chips
from rsft.types import LONLAT, Progress, Rejection
from rsft.version import __version__

_STORE_COLUMNS = ("split", "class", "group_key")
"""Columns of the manifest of a chip store that the table of vectors has as well."""


@dataclass(frozen=True)
class EmbedRequest(PredictionRequest):
    """The options of a job that writes vectors.

    Its journal is not that of a prediction.
    """

    output: str = VECTOR


@dataclass(frozen=True)
class Embedding:
    """A table of vectors that was written.

    Attributes:
        path: the file.
        chips: number of its rows.
        length: number of dimensions.
        rejections: file, line and reason of each chip without a vector.
        notes: remarks for the reader.
    """

    path: Path
    chips: int
    length: int
    rejections: Sequence[Rejection]
    notes: Sequence[str]


def write_vectors(
    model: Bundle,
    folder: Path,
    inputs: Sequence[str],
    path: Path,
    request: EmbedRequest,
    progress: Progress | None = None,
) -> Embedding:
    """Write the vectors of chips or of places in scenes.

    The same call resumes an interrupted job, as that of a prediction.

    Args:
        model: the encoder, from `frozen_model`, or a bundle.
        folder: folder of the bundle.
        inputs: see `rsft.inference.predict.job.predict`.
        path: the table to write, .parquet.
        request: the options.
        progress: called with numbers of chips.

    Returns:
        What was written.

    Raises:
        RequestError: no chips are found, or the table cannot be written.
        DataError: no chip can be used.
    """
    check_output_file(path, (".parquet",), overwrite=True)
    with open_job(model, folder, inputs, path, request, progress) as job:
        run_job(job, _vector_rows)
        result = job.journal.collect()
        if result.rows.empty:
            reason = result.rejected[0][2] if result.rejected else "no chip was found"
            raise DataError("no chip has a vector", inputs[0], reason)
        table = _add_store_columns(result.rows, inputs)
        write_rejected_list(path.with_suffix(".rejected.csv"), result.rejected)
        job.journal.set_note(*writing_note(path, request))
        _write(job, table, path)
    length = len(table[VECTOR].iloc[0])
    notes = []
    if model.contract.statistics and model.calibrator is None:
        notes.append(
            "the stretch was measured on these chips: embed all chips in one call, or"
            " take the encoder of a bundle (--bundle)"
        )
    return Embedding(path, len(table), length, result.rejected, notes)


def frozen_model(
    name: str, inputs: Sequence[str], request: EmbedRequest, size: int | None = None
) -> Bundle:
    """Return a bundle of an encoder for chips, with a head that is not used.

    Args:
        name: name of the encoder.
        inputs: the chips.
        request: unit and bands of the chips.
        size: side of the input in pixels; None takes that of the encoder.

    Returns:
        A bundle that is not saved. Its hash covers encoder, settings and contract, so
        that no job resumes that of another encoder.

    Raises:
        RequestError: the encoder is unknown, or the inputs are scenes.
        WeightsError: the weights of the encoder cannot be used.
        DataError: the first chip cannot be read.
    """
    if request.query.reads_scenes:
        raise RequestError(
            "an encoder alone does not say how the pixels of a scene become its input",
            "--backbone",
            "give a bundle with this encoder: --bundle RUN",
        )
    encoder_info = find_encoder(name)
    document: dict[str, Any] = {
        "name": "embed",
        "data": {"root": "chips", "size": size or encoder_info.size},
        "backbone": {"name": name, "pool": "avg"},
        "peft": {"method": "linear-probe"},
        "head": {"init": "random"},
        "train": {"epochs": 1},
    }
    recipe = Recipe.model_validate(document)
    files, _ = find_chips(inputs, request.declaration)
    first, declaration = next(iter(files.items()))
    pixels = read_chip(Path(first))
    bands = resolve_band_names(pixels, declaration.bands)
    unit = resolve_unit(pixels, declaration.unit)
    encoder = load_encoder(recipe, bands)
    if getattr(encoder.vit, "cls_token", None) is not None:
        document["backbone"]["pool"] = "token"
        recipe = Recipe.model_validate(document)
    contract = fit_contract(
        recipe.data,
        encoder,
        bands,
        [unit],
        lambda _: (read_chip(Path(name)) for name in files),
    )
    content = [encoder.sha256, recipe.model_dump_json(), contract.model_dump_json()]
    return Bundle(
        recipe=recipe,
        sha256=hashlib.sha256(json.dumps(content).encode()).hexdigest(),
        classes=(VECTOR,),
        groups={},
        train_counts=(0,),
        contract=contract,
        backbone_sha256=encoder.sha256,
        tensors=build_classifier(encoder, 1, recipe).learned_state(),
    )


def _vector_rows(
    prepared: PreparedBatch, outputs: ClassifierOutputs | None, model: Bundle
) -> BatchResult:
    """Return the columns of the chips of a batch, with their vectors."""
    rows = pd.DataFrame(prepared.columns)
    if outputs is not None:
        rows[VECTOR] = list(np.asarray(outputs.features, np.float32))
    source = prepared.batch.source
    rejected = [
        (*source.location_of(number), reason) for number, reason in prepared.rejected
    ]
    return BatchResult(rows, rejected, prepared.counts)


def _add_store_columns(table: pd.DataFrame, inputs: Sequence[str]) -> pd.DataFrame:
    """Add split, class and group of the chips of chip stores, and their positions."""
    manifests = []
    for item in inputs:
        if (Path(item) / MANIFEST).is_file():
            manifest = read_manifest(Path(item))
            paths = [str(Path(item) / path) for path in manifest["path"]]
            manifests.append(manifest.assign(path=paths))
    if not manifests:
        return table
    rows = pd.concat(manifests).set_index("path").reindex(table["path"])
    columns = [name for name in _STORE_COLUMNS if rows[name].notna().any()]
    if "lon" in rows:
        points = shapely.points(rows["lon"].to_numpy(), rows["lat"].to_numpy())
        is_known = rows["lon"].notna().to_numpy() & table["geometry"].isna().to_numpy()
        table.loc[is_known, "geometry"] = points[is_known]
    return table.assign(**{name: rows[name].to_numpy(object) for name in columns})


def _write(job: PredictionJob, table: pd.DataFrame, path: Path) -> None:
    model = job.bundle
    is_bundle = model.calibrator is not None
    metadata = {
        "rsft_version": __version__,
        "model": model.recipe.name if is_bundle else model.recipe.backbone.name,
        "model_sha256": model.sha256 if is_bundle else model.backbone_sha256,
        "backbone": model.recipe.backbone.name,
        "backbone_sha256": model.backbone_sha256,
        "dimensions": len(table[VECTOR].iloc[0]),
        "job": job.journal.key,
    }
    ordered = [name for name in table.columns if name not in (VECTOR, "geometry")]
    table = table[[*ordered, VECTOR, "geometry"]]
    layer = PredictionLayer(table, job.plan.crs or LONLAT, (), metadata)
    GeoParquet().write(layer, path)
