"""The engine and format OpenVINO."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from rsft.inference.engines.base import (
    ENGINES,
    EXACT,
    FEATURES,
    FORMATS,
    IMAGES,
    LOGITS,
    METADATA_KEY,
    QUANTIZED,
    ROUNDED,
    Tolerance,
    engine_threads,
)
from rsft.inference.engines.graph import FloatNodes, GraphEngine, GraphModel, run_in_threads, silence_output

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch.export import ExportedProgram

    from rsft.data.imagery.contract import Contract
    from rsft.models.outputs import ClassifierOutputs
    from rsft.types import Progress


@ENGINES.register
class OpenVinoEngine(GraphEngine):
    """OpenVINO on the CPU."""

    name = "openvino"
    title = "OpenVINO"
    extra = "openvino"
    packages = ("openvino",)
    export_packages = ("nncf",)
    file_name = "model.xml"
    precisions: ClassVar[Mapping[str, Tolerance]] = {"fp32": EXACT, "bf16": ROUNDED, "int8": QUANTIZED}
    int8_float_precision = "bf16"

    def write_graph(
        self, program: ExportedProgram, contract: Contract, folder: Path, metadata: Mapping[str, Any]
    ) -> None:
        """Write model.xml and model.bin; see `GraphFormat.write_graph`.

        Args:
            program: a traced network.
            contract: size and planes of the images.
            folder: an existing folder.
            metadata: content of export.json.
        """
        self._save(self._convert(program, contract), folder, metadata)

    def open_graph(self, path: Path, precision: str) -> GraphModel:
        """Open an OpenVINO model; see `GraphFormat.open_graph`.

        Without a set precision, OpenVINO chooses bfloat16 on CPUs where it is fast. An int8 graph uses bfloat16 for
        its other nodes: this adds little to the rounding error of int8, and float32 would be a tenth slower.

        Args:
            path: the main file of the graph.
            precision: fp32, bf16 or int8.

        Returns:
            The graph, ready to run.

        Raises:
            ValueError: the axes of a normalization are not dimensions of its input, or an output has a fixed number of
                rows.
        """
        from rsft.models.outputs import ClassifierOutputs

        core, threads = self.require("openvino").Core(), engine_threads()
        hint = "f32" if precision == "fp32" else "bf16"
        options = {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": threads}
        model = core.read_model(path)
        _check_axes(model)
        _check_outputs(model)
        compiled = core.compile_model(model, "CPU", options)
        thread_local = threading.local()

        def infer(images: NDArray[Any]) -> ClassifierOutputs:
            if not hasattr(thread_local, "request"):
                thread_local.request = compiled.create_infer_request()
            result = thread_local.request.infer(images)
            return ClassifierOutputs(
                result[0].copy(), result[1].copy()
            )  # the next call overwrites the request's arrays

        return run_in_threads(infer)

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
        """Quantize with NNCF's settings for transformers, which smooth activations; see `GraphFormat.quantize`.

        Args:
            program: a traced network.
            contract: size and planes of the images.
            folder: an existing folder.
            metadata: content of export.json.
            chips: calibration images (N, P, S, S), normalized.
            float_nodes: nodes that stay in floating point.
            progress: called for each chip.
        """
        from rsft.inference.export.quantize import CALIBRATING, check_float_nodes

        nncf = self.require("nncf")
        logging.getLogger("nncf").setLevel(logging.ERROR)  # nncf.set_log_level also changes handlers of other libraries
        model = self._convert(program, contract)
        traced_names = {op.get_friendly_name(): op.get_friendly_name().partition("/")[0] for op in model.get_ops()}
        check_float_nodes(float_nodes.products, traced_names.values(), self.title)
        ignored = [name for name, traced_name in traced_names.items() if traced_name in float_nodes.names]
        calls, total = (
            count(1),
            2 * len(chips),
        )  # NNCF reads every chip twice: to smooth activations and to measure their ranges

        def as_batch(chip: NDArray[np.float32]) -> NDArray[np.float32]:
            if progress is not None:
                progress(min(next(calls), total), total, CALIBRATING)
            return chip[None]

        with silence_output():
            quantized = nncf.quantize(
                model,
                nncf.Dataset(chips, as_batch),
                preset=nncf.QuantizationPreset.MIXED,
                model_type=nncf.ModelType.TRANSFORMER,
                subset_size=len(chips),
                ignored_scope=nncf.IgnoredScope(names=ignored, types=["Convolution"], validate=False),
            )
        self._save(quantized, folder, metadata)

    def _convert(self, program: ExportedProgram, contract: Contract) -> Any:
        """Convert a traced network to an OpenVINO model with a fixed image size."""
        with silence_output():
            model = self.require("openvino").convert_model(program)
        model.reshape([-1, len(contract.planes), contract.size, contract.size])
        model.inputs[0].set_names({IMAGES})
        for output, name in zip(model.outputs, (LOGITS, FEATURES), strict=True):
            output.set_names({name})
        return model

    def _save(self, model: Any, folder: Path, metadata: Mapping[str, Any]) -> None:
        """Write a model. Weights of a bf16 model are stored in float16, which has all digits of a bfloat16."""
        model.set_rt_info(json.dumps(metadata), METADATA_KEY)
        is_bf16 = metadata["precision"] == "bf16"
        self.require("openvino").save_model(model, folder / self.file_name, compress_to_fp16=is_bf16)


def _check_axes(model: Any) -> None:
    """Check the axes of normalizations: OpenVINO checks those of other operations, but writes anywhere with these."""
    for operation in model.get_ops():
        if operation.get_type_name() != "MVN":
            continue
        rank = operation.input(0).get_partial_shape().rank
        source = operation.input_value(1).get_node() if operation.get_input_size() == 2 else None
        if source is None or source.get_type_name() != "Constant" or rank.is_dynamic:
            raise ValueError("a normalization has no constant axes")
        if any(not -rank.get_length() <= axis < rank.get_length() for axis in source.data.flatten().tolist()):
            raise ValueError("an axis of a normalization is not a dimension of its input")


def _check_outputs(model: Any) -> None:
    """Check that outputs have one row per image: a damaged shape may state millions, which fill the memory."""
    for output in model.outputs:
        shape = output.get_partial_shape()
        if shape.rank.is_dynamic or not len(shape) or shape[0].is_static:
            raise ValueError(f"an output has the shape {shape} for any number of images")


FORMATS.register(OpenVinoEngine)
