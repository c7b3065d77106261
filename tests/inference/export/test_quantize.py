"""What is quantised, and what is left in floating point."""

from __future__ import annotations

import pytest

from rsft.inference.export.quantize import depth_of, quantise_onnx, quantise_openvino, spared, steps
from rsft.inference.export.runtimes import FILES, open_graph, to_openvino, write_graph
from rsft.inference.export.traceable import Network, trace
from tests.helpers.tiny_bundles import BUNDLE, CONTRACT, IMAGES, classifier

ABOUT = {"classes": ["a", "b", "ç"], "precision": "int8"}
PRODUCTS = {"lora": 9, "adapter": 12, "prompts": 8}
"""Weights in two blocks: four each, adapters two more; the last block of lora asks for the class token apart."""


def traced(method="lora", head="linear"):
    model = Network([classifier(1, method, head)])
    return trace(model, CONTRACT), model(IMAGES)[0]


def quantised(kind, program, folder, first=0, progress=None):
    path, spare = folder / FILES[kind], spared(program, first)
    if kind == "onnx":
        write_graph("onnx", program, BUNDLE, ABOUT, folder)
        quantise_onnx(path, IMAGES.numpy(), ABOUT, spare, progress)
    else:
        quantise_openvino(to_openvino(program, BUNDLE), path, IMAGES.numpy(), ABOUT, spare, progress)
    return path


def rounded(kind, path):
    """How many products have inputs in int8."""
    if kind == "onnx":
        import onnx

        nodes = onnx.load(path).graph.node
        steps = {node.output[0] for node in nodes if node.op_type == "DequantizeLinear"}
        return sum(node.op_type in ("MatMul", "Gemm", "Conv") and node.input[0] in steps for node in nodes)
    import openvino

    model = openvino.Core().read_model(path)
    sources = [
        op.input(0).get_source_output().get_node().get_type_name()
        for op in model.get_ops()
        if op.get_type_name() in ("MatMul", "Convolution", "ScaledDotProductAttention")
    ]
    return sources.count("FakeQuantize")


@pytest.mark.parametrize("kind", ["onnx", "openvino"])
@pytest.mark.parametrize(("method", "head"), [("lora", "cosine"), ("adapter", "linear"), ("prompts", "linear")])
def test_weights_of_blocks_alone_are_rounded(tmp_path, kind, method, head):
    program, wanted = traced(method, head)
    path = quantised(kind, program, tmp_path)
    assert rounded(kind, path) == PRODUCTS[method]
    away = (open_graph(kind, path, "int8").answer(IMAGES).logits - wanted).abs().max()
    assert 0 < away < 0.2 * wanted.abs().max()
    assert {file.name for file in tmp_path.iterdir()} <= {"model.onnx", "model.xml", "model.bin"}


@pytest.mark.parametrize("kind", ["onnx", "openvino"])
def test_the_first_blocks_are_spared(tmp_path, kind):
    program, _ = traced()
    assert rounded(kind, quantised(kind, program, tmp_path, first=1)) == PRODUCTS["lora"] - 4


def test_several_runs(tmp_path):
    program = trace(Network([classifier(0, head="cosine"), classifier(1, "adapter")]), CONTRACT)
    assert len(spared(program, 0)) == 4 + 2  # attention of two blocks each, and two heads
    assert rounded("onnx", quantised("onnx", program, tmp_path)) == PRODUCTS["lora"] + PRODUCTS["adapter"]


@pytest.mark.parametrize(
    ("depth", "first"), [(0, [0]), (1, [0, 1]), (2, [0, 1]), (8, [0, 2, 3]), (12, [0, 2, 4]), (24, [0, 4, 8])]
)
def test_steps(depth, first):
    assert steps(depth) == first


def test_blocks_are_counted():
    assert depth_of(traced()[0]) == 2


@pytest.mark.parametrize(("kind", "total"), [("onnx", 5), ("openvino", 10)])
def test_progress(tmp_path, kind, total):
    told = []
    quantised(kind, traced()[0], tmp_path, progress=lambda *each: told.append(each))
    assert told[-1] == (total, total, "calibrating")
