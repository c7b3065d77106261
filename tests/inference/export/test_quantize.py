"""Choice of the matrix products to quantize to int8."""

import shutil
from functools import cache

import pytest

from rsft.errors import WeightsError
from rsft.inference.engines.base import find_format
from rsft.inference.engines.graph import FloatNodes
from rsft.inference.engines.traceable import TraceableNetwork, trace_network
from rsft.inference.export.export import float_nodes
from tests.helpers.messages import mentions
from tests.helpers.plugins import OPENVINO
from tests.helpers.tiny_bundles import CONTRACT, IMAGES, tiny_classifier

pytestmark = pytest.mark.slow
METADATA = {"classes": ["a", "b", "ç"], "precision": "int8"}
PRODUCTS = {"lora": 9, "adapter": 12, "prompts": 8}
"""Products with weights in two blocks: four per block, two more with adapters. The
last block of LoRA has one more, because it computes the query of the class token
separately."""


@cache
def traced(method="lora", head="linear"):
    network = TraceableNetwork([tiny_classifier(1, method, head)])
    return trace_network(network, CONTRACT), network(IMAGES)[0]


@pytest.fixture
def written_once(tiny_program, tiny_graph, monkeypatch):
    """Return the program whose graph in ONNX, which `test_graph.py` tests, is copied
    instead of written before each quantization."""

    written = tiny_graph("onnx")

    def copy(engine, program, folder, metadata):
        assert program is tiny_program[0] and engine.name == "onnx"
        shutil.copytree(written, folder, dirs_exist_ok=True)

    monkeypatch.setattr(type(find_format("onnx")), "write_graph", copy)
    return tiny_program[0]


def quantize(name, program, folder, first=0, nodes=None):
    graph_format = find_format(name)
    nodes = nodes or float_nodes(program, first)
    graph_format.quantize(program, folder, METADATA, IMAGES.numpy(), nodes)
    return folder / graph_format.file_name


def count_int8_products(name, path):
    if name == "onnx":
        import onnx

        nodes = onnx.load(path).graph.node
        dequantized = {
            node.output[0] for node in nodes if node.op_type == "DequantizeLinear"
        }
        return sum(
            node.op_type in ("MatMul", "Gemm", "Conv") and node.input[0] in dequantized
            for node in nodes
        )
    import openvino

    model = openvino.Core().read_model(path)
    sources = [
        op.input(0).get_source_output().get_node().get_type_name()
        for op in model.get_ops()
        if op.get_type_name() in ("MatMul", "Convolution", "ScaledDotProductAttention")
    ]
    return sources.count("FakeQuantize")


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", ["onnx", OPENVINO])
@pytest.mark.parametrize(
    ("method", "head"),
    [
        ("lora", "cosine"),
        ("lora", "two depths"),
        ("adapter", "linear"),
        ("prompts", "linear"),
    ],
)
def test_only_products_with_weights_of_blocks_are_quantized(
    tmp_path, name, method, head
):
    program, expected = traced(method, head)
    path = quantize(name, program, tmp_path)
    assert count_int8_products(name, path) == PRODUCTS[method]
    error = (
        (find_format(name).open_graph(path, "int8").predict(IMAGES).logits - expected)
        .abs()
        .max()
    )
    assert 0 < error < 0.2 * expected.abs().max()
    assert {file.name for file in tmp_path.iterdir()} <= {
        "model.onnx",
        "model.xml",
        "model.bin",
    }


@pytest.mark.parametrize("name", ["onnx", OPENVINO])
def test_the_first_blocks_stay_in_floating_point(written_once, tmp_path, name):
    path = quantize(name, written_once, tmp_path, first=1)
    assert count_int8_products(name, path) == PRODUCTS["lora"] - 4


@pytest.mark.parametrize("name", ["onnx", OPENVINO])
def test_a_node_that_is_missing_in_the_converted_graph_is_an_error(
    written_once, tmp_path, name
):
    nodes = FloatNodes(
        frozenset({"renamed", "linear"}), frozenset({"renamed", "linear"})
    )
    with pytest.raises(WeightsError, match=mentions("1 of 2 nodes", ": renamed")):
        quantize(name, written_once, tmp_path, nodes=nodes)


def test_all_products_among_the_float_nodes_are_required(tiny_program):
    program, _ = tiny_program
    assert [len(float_nodes(program, first).products) for first in (0, 1)] == [
        2 + 1,
        2 + 1 + 4,
    ]


@pytest.mark.exhaustive
def test_several_runs(tmp_path):
    network = TraceableNetwork(
        [tiny_classifier(0, head="cosine"), tiny_classifier(1, "adapter")]
    )
    program = trace_network(network, CONTRACT)
    # attention of two blocks in each run, and two heads
    assert len(float_nodes(program, 0).names) == 4 + 2
    path = quantize("onnx", program, tmp_path)
    assert count_int8_products("onnx", path) == PRODUCTS["lora"] + PRODUCTS["adapter"]
