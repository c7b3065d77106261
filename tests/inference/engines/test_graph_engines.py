"""Engines and formats that hold a graph: the written file gives PyTorch's outputs."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from rsft.errors import RequestError
from rsft.inference.engines.base import find_format, graph_formats
from rsft.inference.export.traceable import TraceableNetwork, trace_network
from rsft.utils import dependencies
from tests.helpers.tiny_bundles import CONTRACT, IMAGES, tiny_classifier

pytestmark = pytest.mark.slow

METADATA = {"classes": ["a", "b", "ç"], "precision": "fp32"}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A folder with a graph in every format, the network's outputs, and the traced program."""
    folder, network = tmp_path_factory.mktemp("graphs"), TraceableNetwork([tiny_classifier(1)])
    program = trace_network(network, CONTRACT)
    for name in graph_formats():
        find_format(name).write_graph(program, folder, METADATA)
    return folder, network(IMAGES), program


def open_graph(name: str, folder: Path, precision: str = "fp32"):
    graph_format = find_format(name)
    return graph_format.open_graph(folder / graph_format.file_name, precision)


def test_all_formats_are_tested():
    assert graph_formats() == ["onnx", "openvino", "torch-export"]


@pytest.mark.parametrize("name", ["onnx", "openvino", "torch-export"])
def test_outputs_are_those_of_pytorch(written, name):
    folder, expected, _ = written
    model = open_graph(name, folder)
    for count in (5, 1):
        for values, all_values in zip(model.predict(IMAGES[:count]), expected, strict=True):
            np.testing.assert_allclose(values, all_values[:count], atol=1e-5)


@pytest.mark.parametrize("name", ["onnx", "openvino"])
def test_two_threads_may_call_at_once(written, name):
    folder, expected, _ = written
    model = open_graph(name, folder)
    assert model.concurrency == 2
    with ThreadPoolExecutor(2) as pool:
        for prediction in pool.map(model.predict, [IMAGES] * 6):
            np.testing.assert_allclose(prediction.logits, expected[0], atol=1e-5)


def test_onnx_checker_accepts_the_file(written):
    import onnx

    model = onnx.load(written[0] / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert [value.name for value in (*model.graph.input, *model.graph.output)] == ["images", "logits", "features"]
    assert json.loads({entry.key: entry.value for entry in model.metadata_props}["rsft"]) == METADATA


def test_openvino_holds_input_size_and_metadata(written):
    import openvino

    model = openvino.Core().read_model(written[0] / "model.xml")
    assert str(model.input("images").partial_shape) == "[?,3,16,16]" and model.output("features")
    assert json.loads(model.get_rt_info("rsft").astype(str)) == METADATA


def test_openvino_in_bf16_is_half_as_large_and_near(written, tmp_path):
    folder, expected, program = written
    find_format("openvino").write_graph(program, tmp_path, METADATA | {"precision": "bf16"})
    error = (open_graph("openvino", tmp_path, "bf16").predict(IMAGES).logits - expected[0]).abs().max()
    assert 0 < error < 0.1
    sizes = [(path / "model.bin").stat().st_size for path in (tmp_path, folder)]
    assert 0.4 < sizes[0] / sizes[1] < 0.7


def test_torch_export_holds_the_metadata(written):
    files = {"rsft.json": ""}
    torch.export.load(written[0] / "model.pt2", extra_files=files)
    assert json.loads(files["rsft.json"]) == METADATA


def test_a_missing_package_is_named_with_its_extra(monkeypatch):
    def missing(name):
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(dependencies.importlib, "import_module", missing)
    with pytest.raises(RequestError, match=r"pip install 'rsft\[openvino\]'"):
        find_format("openvino").require("openvino")
    with pytest.raises(RequestError, match=r"pip install 'rsft\[onnx\]'"):
        find_format("onnx").require("onnxruntime.quantization")
