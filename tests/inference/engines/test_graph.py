"""Engines and formats that hold a graph: the written file gives PyTorch's outputs."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from rsft.errors import RequestError
from rsft.inference.engines.base import FORMATS, find_format
from rsft.inference.engines.graph import GraphFormat
from rsft.utils import dependencies
from tests.helpers.plugins import OPENVINO, needs_plugin
from tests.helpers.tiny_bundles import IMAGES

pytestmark = pytest.mark.slow

GRAPH_FORMATS = ["onnx", "openvino", "torch-export"]
TORCH_EXPORT = pytest.param("torch-export", marks=needs_plugin("exports"))


def open_graph(name, folder, precision="fp32"):
    graph_format = find_format(name)
    return graph_format.open_graph(folder / graph_format.file_name, precision)


@needs_plugin("exports")
def test_all_formats_are_tested():
    graphs = [
        name
        for name in FORMATS
        if issubclass(FORMATS[name], GraphFormat) and not FORMATS[name].whole_only
    ]
    assert graphs == GRAPH_FORMATS


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", ["onnx", OPENVINO, TORCH_EXPORT])
def test_outputs_are_those_of_pytorch(tiny_program, tiny_graph, name):
    _, expected = tiny_program
    model = open_graph(name, tiny_graph(name))
    for count in (5, 1):
        for values, all_values in zip(
            model.predict(IMAGES[:count]), expected, strict=True
        ):
            np.testing.assert_allclose(values, all_values[:count], atol=1e-5)


@pytest.mark.parametrize("name", ["onnx", OPENVINO])
def test_two_threads_may_call_at_once(tiny_program, tiny_graph, name):
    _, expected = tiny_program
    model = open_graph(name, tiny_graph(name))
    assert model.concurrency == 2
    with ThreadPoolExecutor(2) as pool:
        for prediction in pool.map(model.predict, [IMAGES] * 6):
            np.testing.assert_allclose(prediction.logits, expected[0], atol=1e-5)


@needs_plugin("exports")
def test_a_missing_package_is_named_with_its_extra(monkeypatch):
    def missing(name):
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(dependencies.importlib, "import_module", missing)
    for name, package in {
        "openvino": "openvino",
        "onnx": "onnxruntime.quantization",
    }.items():
        with pytest.raises(RequestError, match=rf"pip install 'rsft\[{name}\]'"):
            find_format(name).require(package)
