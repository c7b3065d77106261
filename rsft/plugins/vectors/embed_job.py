"""Compute the vectors of an encoder for chips, and write them as GeoParquet."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from rsft.backbones import simship
from rsft.backbones.catalog import find_encoder
from rsft.data.chips.chip_content import resolve_band_names, resolve_unit
from rsft.data.chips.manifest import MANIFEST, read_manifest
from rsft.data.imagery.reader import read_chip
from rsft.errors import DataError, RequestError
from rsft.inference.engines.base import REFERENCE, LoadedEngine
from rsft.inference.engines.graph import as_inference_fn
from rsft.inference.predict.chip_files import open_chips
from rsft.inference.predict.pipeline import make_batches, prepare_batch
from rsft.inference.predict.predictor import Predictor
from rsft.inference.predict.rejections import write_rejected_list
from rsft.inference.writers.geoparquet import GeoParquet
from rsft.inference.writers.layer import PredictionLayer
from rsft.models.contract_fitting import fit_contract
from rsft.models.devices import choose_device, move_network
from rsft.models.loading import build_classifier, load_encoder
from rsft.plugins.vectors.vector_file import VECTOR
from rsft.recipe.schema import Recipe
from rsft.scenes.inputs import find_chips
from rsft.scenes.options import ChipOptions, Declaration
from rsft.types import LONLAT, Bands, JsonObject, Progress, Rejection
from rsft.version import __version__

_BATCH = 32  # chips
_STORE_COLUMNS = ("split", "class", "group_key")
"""Columns of the manifest of a chip store that the table of vectors has as well."""


@dataclass(frozen=True)
class Embedding:
    """The vectors of chips.

    Attributes:
        table: one row per chip, with its vector and its geometry.
        metadata: names and hashes of model and backbone, and the number of dimensions.
        rejections: file, line and reason of each chip without a vector.
        notes: remarks for the reader.
    """

    table: pd.DataFrame
    metadata: JsonObject
    rejections: Sequence[Rejection]
    notes: Sequence[str]


def embed_chips(
    inputs: Sequence[str],
    declaration: Declaration,
    bundle: Predictor | Path | None,
    backbone: str | None,
    device: str,
    size: int | None,
    progress: Progress | None,
) -> Embedding:
    """Compute the vectors of chips by the encoder of a bundle, or by a named one.

    Args:
        inputs: files, folders, chip stores, globs or @list. The columns of chip stores
            are added.
        declaration: what is declared about all chips.
        bundle: the bundle; None takes `backbone`.
        backbone: name of an encoder; None takes `bundle`, or else the embedded one.
        device: auto, cpu or cuda.
        size: side of the input of `backbone` in pixels; None is its native one.
        progress: called with numbers of chips.

    Raises:
        RequestError: bundle and backbone are given, the encoder is unknown, or no
            chips are found.
        WeightsError: the encoder cannot be used.
        DataError: no chip can be used.
    """
    if backbone is not None and bundle is not None:
        raise RequestError(
            "the encoder is not clear", "--backbone, --bundle", "leave out one of them"
        )
    files, _ = find_chips(inputs, declaration)
    if isinstance(bundle, Path):
        bundle = Predictor.load(bundle, device)
    notes = []
    if bundle is not None:
        engine = bundle.engine
        model = bundle.bundle.recipe.name
        model_sha256 = bundle.bundle.sha256
        backbone = bundle.bundle.recipe.backbone.name
        backbone_sha256 = bundle.bundle.backbone_sha256
    else:
        backbone = backbone or simship.NAME
        model = backbone
        engine, model_sha256 = _load_encoder(model, files, device, size)
        backbone_sha256 = model_sha256
        if engine.contract.statistics:
            notes.append(
                "the stretch was measured on these chips: embed all chips in one call,"
                " or take the encoder of a bundle (--bundle)"
            )
    table, rejected = _compute_vectors(engine, files, progress)
    table = _add_store_columns(table, list(map(Path, inputs)))
    ordered = [name for name in table.columns if name not in (VECTOR, "geometry")]
    metadata = {
        "rsft_version": __version__,
        "dimensions": len(table[VECTOR].iloc[0]),
        "model": model,
        "backbone": backbone,
        "model_sha256": model_sha256,
        "backbone_sha256": backbone_sha256,
    }
    return Embedding(table[[*ordered, VECTOR, "geometry"]], metadata, rejected, notes)


def _load_encoder(
    name: str, files: Mapping[str, Declaration], device: str, size: int | None
) -> tuple[LoadedEngine, str]:
    """Load an encoder, and measure how chips become its inputs.

    Returns:
        What computes its features, pooled over the patches, or the class token; and the
            hash of its weights.
    """
    settings = {
        "name": "embed",
        "data": {"root": "chips", "size": size or find_encoder(name).size},
        "backbone": {"name": name, "pool": "avg"},
        "peft": {"method": "linear-probe"},
        "head": {"init": "random"},
        "train": {"epochs": 1},
    }
    recipe = Recipe.model_validate(settings)
    bands, _ = _read_kind(*next(iter(files.items())))
    chips = defaultdict(list)
    for chip, declaration in files.items():
        with suppress(DataError):  # such a chip is rejected later
            names, unit = _read_kind(chip, declaration)
            if names == bands:
                chips[unit].append(Path(chip))
    encoder = load_encoder(recipe, bands)
    if getattr(encoder.vit, "cls_token", None) is not None:
        recipe = recipe.with_keys("backbone", pool="token")
    contract = fit_contract(
        recipe.data, encoder, bands, chips, lambda unit: map(read_chip, chips[unit])
    )
    target = choose_device(device)
    classifier = move_network(build_classifier(encoder, 1, recipe), target).eval()
    infer = as_inference_fn(classifier.predict, target)
    return LoadedEngine(infer, contract, REFERENCE), encoder.sha256


def _read_kind(chip: str, declaration: Declaration) -> tuple[Bands, str]:
    """Return bands and unit of a chip.

    Raises:
        DataError: the chip cannot be read, or its bands or unit are unknown.
    """
    pixels = read_chip(Path(chip))
    bands = resolve_band_names(pixels, declaration.bands)
    return bands, resolve_unit(pixels, declaration.unit)


def _compute_vectors(
    engine: LoadedEngine, files: Mapping[str, Declaration], progress: Progress | None
) -> tuple[pd.DataFrame, list[Rejection]]:
    """Return the chips with their vectors, and the chips without one.

    Raises:
        DataError: no chip can be used.
    """
    contract = engine.contract
    source = open_chips(files, contract, ChipOptions())
    tables = []
    rejected = []
    for batch in make_batches([source], _BATCH):
        prepared = prepare_batch(batch, contract)
        for number, reason in prepared.rejected:
            rejected.append((*source.location_of(number), reason))
        if prepared.numbers:
            features = engine.infer(prepared.inputs).features
            rows = pd.DataFrame(prepared.columns)
            tables.append(rows.assign(**{VECTOR: list(features.astype(np.float32))}))
        if progress is not None:
            progress(batch.chips.stop, len(source), "computing vectors")
    if not tables:
        raise DataError("no chip has a vector", next(iter(files)), rejected[0][2])
    return pd.concat(tables, ignore_index=True), rejected


def write_vectors(embedding: Embedding, path: Path) -> None:
    """Write vectors, whole or not at all, and the list of rejected chips beside them.

    The path ends in .parquet.
    """
    write_rejected_list(path.with_suffix(".rejected.csv"), list(embedding.rejections))
    layer = PredictionLayer(embedding.table, LONLAT, (), embedding.metadata)
    GeoParquet().write(layer, path)


def _add_store_columns(table: pd.DataFrame, stores: Sequence[Path]) -> pd.DataFrame:
    """Add split, class and group of the chips of chip stores."""
    manifests = []
    for store in stores:
        if (store / MANIFEST).is_file():
            manifest = read_manifest(store)
            paths = [str(store / path) for path in manifest["path"]]
            manifests.append(manifest.assign(path=paths))
    if not manifests:
        return table
    rows = pd.concat(manifests).set_index("path").reindex(table["path"])
    columns = [name for name in _STORE_COLUMNS if rows[name].notna().any()]
    return table.assign(**{name: rows[name].to_numpy(object) for name in columns})
