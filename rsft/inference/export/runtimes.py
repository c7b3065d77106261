"""Graphs as files, and files as what answers: ONNX, OpenVINO, torch.export."""

from __future__ import annotations

import io
import json
import logging
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.export import ExportedProgram

from rsft.inference.export.traceable import FEATURES, IMAGES, LOGITS
from rsft.models.bundle.bundle import Bundle
from rsft.models.classifier import Answer
from rsft.utils.optional_dependencies import need

FILES = {"onnx": "model.onnx", "openvino": "model.xml", "torch-export": "model.pt2"}
"""Kind -> name of the file in an export's folder."""

BESIDE_INT8 = {"onnx": "fp32", "openvino": "bf16"}
"""What a runtime computes in, in an int8 export, where that is not int8."""

_KEY = "rsft"  # of the description within the files
_LARGE = 1_500_000_000  # bytes of weights: a protobuf ends at 2 GB, so they go into a file beside it

Run = Callable[[NDArray[Any]], tuple[NDArray[Any], NDArray[Any]]]


class Runtime:
    """What answers as a classifier does, in another runtime on the processor.

    Attributes:
        callers: threads that may call it at once, and keep it busy so.
    """

    def __init__(self, run: Run, callers: int = 1) -> None:
        self.run, self.callers = run, callers

    def answer(self, x: Tensor) -> Answer:
        """(B, P, S, S) -> logits (B, C) and features (B, D)."""
        return Answer(*(torch.from_numpy(part) for part in self.run(x.numpy())))


def still(module: Callable[[Tensor], tuple[Tensor, Tensor]], place: torch.device | str = "cpu") -> Run:
    """A module as what runs, without gradients."""

    @torch.inference_mode()
    def run(x: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        logits, features = module(torch.from_numpy(x).to(place))
        return logits.cpu().numpy(), features.cpu().numpy()

    return run


def spread(run: Run, pool: ThreadPoolExecutor) -> Runtime:
    """What runs on one core, by as many threads as torch has, each with a share of the images.

    Where threads share each layer, all wait at its end for the one that was interrupted, as by a thread that reads
    chips. With two callers, the shares of the next are there when those of one come to an end.
    """
    threads = torch.get_num_threads()

    def whole(x: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        logits, features = zip(*pool.map(run, np.array_split(x, min(threads, len(x)))), strict=True)
        return np.concatenate(logits), np.concatenate(features)

    return Runtime(whole, callers=2)


def write_graph(kind: str, program: ExportedProgram, bundle: Bundle, about: dict[str, Any], folder: Path) -> None:
    """Write a graph in `folder` as FILES names it, with its description.

    Raises:
        RequestError: a package that is not installed.
    """
    path = folder / FILES[kind]
    if kind == "torch-export":
        torch.export.save(program, path, extra_files={"rsft.json": json.dumps(about)})
    elif kind == "onnx":
        _write_onnx(program, path, about)
    else:
        save_openvino(to_openvino(program, bundle), path, about)


def open_graph(kind: str, path: Path, precision: str) -> Runtime:
    """A written graph, ready to run, with as many threads as torch has.

    Raises:
        RequestError: a package that is not installed.
    """
    if kind == "torch-export":
        return Runtime(still(torch.export.load(path).module()))
    run = _onnx(path) if kind == "onnx" else _openvino(path, precision)
    return spread(run, ThreadPoolExecutor(torch.get_num_threads(), "engine"))


def to_openvino(program: ExportedProgram, bundle: Bundle) -> Any:
    """The graph as a model of OpenVINO, whose input has a fixed size."""
    with quietly():
        model = need("openvino").convert_model(program)
    size = bundle.contract.size
    model.reshape([-1, len(bundle.contract.planes), size, size])
    model.inputs[0].set_names({IMAGES})
    for output, name in zip(model.outputs, (LOGITS, FEATURES), strict=True):
        output.set_names({name})
    return model


def save_openvino(model: Any, path: Path, about: dict[str, Any]) -> None:
    """Write .xml and .bin. For bf16 the weights are halved: float16 holds all digits of a bfloat16."""
    model.set_rt_info(json.dumps(about), _KEY)
    need("openvino").save_model(model, path, compress_to_fp16=about["precision"] == "bf16")


def describe_onnx(path: Path, about: dict[str, Any]) -> None:
    """Put the description into an ONNX file."""
    onnx = need("onnx")
    model = onnx.load(path, load_external_data=False)
    onnx.helper.set_model_props(model, {_KEY: json.dumps(about)})
    onnx.save(model, path)


@contextmanager
def quietly() -> Iterator[None]:
    """Exporters tell of their steps on every channel; what they raise is raised."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _write_onnx(program: ExportedProgram, path: Path, about: dict[str, Any]) -> None:
    need("onnx"), need("onnxscript")
    large = sum(tensor.nbytes for tensor in program.state_dict.values()) > _LARGE
    with quietly():
        written = torch.onnx.export(
            program, dynamo=True, input_names=[IMAGES], output_names=[LOGITS, FEATURES], verbose=False
        )
        assert written is not None
        written.save(path, external_data=large)
    describe_onnx(path, about)


def _openvino(path: Path, precision: str) -> Run:
    """A file of OpenVINO as what runs; it would choose bf16 by itself where that is fast.

    Beside int8 it is: bf16 adds little to its rounding, and float32 would cost a tenth of the speed.
    """
    core, threads, own = need("openvino").Core(), torch.get_num_threads(), threading.local()
    hint = "f32" if precision == "fp32" else "bf16"
    options = {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": threads}
    compiled = core.compile_model(core.read_model(path), "CPU", options)

    def run(x: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        if not hasattr(own, "request"):
            own.request = compiled.create_infer_request()
        found = own.request.infer(x)
        return found[0].copy(), found[1].copy()  # the next call overwrites them

    return run


def _onnx(path: Path) -> Run:
    runtime = need("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1  # each caller is one
    options.log_severity_level = 3
    session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(x: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        logits, features = session.run([LOGITS, FEATURES], {IMAGES: x})
        return logits, features

    return run
