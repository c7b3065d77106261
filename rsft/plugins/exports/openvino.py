"""The engine and export format OpenVINO."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from rsft.inference.engines import base, graph
from rsft.inference.engines.base import (
    FEATURES,
    IMAGES,
    LOGITS,
    METADATA_KEY,
)
from rsft.types import Floats32

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch.export import ExportedProgram

    from rsft.models.outputs import ClassifierOutputs


class OpenVinoEngine(graph.GraphEngine):
    """OpenVINO on the CPU."""

    name = "openvino"
    title = "OpenVINO"
    extra = "openvino"
    packages = ("openvino",)
    export_packages = ("nncf",)
    file_name = "model.xml"
    precisions: ClassVar = {
        "fp32": base.EXACT,
        "bf16": base.ROUNDED,
        "int8": base.QUANTIZED,
    }
    int8_float_precision = "bf16"

    def write_graph(
        self, program: ExportedProgram, folder: Path, metadata: Mapping[str, Any]
    ) -> None:
        self._save(self._convert(program), folder, metadata)

    def open_graph(self, path: Path, precision: str) -> graph.GraphModel:
        """Open an OpenVINO model.

        Without a set precision, OpenVINO chooses bfloat16 on CPUs where it is fast. An
        int8 graph uses bfloat16 for its other nodes: this adds little to the rounding
        error of int8, and float32 would be a tenth slower.
        """
        from rsft.models.outputs import ClassifierOutputs

        core = self.require("openvino").Core()
        threads = base.engine_threads()
        hint = "f32" if precision == "fp32" else "bf16"
        options = {
            "INFERENCE_PRECISION_HINT": hint,
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": threads,
        }
        model = core.read_model(path)
        _check_graph(model)
        compiled = core.compile_model(model, "CPU", options)
        thread_local = threading.local()

        def infer(images: NDArray[Any]) -> ClassifierOutputs:
            if not hasattr(thread_local, "request"):
                thread_local.request = compiled.create_infer_request()
            result = thread_local.request.infer(images)
            # the next call overwrites the request's arrays
            return ClassifierOutputs(result[0].copy(), result[1].copy())

        return graph.run_in_threads(infer)

    def quantize(
        self,
        program: ExportedProgram,
        folder: Path,
        metadata: Mapping[str, Any],
        chips: Floats32,
        float_nodes: graph.FloatNodes,
    ) -> None:
        """Quantize with NNCF's settings for transformers, which smooth activations."""
        nncf = self.require("nncf")
        # nncf.set_log_level also changes handlers of other libraries
        logging.getLogger("nncf").setLevel(logging.ERROR)
        model = self._convert(program)
        names = [op.get_friendly_name() for op in model.get_ops()]
        traced_names = [name.partition("/")[0] for name in names]
        self.check_float_nodes(float_nodes.products, traced_names)
        pairs = zip(names, traced_names, strict=True)
        ignored = [name for name, traced in pairs if traced in float_nodes.names]
        with graph.silence_output():
            quantized = nncf.quantize(
                model,
                nncf.Dataset(chips[:, None]),
                preset=nncf.QuantizationPreset.MIXED,
                model_type=nncf.ModelType.TRANSFORMER,
                subset_size=len(chips),
                ignored_scope=nncf.IgnoredScope(
                    names=ignored, types=["Convolution"], validate=False
                ),
            )
        self._save(quantized, folder, metadata)

    def _convert(self, program: ExportedProgram) -> Any:
        """Convert a traced network to an OpenVINO model with a fixed image size."""
        with graph.silence_output():
            model = self.require("openvino").convert_model(program)
        (example,), _ = program.example_inputs
        model.reshape([-1, *example.shape[1:]])
        model.inputs[0].set_names({IMAGES})
        for output, name in zip(model.outputs, (LOGITS, FEATURES), strict=True):
            output.set_names({name})
        return model

    def _save(self, model: Any, folder: Path, metadata: Mapping[str, Any]) -> None:
        """Write a model.

        Weights of a bf16 model are stored in float16, which has all digits of a
        bfloat16.
        """
        model.set_rt_info(json.dumps(metadata), METADATA_KEY)
        is_bf16 = metadata["precision"] == "bf16"
        self.require("openvino").save_model(
            model, folder / self.file_name, compress_to_fp16=is_bf16
        )


def _check_graph(model: Any) -> None:
    """Check what OpenVINO does not check of a damaged graph.

    It writes anywhere with the axes of a normalization. A shape of an output may state
    millions of rows, which fill the memory.
    """
    for operation in model.get_ops():
        if operation.get_type_name() != "MVN":
            continue
        rank = operation.input(0).get_partial_shape().rank
        source = None
        if operation.get_input_size() == 2:
            source = operation.input_value(1).get_node()
        if source is None or source.get_type_name() != "Constant" or rank.is_dynamic:
            raise ValueError("a normalization has no constant axes")
        axes = source.data.flatten()
        length = rank.get_length()
        if not ((-length <= axes) & (axes < length)).all():
            raise ValueError(
                "an axis of a normalization is not a dimension of its input"
            )
    for output in model.outputs:
        shape = output.get_partial_shape()
        if shape.rank.is_dynamic or not len(shape) or shape[0].is_static:
            raise ValueError(
                f"an output has the shape {shape} for any number of images"
            )
