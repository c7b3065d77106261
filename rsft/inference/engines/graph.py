"""Base classes of export formats and engines with a traced graph.

A subclass of `GraphFormat` writes and opens one kind of graph file. A subclass of
`GraphEngine` is also an engine, so `rsft export` writes its files and `rsft predict`
runs them.
"""

from __future__ import annotations

import io
import logging
import warnings
from abc import abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from rsft.errors import RsftError, WeightsError
from rsft.inference.engines.base import (
    CPU_BATCH_SIZE,
    Engine,
    ExportFormat,
    LoadedEngine,
    engine_threads,
    first_line,
)

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from torch import Tensor
    from torch.export import ExportedProgram

    from rsft.inference.engines.base import EngineSpec, InferenceFn
    from rsft.models.bundle.bundle import Bundle
    from rsft.models.classifier import Prediction
    from rsft.models.outputs import ClassifierOutputs
    from rsft.types import Floats32, JsonObject


_SHARE = 4
"""Largest number of images that a thread computes at once. With more images,
activations need more memory, but no less time."""


class FloatNodes(NamedTuple):
    """Nodes of a traced graph that stay in floating point in int8.

    Attributes:
        names: names of all these nodes.
        products: the nodes among them that multiply matrices. A converted graph without
            one of these is rejected.
    """

    names: frozenset[str]
    products: frozenset[str]


class GraphFormat(ExportFormat):
    """Base class of export formats that store the traced graph of the merged network.

    Attributes:
        int8_float_precision: precision of the floating-point nodes of an int8 export;
            "" without int8.
        traces_bfloat16: whether the traced network itself is in bfloat16 for this
            precision. If not, it is in float32, and the format rounds.
        holds_pipelines: whether its files can hold a whole pipeline, from pixels to
            probabilities (`run_pipeline`).
    """

    int8_float_precision: ClassVar[str] = ""
    traces_bfloat16: ClassVar[bool] = False
    holds_pipelines: ClassVar[bool] = False

    @abstractmethod
    def write_graph(
        self, program: ExportedProgram, folder: Path, metadata: JsonObject
    ) -> None:
        """Write a traced network as `folder`/`file_name`, with its metadata inside.

        Args:
            program: a network traced by `rsft.inference.engines.traceable.trace`.
            folder: an existing folder.
            metadata: content of export.json; "precision" is the precision to write.
        """

    @abstractmethod
    def open_graph(self, path: Path, precision: str) -> GraphModel:
        """Open the main file of a written graph in its precision.

        The precision is fp32, bf16 or int8.

        Raises:
            ValueError: the file holds no graph that can be run safely.
        """

    def write(
        self,
        bundle: Bundle,
        folder: Path,
        metadata: JsonObject,
        images: Tensor,
    ) -> ClassifierOutputs:
        from rsft.inference.engines.traceable import (
            BFloat16Network,
            build_network,
            compute_outputs,
            trace_network,
        )

        precision = metadata["precision"]
        network = build_network(bundle)
        is_rounded = self.traces_bfloat16 and precision == "bf16"
        program = trace_network(
            BFloat16Network(network) if is_rounded else network, bundle.contract
        )
        self.write_graph(program, folder, metadata)
        return compute_outputs(
            self.open_graph(folder / self.file_name, precision).predict, images
        )

    def quantize(
        self,
        program: ExportedProgram,
        folder: Path,
        metadata: JsonObject,
        chips: Floats32,
        float_nodes: FloatNodes,
    ) -> None:
        """Write a traced network in int8, by static quantization.

        Args:
            program: see `write_graph`, as for folder and metadata.
            folder: an existing folder.
            metadata: content of export.json.
            chips: network inputs (N, P, S, S) on which the ranges of activations are
                measured.
            float_nodes: nodes that stay in floating point.

        Raises:
            WeightsError: the converted graph lacks nodes that must stay in floating
                point.
        """
        raise NotImplementedError(f"{self.name} has no int8")

    def check_float_nodes(
        self, expected: Collection[str], names: Iterable[str]
    ) -> None:
        """Check that the converted graph has all nodes that stay in floating point.

        The graph's nodes have `names`.

        Quantizers ignore names of nodes that are not in their graph. Without this
        check, attention and the head would silently become int8 if a new version of a
        runtime renames nodes.

        Raises:
            WeightsError: a name is missing.
        """
        missing = sorted(set(expected) - set(names))
        if missing:
            raise WeightsError(
                (
                    f"{len(missing)} of {len(expected)} nodes that must stay in"
                    f" floating point are not in the graph of {self.title}:"
                    f" {', '.join(missing[:3])}"
                ),
                "int8",
                (
                    "export fp32 or bf16, or install the package versions that rsft was"
                    " tested with"
                ),
            )

    def run_pipeline(self, path: Path, pixels: Floats32) -> list[Floats32]:
        """Return the outputs of a whole pipeline's graph for chips (N, B, H, W)."""
        raise NotImplementedError(f"{self.name} holds no whole pipelines")


class GraphEngine(GraphFormat, Engine):
    """Base class of engines that run an exported graph."""


