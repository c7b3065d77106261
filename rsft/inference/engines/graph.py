"""Base classes of export formats that store a traced graph, and of engines that run such a graph.

A subclass of `GraphFormat` writes and opens one kind of graph file. A subclass of `GraphEngine` is also an engine, so
`rsft export` writes its files and `rsft predict` runs them.
"""

from __future__ import annotations

import io
import logging
import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from rsft.inference.engines.base import Engine, ExportFormat, engine_threads

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import Tensor
    from torch.export import ExportedProgram

    from rsft.inference.engines.base import InferenceFn
    from rsft.inference.export.traceable import BFloat16Network, TraceableNetwork
    from rsft.models.bundle.bundle import Bundle
    from rsft.models.classifier import Prediction
    from rsft.models.outputs import ClassifierOutputs
    from rsft.types import Progress


class FloatNodes(NamedTuple):
    """Nodes of a traced graph that stay in floating point when the graph is quantized to int8.

    Attributes:
        names: names of all these nodes.
        products: the nodes among them that multiply matrices. A converted graph without one of these is rejected.
    """

    names: frozenset[str]
    products: frozenset[str]


class GraphFormat(ExportFormat):
    """Base class of export formats that store the traced graph of the merged network.

    Attributes:
        int8_float_precision: precision of the floating-point nodes of an int8 export; "" without int8.
        holds_pipelines: whether its files can hold a whole pipeline, from pixels to probabilities (`run_pipeline`).
    """

    stores_graph = True
    int8_float_precision: ClassVar[str] = ""
    holds_pipelines: ClassVar[bool] = False

    @abstractmethod
    def write_graph(self, program: ExportedProgram, folder: Path, metadata: Mapping[str, Any]) -> None:
        """Write a traced network as `folder`/`file_name`, with its metadata inside.

        Args:
            program: a network traced by `rsft.inference.export.traceable.trace`.
            folder: an existing folder.
            metadata: content of export.json; "precision" is the precision to write.

        Raises:
            RequestError: a package is not installed.
        """

    @abstractmethod
    def open_graph(self, path: Path, precision: str) -> GraphModel:
        """Open a written graph, ready to run.

        Args:
            path: the main file.
            precision: precision of the graph: fp32, bf16 or int8.

        Raises:
            RequestError: a package is not installed.
            ValueError: the file holds no graph that can be run safely.
        """

    def build_network(self, bundle: Bundle, precision: str) -> TraceableNetwork | BFloat16Network:
        """Return the merged network to trace. It is in float32 unless a format overrides this method."""
        from rsft.inference.export.traceable import build_network

        return build_network(bundle)

    def write(
        self, bundle: Bundle, folder: Path, metadata: dict[str, Any], images: Tensor, reference: ClassifierOutputs
    ) -> ClassifierOutputs:
        from rsft.inference.export.parity import compute_outputs
        from rsft.inference.export.traceable import trace_network

        precision = metadata["precision"]
        self.write_graph(trace_network(self.build_network(bundle, precision), bundle.contract), folder, metadata)
        return compute_outputs(self.open_graph(folder / self.file_name, precision).predict, images)

    def quantize(
        self,
        program: ExportedProgram,
        folder: Path,
        metadata: Mapping[str, Any],
        chips: NDArray[np.float32],
        float_nodes: FloatNodes,
        progress: Progress | None = None,
    ) -> None:
        """Write a traced network in int8, by static quantization.

        Args:
            program: a traced network.
            folder: an existing folder.
            metadata: content of export.json.
            chips: calibration images (N, P, S, S), normalized.
            float_nodes: nodes of `program` that stay in floating point.
            progress: called for each chip.

        Raises:
            RequestError: a package is not installed.
            WeightsError: the converted graph lacks nodes that must stay in floating point.
        """
        raise NotImplementedError(f"{self.name} has no int8")

    def run_pipeline(self, path: Path, pixels: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """Return the outputs of a graph that holds a whole pipeline.

        Args:
            path: the main file.
            pixels: chips (N, B, H, W).

        Raises:
            RequestError: a package is not installed.
        """
        raise NotImplementedError(f"{self.name} holds no whole pipelines")


class GraphEngine(GraphFormat, Engine):
    """Base class of engines that run an exported graph. The first job with a bundle writes the export to a cache."""


class GraphModel:
    """An inference function with the interface of a classifier.

    Args:
        infer: computes outputs; inputs and outputs are arrays on the CPU.
        concurrency: number of threads that should call it at the same time, so that all cores are busy.
    """

    def __init__(self, infer: InferenceFn, concurrency: int = 1) -> None:
        self.infer, self.concurrency = infer, concurrency

    def predict(self, x: Tensor) -> Prediction:
        """Return logits (B, C) and features (B, D) of images (B, P, S, S)."""
        import torch

        from rsft.models.classifier import Prediction

        return Prediction(*(torch.from_numpy(array) for array in self.infer(x.numpy())))


def as_inference_fn(
    module: Callable[[Tensor], tuple[Tensor, Tensor]], device: torch.device | str = "cpu"
) -> InferenceFn:
    """Wrap a PyTorch module on a device as a function from arrays to arrays, which computes without gradients."""
    import torch

    from rsft.models.classifier import copy_to_device
    from rsft.models.outputs import ClassifierOutputs

    @torch.inference_mode()
    def infer(images: NDArray[Any]) -> ClassifierOutputs:
        logits, features = module(copy_to_device(torch.from_numpy(images), device))
        return ClassifierOutputs(logits.cpu().numpy(), features.cpu().numpy())

    return infer


def run_in_threads(infer: InferenceFn, pool: ThreadPoolExecutor | None = None) -> GraphModel:
    """Run a single-core function in as many threads as PyTorch uses, each with a share of the images.

    If all threads worked on each layer together, they would wait at its end for a thread that was interrupted, for
    example by one that reads chips. The model should have two callers, so that shares of the second call are ready
    when threads finish the first one.

    Args:
        infer: thread-safe function that uses one core.
        pool: threads to use (default: a new pool).
    """
    import numpy as np

    from rsft.models.outputs import ClassifierOutputs

    threads = engine_threads()
    executor = pool or ThreadPoolExecutor(threads, "engine")

    def infer_in_shares(images: NDArray[Any]) -> ClassifierOutputs:
        shares = executor.map(infer, np.array_split(images, min(threads, len(images))))
        return ClassifierOutputs(*map(np.concatenate, zip(*shares, strict=True)))

    return GraphModel(infer_in_shares, concurrency=2)


@contextmanager
def silence_output() -> Iterator[None]:
    """Suppress logs, output and warnings of exporters. Exceptions still propagate."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
