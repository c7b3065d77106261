"""Compute the vectors of an encoder for chips, and write them as GeoParquet."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

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
from rsft.types import LONLAT, Progress, Rejection
from rsft.version import __version__

_BATCH = 32  # chips
_STORE_COLUMNS = ("split", "class", "group_key")
"""Columns of the manifest of a chip store that the table of vectors has as well."""


@dataclass(frozen=True)
class VectorModel:
    """A network whose features are the vectors.

    Attributes:
        engine: computes the features of chips.
        metadata: names and hashes of model and backbone.
        notes: remarks for the reader.
    """

    engine: LoadedEngine
    metadata: Mapping[str, str]
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Embedding:
    """The vectors of chips.

    Attributes:
        table: one row per chip, with its vector and its geometry.
        length: number of dimensions.
        rejections: file, line and reason of each chip without a vector.
    """

    table: pd.DataFrame
    length: int
    rejections: Sequence[Rejection]


def load_encoder_model(
    name: str, files: Mapping[str, Declaration], device: str, size: int | None = None
) -> VectorModel:
    """Load an encoder, and measure how chips become its inputs.

    Args:
        name: name of the encoder.
        files: the chips.
        device: auto, cpu or cuda.
        size: side of the input in pixels; None takes that of the encoder.

    Returns:
        The encoder, whose features are pooled over the patches, or the class token.

    Raises:
        RequestError: the encoder is unknown.
        WeightsError: the weights of the encoder cannot be used.
        DataError: the first chip cannot be read.
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
    first, declaration = next(iter(files.items()))
    pixels = read_chip(Path(first))
    bands = resolve_band_names(pixels, declaration.bands)
    unit = resolve_unit(pixels, declaration.unit)
    encoder = load_encoder(recipe, bands)
    if getattr(encoder.vit, "cls_token", None) is not None:
        recipe = recipe.with_keys("backbone", pool="token")
    contract = fit_contract(
        recipe.data,
        encoder,
        bands,
        [unit],
        lambda _: (read_chip(Path(name)) for name in files),
    )
    target = choose_device(device)
    classifier = move_network(build_classifier(encoder, 1, recipe), target).eval()
    infer = as_inference_fn(classifier.predict, target)
    metadata = dict.fromkeys(("model", "backbone"), name)
    metadata |= dict.fromkeys(("model_sha256", "backbone_sha256"), encoder.sha256)
    notes = []
    if contract.statistics:
        notes.append(
            "the stretch was measured on these chips: embed all chips in one call, or"
            " take the encoder of a bundle (--bundle)"
        )
    return VectorModel(LoadedEngine(infer, contract, REFERENCE), metadata, notes)


def embed_chips(
    inputs: Sequence[str],
    declaration: Declaration,
    bundle: Predictor | Path | None,
    backbone: str | None,
    device: str,
    size: int | None,
    progress: Progress | None,
) -> tuple[VectorModel, Embedding]:
    """Compute the vectors of chips by the encoder of a bundle, or by a named one.

    Args:
        inputs: files, folders, chip stores, globs or @list.
        declaration: what is declared about all chips.
        bundle: the bundle; None takes `backbone`.
        backbone: name of an encoder; None takes `bundle`.
        device: auto, cpu or cuda.
        size: side of the input of `backbone` in pixels; None is its native one.
        progress: called with numbers of chips.

    Raises:
        RequestError: not one of bundle and backbone is given, or no chips are found.
        WeightsError: the encoder cannot be used.
        DataError: no chip can be used.
    """
    if (backbone is None) == (bundle is None):
        raise RequestError(
            "the encoder is not clear",
            "--backbone, --bundle",
            "give one of --backbone NAME and --bundle RUN",
        )
    files, _ = find_chips(inputs, declaration)
    if isinstance(bundle, Path):
        bundle = Predictor.load(bundle, device)
    if bundle is not None:
        metadata = {
            "model": bundle.bundle.recipe.name,
            "model_sha256": bundle.bundle.sha256,
            "backbone": bundle.bundle.recipe.backbone.name,
            "backbone_sha256": bundle.bundle.backbone_sha256,
        }
        model = VectorModel(bundle.engine, metadata)
    else:
        model = load_encoder_model(str(backbone), files, device, size)
    stores = [Path(item) for item in inputs]
    return model, compute_vectors(model, files, stores, progress)


def compute_vectors(
    model: VectorModel,
    files: Mapping[str, Declaration],
    stores: Sequence[Path],
    progress: Progress | None = None,
) -> Embedding:
    """Compute the vectors of chips.

    Args:
        model: the network.
        files: the chips, with what is declared about each one.
        stores: chip stores with some of these chips, whose columns are added.
        progress: called with numbers of chips.

    Raises:
        DataError: no chip can be used.
    """
    contract = model.engine.contract
    source = open_chips(files, contract, ChipOptions())
    tables = []
    rejected = []
    for batch in make_batches([source], _BATCH):
        prepared = prepare_batch(batch, contract)
        for number, reason in prepared.rejected:
            rejected.append((*source.location_of(number), reason))
        if prepared.numbers:
            features = model.engine.infer(prepared.inputs).features
            rows = pd.DataFrame(prepared.columns)
            tables.append(rows.assign(**{VECTOR: list(features.astype(np.float32))}))
        if progress is not None:
            progress(batch.chips.stop, len(source), "computing vectors")
    if not tables:
        raise DataError("no chip has a vector", next(iter(files)), rejected[0][2])
    table = _add_store_columns(pd.concat(tables, ignore_index=True), stores)
    ordered = [name for name in table.columns if name not in (VECTOR, "geometry")]
    table = table[[*ordered, VECTOR, "geometry"]]
    return Embedding(table, len(table[VECTOR].iloc[0]), rejected)


def write_vectors(model: VectorModel, embedding: Embedding, path: Path) -> None:
    """Write vectors, whole or not at all, and the list of rejected chips beside them.

    Args:
        model: the network.
        embedding: the vectors.
        path: the table to write, .parquet.
    """
    write_rejected_list(path.with_suffix(".rejected.csv"), list(embedding.rejections))
    metadata = {"rsft_version": __version__, "dimensions": embedding.length}
    layer = PredictionLayer(embedding.table, LONLAT, (), metadata | {**model.metadata})
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