class GraphModel:
    """An inference function with the interface of a classifier.

    Args:
        infer: computes outputs; inputs and outputs are arrays on the CPU.
        concurrency: number of threads that should call it at the same time, so that all
            cores are busy.
    """

    def __init__(self, infer: InferenceFn, concurrency: int = 1) -> None:
        self.infer = infer
        self.concurrency = concurrency

    def predict(self, x: Tensor) -> Prediction:
        """Return logits (B, C) and features (B, D) of images (B, P, S, S)."""
        import torch

        from rsft.models.classifier import Prediction

        return Prediction(*(torch.from_numpy(array) for array in self.infer(x.numpy())))


def as_inference_fn(
    module: Callable[[Tensor], tuple[Tensor, Tensor]],
    device: torch.device | str = "cpu",
) -> InferenceFn:
    """Wrap a PyTorch module as a function from arrays to arrays.

    It computes on a device, without gradients.
    """
    import torch

    from rsft.models.devices import copy_to_device
    from rsft.models.outputs import ClassifierOutputs

    @torch.inference_mode()
    def infer(images: NDArray[Any]) -> ClassifierOutputs:
        logits, features = module(copy_to_device(torch.from_numpy(images), device))
        return ClassifierOutputs(logits.cpu().numpy(), features.cpu().numpy())

    return infer


def run_in_threads(infer: InferenceFn) -> GraphModel:
    """Run a single-core function in as many threads as PyTorch uses.

    Each thread takes a share of the images.

    If all threads worked on each layer together, they would wait at its end for a
    thread that was interrupted, for example by one that reads chips. The model should
    have two callers, so that shares of the second call are ready when threads finish
    the first one.

    Args:
        infer: thread-safe function that uses one core.

    Returns:
        A model that computes in the threads.
    """
    import numpy as np

    from rsft.models.outputs import ClassifierOutputs

    threads = engine_threads()
    executor = ThreadPoolExecutor(threads, "engine")

    def infer_in_shares(images: NDArray[Any]) -> ClassifierOutputs:
        count = max(min(threads, len(images)), -(-len(images) // _SHARE))
        shares = executor.map(infer, np.array_split(images, count))
        return ClassifierOutputs(*map(np.concatenate, zip(*shares, strict=True)))

    return GraphModel(infer_in_shares, concurrency=2)


def graph_engine(
    bundle: Bundle, graph: GraphModel, spec: EngineSpec, path: Path
) -> LoadedEngine:
    """Add the bundle's test-time views to an opened graph, and split batches.

    The `infer` of the returned engine raises WeightsError if the graph cannot be run,
    or is not one of the bundle.
    """
    import numpy as np

    from rsft.models.outputs import (
        VIEWS,
        ClassifierOutputs,
        average_outputs,
        tta_contract,
    )

    evaluate = bundle.recipe.evaluate
    size = bundle.contract.size
    class_count = len(bundle.classes)

    def infer(images: Floats32) -> ClassifierOutputs:
        outputs = []
        for start in range(0, len(images), CPU_BATCH_SIZE):
            batch = images[start : start + CPU_BATCH_SIZE]
            if evaluate.tta == "none":
                outputs.append(_run_graph(graph, path, batch, class_count))
            else:
                views = VIEWS[evaluate.tta](batch, size)
                predictions = [
                    _run_graph(graph, path, np.ascontiguousarray(view), class_count)
                    for view in views
                ]
                outputs.append(
                    ClassifierOutputs(*average_outputs(*zip(*predictions, strict=True)))
                )
        return ClassifierOutputs(
            *(
                np.concatenate(arrays).astype(np.float32)
                for arrays in zip(*outputs, strict=True)
            )
        )

    return LoadedEngine(
        infer,
        tta_contract(bundle.contract, evaluate),
        spec,
        concurrency=graph.concurrency,
    )


def _run_graph(
    graph: GraphModel, path: Path, images: Floats32, class_count: int
) -> tuple[Floats32, Floats32]:
    """Run a graph and check the shapes of its outputs.

    Its file may contain anything.
    """
    try:
        logits, features = graph.infer(images)
    except (RsftError, MemoryError):
        raise
    except Exception as error:  # the type depends on the library and on the fault
        raise WeightsError(
            f"the exported graph cannot be run: {first_line(error)}",
            path,
            "export again",
        ) from error
    fits = (
        logits.shape == (len(images), class_count)
        and features.ndim == 2
        and len(features) == len(images)
    )
    if not fits or logits.dtype.kind != "f" or features.dtype.kind != "f":
        message = (
            f"the exported graph returns {logits.dtype} {logits.shape} and"
            f" {features.dtype} {features.shape}"
        )
        raise WeightsError(
            f"{message}, not the logits of {class_count} classes and features",
            path,
            "export again",
        )
    return logits, features


@contextmanager
def silence_output() -> Iterator[None]:
    """Suppress logs, output and warnings of exporters. Exceptions still propagate."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with (
            warnings.catch_warnings(),
            redirect_stdout(io.StringIO()),
            redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
