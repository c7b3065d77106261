"""Engines that are ready to classify. Those that run an exported graph need no PyTorch."""

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
    """An engine that is ready to classify, and why it was selected.

    Attributes:
        infer: computes logits and features of network inputs, including test-time augmentation.
        contract: turns chips into the inputs of `infer`.
        spec: the loaded engine.
        note: sentence for the user, or "".
        concurrency: number of threads that may call `infer` at the same time.
        requested: value of `--engine`.
        reason: why it was selected, or "".
        benchmarks: measurements of all engines by `str(EngineSpec)`; None if none were made.
    """

    infer: InferenceFn
    contract: Contract
    spec: EngineSpec
    note: str = ""
    concurrency: int = 1
    requested: str = ""
    reason: str = ""
    benchmarks: dict[str, dict[str, Any]] | None = None

    @property
    def summary(self) -> str:
        """One line for the user."""
        return "; ".join(filter(None, (f"engine: {self.spec}", self.reason, self.note)))

    @property
    def metadata(self) -> dict[str, Any]:
        """Entry "engine" of the metadata of the output."""
        return {
            "kind": str(self.spec),
            "requested": self.requested,
            "reason": "; ".join(filter(None, (self.reason, self.note))),
            "version": installed_versions(find_engine(self.spec.engine).packages),
            "threads": engine_threads(),
            **({"benchmarks": self.benchmarks} if self.benchmarks else {}),
        }


def load_exported_engine(bundle: Bundle, path: Path) -> LoadedEngine:
    """Load an export of a bundle, with the bundle's test-time augmentation.

    Args:
        bundle: the bundle that was exported.
        path: folder of the export, or a file in it.

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
    engine = find_engine(kind) if kind in ENGINES else None
    if not isinstance(engine, GraphEngine):
        formats = " or ".join(name for name in ENGINES if name in FORMATS)
        hint = f"export {formats}, or use --engine {REFERENCE.engine}"
        raise RequestError(f"no engine runs {kind} exports", path, hint)
    try:
        model = engine.open_graph(folder / engine.file_name, precision)
    except (RsftError, MemoryError):
        raise
    except Exception as error:  # the type depends on the library and on the fault
        message = f"the graph cannot be opened: {_first_line(error)}"
        raise WeightsError(message, folder / engine.file_name, "export again") from error
    return graph_engine(bundle, model, EngineSpec(kind, precision))


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

    def infer(images: NDArray[np.float32]) -> ClassifierOutputs:
        outputs = []
        for start in range(0, len(images), CPU_BATCH_SIZE):
            batch = images[start : start + CPU_BATCH_SIZE]
            if evaluate.tta == "none":
                outputs.append(_run_graph(graph, batch, class_count))
            else:
                views = VIEWS[evaluate.tta](batch, size)
                predictions = [_run_graph(graph, np.ascontiguousarray(view), class_count) for view in views]
                outputs.append(ClassifierOutputs(*average_outputs(*zip(*predictions, strict=True))))
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
