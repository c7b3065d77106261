"""Base classes of export formats that store a traced graph, and of engines that run such a graph.

A subclass of `GraphFormat` writes and opens one kind of graph file. A subclass of `GraphEngine` is also an engine, so
`rsft export` writes its files and `rsft predict` runs them.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from rsft.inference.engines.base import FORMATS, Engine, ExportFormat, find_format

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor
    from torch.export import ExportedProgram

    from rsft.data.imagery.contract import Contract
    from rsft.inference.engines.inference_fn import GraphModel
    from rsft.inference.export.traceable import BFloat16Network, TraceableNetwork
    from rsft.models.bundle.bundle import Bundle
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

    int8_float_precision: ClassVar[str] = ""
    holds_pipelines: ClassVar[bool] = False

    @abstractmethod
    def write_graph(
        self, program: ExportedProgram, contract: Contract, folder: Path, metadata: Mapping[str, Any]
    ) -> None:
        """Write a traced network as `folder`/`file_name`, with its metadata inside.

        Args:
            program: a network traced by `rsft.inference.export.traceable.trace_network`.
            contract: size and planes of the input.
            folder: an existing folder.
            metadata: content of export.json; "precision" is the precision to write.

        Raises:
            RequestError: a package is not installed.
        """

    @abstractmethod
    def open_graph(self, path: Path, precision: str) -> GraphModel:
        """Open a written graph.

        Args:
            path: the main file.
            precision: precision of the graph.

        Returns:
            The graph, ready to run.

        Raises:
            RequestError: a package is not installed.
        """

    def build_network(self, bundle: Bundle, precision: str) -> TraceableNetwork | BFloat16Network:
        """Return the network to trace. It is in float32 unless a format overrides this method.

        Args:
            bundle: the bundle to export.
            precision: fp32, bf16 or int8.

        Returns:
            The merged network.
        """
        from rsft.inference.export.traceable import build_network

        return build_network(bundle)

    def write(
        self, bundle: Bundle, folder: Path, metadata: dict[str, Any], images: Tensor, reference: ClassifierOutputs
    ) -> ClassifierOutputs:
        """Trace and write the graph, and compute outputs with the written file; see `ExportFormat.write`.

        Args:
            bundle: the bundle to export.
            folder: an existing folder.
            metadata: content of export.json.
            images: network inputs (N, P, S, S).
            reference: outputs of PyTorch in float32 for these images.

        Returns:
            Logits (N, C) and features (N, D).
        """
        from rsft.inference.export.parity import compute_outputs
        from rsft.inference.export.traceable import trace_network

        precision = metadata["precision"]
        program = trace_network(self.build_network(bundle, precision), bundle.contract)
        self.write_graph(program, bundle.contract, folder, metadata)
        return compute_outputs(self.open_graph(folder / self.file_name, precision).predict, images)

    def quantize(
        self,
        program: ExportedProgram,
        contract: Contract,
        folder: Path,
        metadata: Mapping[str, Any],
        chips: NDArray[np.float32],
        float_nodes: FloatNodes,
        progress: Progress | None = None,
    ) -> None:
        """Write a traced network in int8, by static quantization.

        Args:
            program: a traced network.
            contract: size and planes of the images.
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
        """Run a graph that holds a whole pipeline.

        Args:
            path: the main file.
            pixels: chips (N, B, H, W).

        Returns:
            The outputs of the graph.

        Raises:
            RequestError: a package is not installed.
        """
        raise NotImplementedError(f"{self.name} holds no whole pipelines")


class GraphEngine(GraphFormat, Engine):
    """Base class of engines that run an exported graph. The first job with a bundle writes the export to a cache."""


def graph_formats() -> list[str]:
    """Return the names of the export formats that store a graph.

    Returns:
        Names, in the order of the registry.
    """
    return [name for name in FORMATS if isinstance(find_format(name), GraphFormat)]
