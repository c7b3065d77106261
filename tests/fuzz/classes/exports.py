"""Exported graphs, which ONNX Runtime and OpenVINO open and run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime  # the processes share it  # noqa: F401
import openvino
from onnx import TensorProto, checker, helper, save
from openvino import opset13 as ops

from rsft.inference.predict.engine import load_exported_engine
from tests.fuzz.mutate import mutate_bytes, mutate_json, mutate_text
from tests.fuzz.target import Target
from tests.helpers.scenes import CLASSES, toy_bundle

WEIGHTS = np.linspace(-1, 1, 192, dtype=np.float32)


def _build_onnx(folder: Path) -> None:
    image = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", 3, 8, 8])
    sizes = {"logits": len(CLASSES), "features": 3}
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", size])
        for name, size in sizes.items()
    ]
    axes = helper.make_tensor("axes", TensorProto.INT64, [2], [2, 3])
    weights = helper.make_tensor(
        "weights", TensorProto.FLOAT, [3, len(CLASSES)], WEIGHTS[: 3 * len(CLASSES)]
    )
    nodes = [
        helper.make_node("ReduceMean", ["images", "axes"], ["features"], keepdims=0),
        helper.make_node("Gemm", ["features", "weights"], ["logits"]),
    ]
    graph = helper.make_graph(nodes, "g", [image], outputs, [axes, weights])
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8
    )
    checker.check_model(model)
    save(model, folder / "model.onnx")
    _write_metadata(folder, "onnx", ("model.onnx",))


def _build_openvino(folder: Path) -> None:
    """Write a small transformer: patches, attention, a mean and a classifier."""
    images = ops.parameter([-1, 3, 8, 8], np.float32, name="images")
    patches = ops.convolution(
        images, WEIGHTS.reshape(4, 3, 4, 4), [4, 4], [0, 0], [0, 0], [1, 1]
    )
    tokens = ops.transpose(
        ops.reshape(patches, np.array([0, 4, -1]), True), np.array([0, 2, 1])
    )
    tokens = ops.mvn(tokens, np.array([2]), True, 1e-6, "inside_sqrt")
    attention = ops.softmax(ops.matmul(tokens, tokens, False, True), 2)
    tokens = ops.gelu(
        ops.add(tokens, ops.matmul(attention, tokens, False, False)), "erf"
    )
    features = ops.reduce_mean(tokens, np.array([1]), False)
    logits = ops.matmul(
        features, WEIGHTS[: 4 * len(CLASSES)].reshape(len(CLASSES), 4), False, True
    )
    for node, name in ((images, "images"), (logits, "logits"), (features, "features")):
        node.output(0).set_names({name})
    openvino.save_model(
        openvino.Model([logits, features], [images], "g"),
        folder / "model.xml",
        compress_to_fp16=False,
    )
    _write_metadata(folder, "openvino", ("model.bin", "model.xml"))


def _write_metadata(folder: Path, kind: str, names: Sequence[str]) -> None:
    files = {name: _hash(folder / name) for name in names}
    metadata = {
        "format": 1,
        "kind": kind,
        "precision": "fp32",
        "bundle_sha256": "0" * 64,
        "files": files,
    }
    (folder / "export.json").write_text(json.dumps(metadata))


def _read(names: Sequence[str], folder: Path) -> None:
    """Open and run an export; its index states the hashes of its files, whatever they
    contain."""
    path = folder / "export.json"
    content = path.read_bytes()
    try:
        metadata = json.loads(content)
        metadata["files"] |= {name: _hash(folder / name) for name in names}
        path.write_text(json.dumps(metadata))
    except (ValueError, KeyError, TypeError, UnicodeError, RecursionError):
        pass  # a damaged index, as it is
    bundle = toy_bundle()
    bundle.recipe.evaluate = _Evaluate()
    load_exported_engine(bundle, folder).infer(np.ones((2, 3, 8, 8), np.float32))


class _Evaluate:
    tta = "none"
    margin = 0
    crop_margin = 0


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


TARGETS = [
    Target(
        "exports_onnx",
        _build_onnx,
        {"export.json": mutate_json, "model.onnx": mutate_bytes},
        partial(_read, ("model.onnx",)),
        named_by="folder",
    ),
    Target(
        "exports_openvino",
        _build_openvino,
        {
            "export.json": mutate_json,
            "model.xml": mutate_text,
            "model.bin": mutate_bytes,
        },
        partial(_read, ("model.bin", "model.xml")),
        named_by="folder",
    ),
]
