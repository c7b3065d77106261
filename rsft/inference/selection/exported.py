"""Run an exported graph, without PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rsft.data.imagery.contract import Contract
from rsft.errors import RequestError, RsftError, WeightsError
from rsft.inference.engines.base import (
    CPU_BATCH_SIZE,
    ENGINES,
    FORMATS,
    REFERENCE,
    EngineSpec,
    InferenceFn,
    find_engine,
)
from rsft.inference.engines.graph import GraphEngine
from rsft.inference.engines.inference_fn import GraphModel
from rsft.inference.export.metadata import read_export_metadata
from rsft.models.bundle.bundle import Bundle
from rsft.models.outputs import ClassifierOutputs
from rsft.models.views import VIEWS, average_outputs, tta_contract


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
    if metadata.get("whole"):
        message = "this export takes the pixels of chips, for programs without rsft; rsft predict prepares chips itself"
        raise RequestError(message, path, "give an export that was made without --whole")
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
        message = f"the graph cannot be opened: {_first_line(error)}"
        raise WeightsError(message, folder / engine.file_name, "export again") from error
    return graph_engine(bundle, model, spec)


def graph_engine(bundle: Bundle, graph: GraphModel, spec: EngineSpec) -> LoadedEngine:
    """Add the bundle's test-time views to an opened graph, and split the inputs into batches.

    Args:
        bundle: the bundle of the graph.
        graph: the graph, which takes one view per image.
        spec: engine and precision of the graph.

    Returns:
        The engine. Its `infer` raises WeightsError if the graph cannot be run, or is not one of the bundle.
    """
    evaluate, size, class_count = bundle.recipe.evaluate, bundle.contract.size, len(bundle.classes)

    def infer_batch(images: NDArray[np.float32]) -> ClassifierOutputs:
        if evaluate.tta == "none":
            return _run_graph(graph, images, class_count)
        views = VIEWS[evaluate.tta](images, size)
        outputs = [_run_graph(graph, np.ascontiguousarray(view), class_count) for view in views]
        return ClassifierOutputs(*average_outputs(*zip(*outputs, strict=True)))

    def infer(images: NDArray[np.float32]) -> ClassifierOutputs:
        starts = range(0, len(images), CPU_BATCH_SIZE)
        outputs = [infer_batch(images[start : start + CPU_BATCH_SIZE]) for start in starts]
        return ClassifierOutputs(*(np.concatenate(arrays).astype(np.float32) for arrays in zip(*outputs, strict=True)))

    return LoadedEngine(infer, tta_contract(bundle.contract, evaluate), spec, concurrency=graph.concurrency)


def _run_graph(graph: GraphModel, images: NDArray[np.float32], class_count: int) -> ClassifierOutputs:
    """Run a graph, whose file may contain anything, and check the shapes of its outputs."""
    try:
        logits, features = graph.infer(images)
    except (RsftError, MemoryError):
        raise
    except Exception as error:  # the type depends on the library and on the fault
        raise WeightsError(f"the exported graph cannot be run: {_first_line(error)}", hint="export again") from error
    fits = logits.shape == (len(images), class_count) and features.ndim == 2 and len(features) == len(images)
    if not fits or logits.dtype.kind != "f" or features.dtype.kind != "f":
        message = f"the exported graph returns {logits.dtype} {logits.shape} and {features.dtype} {features.shape}"
        raise WeightsError(f"{message}, not the logits of {class_count} classes and features", hint="export again")
    return ClassifierOutputs(logits, features)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
