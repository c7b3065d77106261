"""Load a bundle into an engine."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rsft.data.imagery.contract import Contract
from rsft.errors import RequestError, RsftError, WeightsError
from rsft.inference.engines.base import (
    ENGINES,
    FORMATS,
    REFERENCE,
    DirectEngine,
    EngineModel,
    EngineSpec,
    InferenceFn,
    find_engine,
)
from rsft.inference.engines.graph import GraphEngine
from rsft.inference.export.metadata import read_export_metadata
from rsft.inference.selection.export_cache import open_cached_export
from rsft.models.averaging import with_tta
from rsft.models.bundle.bundle import Bundle
from rsft.models.outputs import ClassifierOutputs


class LoadedEngine(NamedTuple):
    """An engine that is ready to classify.

    Attributes:
        infer: computes logits and features, including test-time augmentation.
        contract: turns chips into the inputs of `infer`.
        spec: the loaded engine.
        note: sentence for the user, or "".
        concurrency: number of threads that may call `infer` at the same time.
    """

    infer: InferenceFn
    contract: Contract
    spec: EngineSpec
    note: str = ""
    concurrency: int = 1


def load_reference_engine(bundle: Bundle, device: str = "auto") -> LoadedEngine:
    """Load a bundle in PyTorch in float32, with PEFT modules merged.

    Args:
        bundle: the bundle to load.
        device: auto, cpu or cuda.

    Returns:
        The engine with which others are compared.

    Raises:
        WeightsError: the backbone on this machine is not the one that the bundle was trained on.
    """
    return load_engine(bundle, REFERENCE, device)


def load_engine(bundle: Bundle, spec: EngineSpec, device: str, images: Tensor | None = None) -> LoadedEngine:
    """Load a bundle in any engine. If the engine runs exported graphs, the first call writes the export.

    Args:
        bundle: the bundle to load.
        spec: engine and precision.
        device: auto, cpu or cuda.
        images: network inputs of the job (n, P, S, S), used to check a new export.

    Returns:
        The engine with the bundle's test-time augmentation.

    Raises:
        RequestError: the engine or the precision does not exist, or a package is not installed.
        WeightsError: the local backbone is not the bundle's, or an export differs from PyTorch.
    """
    engine = find_engine(spec.engine)
    engine.check(spec.precision, device)
    if isinstance(engine, GraphEngine):
        graph = open_cached_export(engine, bundle, spec.precision, images)
        return _add_tta(bundle, EngineModel(graph, spec, concurrency=graph.concurrency))
    assert isinstance(engine, DirectEngine), f"{spec.engine} is neither a DirectEngine nor a GraphEngine"
    return _add_tta(bundle, engine.load(bundle, spec, device))


def load_exported_engine(bundle: Bundle, path: Path) -> LoadedEngine:
    """Load an export of a bundle.

    Args:
        bundle: the bundle that was exported.
        path: folder of the export, or a file in it.

    Returns:
        The engine with the bundle's test-time augmentation.

    Raises:
        RequestError: the path is not an export or belongs to another bundle, or no engine runs its format.
        WeightsError: a file of the export is altered or damaged.
    """
    folder = path if path.is_dir() else path.parent
    metadata = read_export_metadata(folder)
    exported, kind, precision = (str(metadata.get(key)) for key in ("bundle_sha256", "kind", "precision"))
    if exported != bundle.sha256:
        message = f"this is an export of the bundle {exported[:12]}, not of {bundle.sha256[:12]}"
        raise RequestError(message, path, "export this bundle: rsft export")
    spec = EngineSpec(kind, precision)
    engine = find_engine(spec.engine) if spec.engine in ENGINES else None
    if not isinstance(engine, GraphEngine):
        formats = " or ".join(name for name in ENGINES if name in FORMATS)
        raise RequestError(
            f"no engine runs {spec.engine} exports", path, f"export {formats}, or use --engine {REFERENCE.engine}"
        )
    try:
        model = engine.open_graph(folder / engine.file_name, spec.precision)
    except (RsftError, MemoryError):
        raise
    except Exception as error:  # the type depends on the library and on the fault
        text = str(error).strip().partition("\n")[0]
        raise WeightsError(f"the graph cannot be opened: {text}", folder / engine.file_name, "export again") from error
    return _add_tta(bundle, EngineModel(model, spec, concurrency=model.concurrency))


def _add_tta(bundle: Bundle, loaded: EngineModel) -> LoadedEngine:
    """Add test-time views, and split the inputs into batches."""
    model, contract = with_tta(loaded.model, bundle.contract, bundle.recipe.evaluate)

    @torch.inference_mode()
    def infer(images: NDArray[np.float32]) -> ClassifierOutputs:
        batches = torch.split(torch.from_numpy(images), loaded.batch_size or len(images))
        outputs = [model.predict(batch.to(loaded.device)) for batch in batches]
        return ClassifierOutputs(*(torch.cat(column).float().cpu().numpy() for column in zip(*outputs, strict=True)))

    return LoadedEngine(infer, contract, loaded.spec, loaded.note, loaded.concurrency)
