"""The engine and export format ONNX Runtime."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar

from rsft.inference.engines import base, graph
from rsft.inference.engines.base import (
    FEATURES,
    IMAGES,
    LOGITS,
    METADATA_KEY,
    Tolerance,
)

if TYPE_CHECKING:
    from torch.export import ExportedProgram

    from rsft.types import Floats32, JsonObject, Names


_MAX_PROTOBUF = 1_500_000_000
"""Bytes of weights. Larger weights go into a second file, because protobuf files are
limited to 2 GB."""

_CALIBRATION_BATCH = 8
_QUANTIZED_OPS = ["MatMul", "Gemm"]


@base.ENGINES.register
class OnnxEngine(graph.GraphEngine):
    """ONNX Runtime on the CPU."""

    name = "onnx"
    title = "ONNX Runtime"
    extra = "onnx"
    packages: ClassVar[Names] = ("onnxruntime",)
    export_packages = ("onnx", "onnxscript")
    file_name = "model.onnx"
    precisions: ClassVar[Mapping[str, Tolerance]] = {
        "fp32": base.EXACT,
        "int8": base.QUANTIZED,
    }
    int8_float_precision = "fp32"
    holds_pipelines = True

    def write_graph(
        self, program: ExportedProgram, folder: Path, metadata: JsonObject
    ) -> None:
        import torch

        self.require("onnx"), self.require("onnxscript")
        path = folder / self.file_name
        input_name = metadata.get("input", {}).get("name", IMAGES)
        output_names = list(metadata.get("outputs", (LOGITS, FEATURES)))
        size = sum(tensor.nbytes for tensor in program.state_dict.values())
        with graph.silence_output():
            converted = torch.onnx.export(
                program,
                dynamo=True,
                input_names=[input_name],
                output_names=output_names,
                verbose=False,
            )
            assert converted
            converted.save(path, external_data=size > _MAX_PROTOBUF)
        self._add_metadata(path, metadata)

    def open_graph(self, path: Path, precision: str) -> graph.GraphModel:
        from rsft.models.outputs import ClassifierOutputs

        runtime = self.require("onnxruntime")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = 1  # each thread of the pool uses one core
        options.log_severity_level = 3
        options.enable_mem_pattern = (
            False  # it would reserve the activations of all layers at once
        )
        session = runtime.InferenceSession(
            path, options, providers=["CPUExecutionProvider"]
        )
        names = [LOGITS, FEATURES]
        return graph.run_in_threads(
            lambda images: ClassifierOutputs(*session.run(names, {IMAGES: images}))
        )

    def run_pipeline(self, path: Path, pixels: Floats32) -> list[Floats32]:
        session = self.require("onnxruntime").InferenceSession(
            path, providers=["CPUExecutionProvider"]
        )
        return list(session.run(None, {session.get_inputs()[0].name: pixels}))

    def quantize(
        self,
        program: ExportedProgram,
        folder: Path,
        metadata: JsonObject,
        chips: Floats32,
        float_nodes: graph.FloatNodes,
    ) -> None:
        """Write matrix products in int8 (QDQ) with one scale per row of a weight."""
        quantization = self.require("onnxruntime.quantization")
        shapes = self.require("onnxruntime.quantization.shape_inference")
        onnx = self.require("onnx")
        self.write_graph(program, folder, metadata)
        path = folder / self.file_name
        prepared_path = folder / "prepared.onnx"
        nodes = onnx.load(path, load_external_data=False).graph.node
        self.check_float_nodes(float_nodes.products, map(_traced_name, nodes))
        excluded = {
            node.name for node in nodes if _traced_name(node) in float_nodes.names
        }

        starts = range(0, len(chips), _CALIBRATION_BATCH)
        batches = ({IMAGES: chips[i : i + _CALIBRATION_BATCH]} for i in starts)
        with graph.silence_output():
            shapes.quant_pre_process(path, prepared_path, skip_symbolic_shape=True)
            prepared = onnx.load(prepared_path, load_external_data=False).graph.node
            products = {node.name for node in nodes if node.op_type in _QUANTIZED_OPS}
            self.check_float_nodes(
                excluded & products, [node.name for node in prepared]
            )
            quantization.quantize_static(
                prepared_path,
                path,
                # as a `CalibrationDataReader`
                SimpleNamespace(get_next=partial(next, batches, None)),
                quant_format=quantization.QuantFormat.QDQ,
                per_channel=True,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
                op_types_to_quantize=_QUANTIZED_OPS,
                nodes_to_exclude=sorted(excluded),
                # a product in int32 is scaled to floating point in one step
                extra_options={"OpTypesToExcludeOutputQuantization": _QUANTIZED_OPS},
            )
        prepared_path.unlink()
        self._add_metadata(path, metadata)

    def _add_metadata(self, path: Path, metadata: JsonObject) -> None:
        onnx = self.require("onnx")
        model = onnx.load(path, load_external_data=False)
        properties = {
            METADATA_KEY: json.dumps(metadata),
            "classes": json.dumps(metadata.get("classes", [])),
        }
        for key, value in describe_pixels(metadata).items():
            properties[key] = str(value)
        onnx.helper.set_model_props(model, properties)
        onnx.save(model, path)


def describe_pixels(metadata: JsonObject) -> JsonObject:
    """Return the properties of pixels that a whole pipeline needs; else {}."""
    whole = metadata.get("whole", {})
    return whole | {"bands": ", ".join(whole["bands"])} if whole else {}


def _traced_name(node: Any) -> str:
    """Return the name that an ONNX node has in the traced graph, or ""."""
    for entry in node.metadata_props:
        if entry.key == "pkg.torch.onnx.fx_node":
            return str(entry.value).partition(" ")[0].removeprefix("%")
    return ""


base.FORMATS.register(OnnxEngine)
