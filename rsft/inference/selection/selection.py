"""Select the engine of a job. An exported graph is run without PyTorch.

Run an exported graph, without PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

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
    engine_threads,
    find_engine,
)
from rsft.inference.engines.graph import GraphEngine, GraphModel
from rsft.inference.export.metadata import installed_versions, read_export_metadata
from rsft.models.bundle.bundle import Bundle
from rsft.models.outputs import VIEWS, ClassifierOutputs, average_outputs, tta_contract


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


ReadSample = Callable[[Contract], NDArray[np.float32] | None]
"""A function that reads the first chips of a job as network inputs (n, P, S, S); None if no chip can be read."""


class SelectedEngine(NamedTuple):
    """The engine of a job.

    Attributes:
        infer: computes logits and features of network inputs.
        contract: turns chips into these inputs.
        summary: one line for the user.
        metadata: entry "engine" of the metadata of the output.
        concurrency: number of threads that may call `infer` at the same time.
    """

    infer: InferenceFn
    contract: Contract
    summary: str
    metadata: dict[str, Any]
    concurrency: int = 1


def select_engine(
    bundle: Bundle,
    name: str,
    precision: str | None,
    device: str,
    read_sample: ReadSample,
    chips: int,
    previous: str | None = None,
) -> SelectedEngine:
    """Return the requested engine; for "auto", the fastest engine whose outputs match PyTorch float32 within tolerance.

    Args:
        bundle: the bundle to load.
        name: auto, an engine, or the path of an export of the bundle.
        precision: fp32, bf16 or int8. None is fp32; for "auto" it allows fp32 and bf16.
        device: auto, cpu or cuda.
        read_sample: reads chips for measurements and for the check of a new export.
        chips: number of chips of the job.
        previous: engine of the interrupted job as `str(EngineSpec)`; "auto" prefers it. None for a new job.

    Returns:
        The engine, ready to classify.

    Raises:
        RequestError: the engine, the precision or the export cannot be used.
        WeightsError: the local backbone is not the bundle's, or an export is altered or differs from PyTorch.
    """
    if name != "auto" and name not in ENGINES and Path(name).exists():
        if precision is not None:
            raise RequestError("the precision of an export is fixed", "--precision", "leave it out")
        return describe_engine(load_exported_engine(bundle, Path(name)), name, f"from {name}")
    if find_spec("torch") is None:
        message = f"PyTorch is not installed, which --engine {name} needs"
        raise RequestError(message, "--engine", "give the path of an export (`rsft export`), or install all of rsft")
    from rsft.inference.selection.fastest import load_requested, select_fastest  # PyTorch

    if name == "auto":
        return select_fastest(bundle, precision, device, read_sample, chips, previous)
    return load_requested(bundle, name, precision, device, read_sample)


def describe_engine(
    loaded: LoadedEngine, requested: str, reason: str = "", benchmarks: dict[str, dict[str, Any]] | None = None
) -> SelectedEngine:
    """Describe a loaded engine in a line for the user and in metadata for the output.

    Args:
        loaded: the engine.
        requested: value of `--engine`.
        reason: why it was selected, or "".
        benchmarks: measurements of all engines, if they were made.

    Returns:
        The engine with its description.
    """
    spec = loaded.spec
    metadata = {
        "kind": str(spec),
        "asked": requested,
        "why": "; ".join(filter(None, (reason, loaded.note))),
        "version": installed_versions(find_engine(spec.engine).packages),
        "threads": engine_threads(),
        **({"measured": benchmarks} if benchmarks else {}),
    }
    summary = "; ".join(filter(None, (f"engine: {spec}", reason, loaded.note)))
    return SelectedEngine(loaded.infer, loaded.contract, summary, metadata, loaded.concurrency)
