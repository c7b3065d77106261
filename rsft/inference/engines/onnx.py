"""The engine ONNX Runtime, and the format ONNX."""

from __future__ import annotations

import json
from collections.abc import Mapping
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
    Tolerance,
)
from rsft.inference.engines.graph import FloatNodes, GraphEngine, GraphModel, run_in_threads, silence_output

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch.export import ExportedProgram

    from rsft.models.outputs import ClassifierOutputs
    from rsft.types import Progress

_MAX_PROTOBUF = 1_500_000_000
"""Bytes of weights. Larger weights go into a second file, because protobuf files are limited to 2 GB."""

_CALIBRATION_BATCH = 8
_QUANTIZED_OPS = ("MatMul", "Gemm")


@ENGINES.register
class OnnxEngine(GraphEngine):
    """ONNX Runtime on the CPU."""

    name = "onnx"
    title = "ONNX Runtime"
    extra = "onnx"
    packages = ("onnxruntime",)
    export_packages = ("onnx", "onnxscript")
    file_name = "model.onnx"
    precisions: ClassVar[Mapping[str, Tolerance]] = {"fp32": EXACT, "int8": QUANTIZED}
    unsupported: ClassVar[Mapping[str, str]] = {"bf16": "ONNX Runtime has no bfloat16 on a CPU"}
    int8_float_precision = "fp32"
    holds_pipelines = True

    def write_graph(self, program: ExportedProgram, folder: Path, metadata: Mapping[str, Any]) -> None:
        import torch

        self.require("onnx"), self.require("onnxscript")
        path = folder / self.file_name
        input_name = metadata.get("input", {}).get("name", IMAGES)
        output_names = list(metadata.get("outputs", (LOGITS, FEATURES)))
        has_large_weights = sum(tensor.nbytes for tensor in program.state_dict.values()) > _MAX_PROTOBUF
        with silence_output():
            converted = torch.onnx.export(
                program, dynamo=True, input_names=[input_name], output_names=output_names, verbose=False
            )
            assert converted is not None
            converted.save(path, external_data=has_large_weights)
        self._add_metadata(path, metadata)

    def open_graph(self, path: Path, precision: str) -> GraphModel:
        from rsft.models.outputs import ClassifierOutputs

        runtime = self.require("onnxruntime")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = 1  # each thread of the pool uses one core
        options.log_severity_level = 3
        session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

        def infer(images: NDArray[Any]) -> ClassifierOutputs:
            return ClassifierOutputs(*session.run([LOGITS, FEATURES], {IMAGES: images}))

        return run_in_threads(infer)

    def run_pipeline(self, path: Path, pixels: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        session = self.require("onnxruntime").InferenceSession(path, providers=["CPUExecutionProvider"])
        return list(session.run(None, {session.get_inputs()[0].name: pixels}))

    def quantize(
        self,
        program: ExportedProgram,
        folder: Path,
        metadata: Mapping[str, Any],
        chips: NDArray[np.float32],
        float_nodes: FloatNodes,
        progress: Progress | None = None,
    ) -> None:
        """Write matrix products in int8 (QDQ) with one scale per row of a weight."""
        from rsft.inference.export.quantize import check_float_nodes

        quantization = self.require("onnxruntime.quantization")
        shapes = self.require("onnxruntime.quantization.shape_inference")
        onnx = self.require("onnx")
        self.write_graph(program, folder, metadata)
        path, prepared_path = folder / self.file_name, folder / "prepared.onnx"
        nodes = onnx.load(path, load_external_data=False).graph.node
        check_float_nodes(float_nodes.products, {_traced_name(node) for node in nodes}, self.title)
        excluded = {node.name for node in nodes if _traced_name(node) in float_nodes.names}
        with silence_output():
            shapes.quant_pre_process(path, prepared_path, skip_symbolic_shape=True)
            prepared = onnx.load(prepared_path, load_external_data=False).graph.node
            products = {node.name for node in nodes if node.op_type in _QUANTIZED_OPS}
            check_float_nodes(excluded & products, {node.name for node in prepared}, self.title)
            quantization.quantize_static(
                prepared_path,
                path,
                _CalibrationReader(chips, progress),
                quant_format=quantization.QuantFormat.QDQ,
                per_channel=True,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
                op_types_to_quantize=list(_QUANTIZED_OPS),
                nodes_to_exclude=sorted(excluded),
            )
        prepared_path.unlink()
        self._add_metadata(path, metadata)

    def _add_metadata(self, path: Path, metadata: Mapping[str, Any]) -> None:
        onnx = self.require("onnx")
        model = onnx.load(path, load_external_data=False)
        onnx.helper.set_model_props(model, {METADATA_KEY: json.dumps(metadata)})
        onnx.save(model, path)


FORMATS.register(OnnxEngine)


class _CalibrationReader:
    """Calibration chips in batches, with the interface of ONNX Runtime's `CalibrationDataReader`."""

    def __init__(self, chips: NDArray[np.float32], progress: Progress | None) -> None:
        self.chips, self.progress, self.done = chips, progress, 0

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        """Return the next batch (n, P, S, S) under the name of the input; None after the last batch."""
        from rsft.inference.export.quantize import CALIBRATING

        batch = self.chips[self.done : self.done + _CALIBRATION_BATCH]
        self.done += len(batch)
        if self.progress is not None:
            self.progress(self.done, len(self.chips), CALIBRATING)
        return {IMAGES: batch} if len(batch) else None


def _traced_name(node: Any) -> str:
    """Return the name that an ONNX node has in the traced graph, or ""."""
    values = (str(entry.value) for entry in node.metadata_props if entry.key == "pkg.torch.onnx.fx_node")
    return next(values, "").partition(" ")[0].removeprefix("%")
