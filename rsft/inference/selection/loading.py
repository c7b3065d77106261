"""Load a bundle into an engine, with PyTorch: as the engine, or to write the export that another engine runs."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rsft.inference.engines.base import REFERENCE, DirectEngine, EngineModel, EngineSpec, find_engine
from rsft.inference.engines.graph import GraphEngine
from rsft.inference.selection.export_cache import open_cached_export
from rsft.inference.selection.exported import LoadedEngine, graph_engine
from rsft.models.averaging import with_tta
from rsft.models.bundle.bundle import Bundle
from rsft.models.outputs import ClassifierOutputs


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
        return graph_engine(bundle, open_cached_export(engine, bundle, spec.precision, images), spec)
    assert isinstance(engine, DirectEngine), f"{spec.engine} is neither a DirectEngine nor a GraphEngine"
    return _add_tta(bundle, engine.load(bundle, spec, device))


def _add_tta(bundle: Bundle, loaded: EngineModel) -> LoadedEngine:
    """Add test-time views, and split the inputs into batches."""
    model, contract = with_tta(loaded.model, bundle.contract, bundle.recipe.evaluate)

    @torch.inference_mode()
    def infer(images: NDArray[np.float32]) -> ClassifierOutputs:
        batches = torch.split(torch.from_numpy(images), loaded.batch_size or len(images))
        outputs = [model.predict(batch.to(loaded.device)) for batch in batches]
        return ClassifierOutputs(*(torch.cat(column).float().cpu().numpy() for column in zip(*outputs, strict=True)))

    return LoadedEngine(infer, contract, loaded.spec, loaded.note, loaded.concurrency)
