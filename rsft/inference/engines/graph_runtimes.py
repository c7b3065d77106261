"""The engines and formats ONNX Runtime and OpenVINO."""

from __future__ import annotations

import json
import logging
import shutil
import threading
from collections.abc import Iterator, Mapping
from functools import partial
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
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
    import numpy as np
    from numpy.typing import NDArray
    from torch.export import ExportedProgram

    from rsft.models.outputs import ClassifierOutputs

_MAX_PROTOBUF = 1_500_000_000
"""Bytes of weights. Larger weights go into a second file, because protobuf files are
limited to 2 GB."""

_CALIBRATION_BATCH = 8
_QUANTIZED_OPS = ("MatMul", "Gemm")


@base.ENGINES.register
class OnnxEngine(graph.GraphEngine):
    """ONNX Runtime on the CPU."""

    name = "onnx"
    title = "ONNX Runtime"
    extra = "onnx"
    packages: ClassVar[tuple[str, ...]] = ("onnxruntime",)
    export_packages = ("onnx", "onnxscript")
    file_name = "model.onnx"
    precisions: ClassVar[Mapping[str, Tolerance]] = {
        "fp32": base.EXACT,
        "int8": base.QUANTIZED,
    }
    unsupported: ClassVar[Mapping[str, str]] = {
        "bf16": "ONNX Runtime has no bfloat16 on a CPU"
    }
    int8_float_precision = "fp32"
    holds_pipelines = True

    def write_graph(
        self, program: ExportedProgram, folder: Path, metadata: Mapping[str, Any]
    ) -> None:
        import torch

        self.require("onnx"), self.require("onnxscript")
        path = folder / self.file_name
        input_name = metadata.get("input", {}).get("name", IMAGES)
        output_names = list(metadata.get("outputs", (LOGITS, FEATURES)))
        has_large_weights = (
            sum(tensor.nbytes for tensor in program.state_dict.values()) > _MAX_PROTOBUF
        )
        with graph.silence_output():
            converted = torch.onnx.export(
                program,
                dynamo=True,
                input_names=[input_name],
                output_names=output_names,
                verbose=False,
            )
            assert converted is not None
            converted.save(path, external_data=has_large_weights)
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

    def run_pipeline(
        self, path: Path, pixels: NDArray[np.float32]
    ) -> list[NDArray[np.float32]]:
        session = self.require("onnxruntime").InferenceSession(
            path, providers=["CPUExecutionProvider"]
        )
        return list(session.run(None, {session.get_inputs()[0].name: pixels}))

    def quantize(
        self,
        program: ExportedProgram,
        folder: Path,
        metadata: Mapping[str, Any],
        calibration: graph.Calibration,
    ) -> None:
        """Write matrix products in int8 (QDQ) with one scale per row of a weight."""
        chips, float_nodes, progress = calibration
        quantization = self.require("onnxruntime.quantization")
        shapes = self.require("onnxruntime.quantization.shape_inference")
        onnx = self.require("onnx")
        self.write_graph(program, folder, metadata)
        path = folder / self.file_name
        prepared_path = folder / "prepared.onnx"
        nodes = onnx.load(path, load_external_data=False).graph.node
        self.check_float_nodes(
            float_nodes.products, {_traced_name(node) for node in nodes}
        )
        excluded = {
            node.name for node in nodes if _traced_name(node) in float_nodes.names
        }

        def batches() -> Iterator[dict[str, NDArray[np.float32]]]:
            for start in range(0, len(chips), _CALIBRATION_BATCH):
                if progress is not None:
                    progress(
                        min(start + _CALIBRATION_BATCH, len(chips)),
                        len(chips),
                        graph.CALIBRATING,
                    )
                yield {IMAGES: chips[start : start + _CALIBRATION_BATCH]}

        with graph.silence_output():
            shapes.quant_pre_process(path, prepared_path, skip_symbolic_shape=True)
            prepared = onnx.load(prepared_path, load_external_data=False).graph.node
            products = {node.name for node in nodes if node.op_type in _QUANTIZED_OPS}
            self.check_float_nodes(
                excluded & products, {node.name for node in prepared}
            )
            quantization.quantize_static(
                prepared_path,
                path,
                SimpleNamespace(
                    get_next=partial(next, batches(), None)
                ),  # as a `CalibrationDataReader`
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
        properties = {
            METADATA_KEY: json.dumps(metadata),
            "classes": json.dumps(metadata.get("classes", [])),
        }
        properties |= {
            key: str(value) for key, value in _describe_pixels(metadata).items()
        }
        onnx.helper.set_model_props(model, properties)
        onnx.save(model, path)


def _describe_pixels(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the properties of pixels that a whole pipeline needs; else {}."""
    whole = metadata.get("whole", {})
    return whole | {"bands": ", ".join(whole["bands"])} if whole else {}


class MlflowFormat(OnnxEngine):
    """Model of MLflow: the whole pipeline in ONNX Runtime.

    It returns a table with the names of the classes.
    """

    name = "mlflow"
    title = "MLflow"
    extra = "mlflow"
    packages = ("mlflow", "onnxruntime")
    file_name = "MLmodel"
    precisions: ClassVar[Mapping[str, Tolerance]] = {"fp32": base.EXACT}
    unsupported: ClassVar[Mapping[str, str]] = {
        "bf16": "a whole pipeline is in fp32",
        "int8": "as bf16",
    }
    whole_only = True

    def write_graph(
        self, program: ExportedProgram, folder: Path, metadata: Mapping[str, Any]
    ) -> None:
        """Write the graph, and let MLflow write a model around it."""
        import numpy as np

        from rsft.inference.export import metadata as export_metadata

        pyfunc, models, schema = (
            self.require(f"mlflow.{name}")
            for name in ("pyfunc", "models", "types.schema")
        )
        columns = [
            "class",
            "probability",
            *(f"p_{name}" for name in metadata["classes"]),
            *list(metadata["outputs"])[1:],
        ]
        shape = (-1, *metadata["input"]["shape"][1:])
        signature = models.ModelSignature(
            schema.Schema([schema.TensorSpec(np.dtype("float32"), shape)]),
            schema.Schema(
                [
                    schema.ColSpec("string" if name == "class" else "float", name)
                    for name in columns
                ]
            ),
        )
        packages = export_metadata.installed_versions(
            ("numpy", "onnxruntime", "pandas")
        )
        with TemporaryDirectory() as temporary, graph.silence_output():
            graph_dir = Path(temporary) / "graph"
            graph_dir.mkdir()
            OnnxEngine().write_graph(program, graph_dir, metadata)
            # MLflow writes the path of the code into its files: not that of this
            # installation
            code = shutil.copy(
                Path(export_metadata.__file__).with_name("mlflow_model.py"), temporary
            )
            pyfunc.save_model(
                folder,
                python_model=code,
                artifacts={"graph": str(graph_dir)},
                signature=signature,
                pip_requirements=[
                    f"{package}=={version}" for package, version in packages.items()
                ],
                metadata=_describe_pixels(metadata) | {"classes": metadata["classes"]},
            )

    def run_pipeline(
        self, path: Path, pixels: NDArray[np.float32]
    ) -> list[NDArray[np.float32]]:
        with graph.silence_output():
            table = (
                self.require("mlflow.pyfunc")
                .load_model(str(path.parent))
                .predict(pixels)
            )
        is_probability = [name.startswith("p_") for name in table]
        distances = [table[name].to_numpy() for name in table if name == "ood_distance"]
        return [table.loc[:, is_probability].to_numpy(), *distances]


def _traced_name(node: Any) -> str:
    """Return the name that an ONNX node has in the traced graph, or ""."""
    values = (
        str(entry.value)
        for entry in node.metadata_props
        if entry.key == "pkg.torch.onnx.fx_node"
    )
    return next(values, "").partition(" ")[0].removeprefix("%")


@base.ENGINES.register
class OpenVinoEngine(graph.GraphEngine):
    """OpenVINO on the CPU."""

    name = "openvino"
    title = "OpenVINO"
    extra = "openvino"
    packages = ("openvino",)
    export_packages = ("nncf",)
    file_name = "model.xml"
    precisions: ClassVar[Mapping[str, Tolerance]] = {
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
        calibration: graph.Calibration,
    ) -> None:
        """Quantize with NNCF's settings for transformers, which smooth activations."""
        chips, float_nodes, progress = calibration
        nncf = self.require("nncf")
        logging.getLogger("nncf").setLevel(
            logging.ERROR
        )  # nncf.set_log_level also changes handlers of other libraries
        model = self._convert(program)
        traced_names = {
            op.get_friendly_name(): op.get_friendly_name().partition("/")[0]
            for op in model.get_ops()
        }
        self.check_float_nodes(float_nodes.products, traced_names.values())
        ignored = [
            name
            for name, traced_name in traced_names.items()
            if traced_name in float_nodes.names
        ]
        # NNCF reads every chip twice: to smooth activations and to measure their ranges
        calls = count(1)
        total = 2 * len(chips)

        def as_batch(chip: NDArray[np.float32]) -> NDArray[np.float32]:
            if progress is not None:
                progress(min(next(calls), total), total, graph.CALIBRATING)
            return chip[None]

        with graph.silence_output():
            quantized = nncf.quantize(
                model,
                nncf.Dataset(chips, as_batch),
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
        if operation.get_input_size() == 2:
            source = operation.input_value(1).get_node()
        else:
            source = None
        if source is None or source.get_type_name() != "Constant" or rank.is_dynamic:
            raise ValueError("a normalization has no constant axes")
        if any(
            not -rank.get_length() <= axis < rank.get_length()
            for axis in source.data.flatten().tolist()
        ):
            raise ValueError(
                "an axis of a normalization is not a dimension of its input"
            )
    for output in model.outputs:
        shape = output.get_partial_shape()
        if shape.rank.is_dynamic or not len(shape) or shape[0].is_static:
            raise ValueError(
                f"an output has the shape {shape} for any number of images"
            )


base.FORMATS.register(OnnxEngine)
base.FORMATS.register(OpenVinoEngine)
base.FORMATS.register(MlflowFormat)
