"""Engines and formats that hold a graph: the written file gives PyTorch's outputs."""

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
import openvino
import pytest
import torch
from openvino import opset13 as ops

from rsft.errors import RequestError
from rsft.inference.engines.base import FORMATS, find_format
from rsft.inference.engines.traceable import TraceableNetwork, trace_network
from rsft.utils import dependencies
from tests.helpers.messages import mentions
from tests.helpers.tiny_bundles import CONTRACT, IMAGES, tiny_classifier

pytestmark = pytest.mark.slow

GRAPH_FORMATS = ["onnx", "openvino", "torch-export"]
METADATA = {"classes": ["a", "b", "ç"], "precision": "fp32"}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A folder with a graph in every format, the network's outputs, and the traced
    program."""
    folder = tmp_path_factory.mktemp("graphs")
    network = TraceableNetwork([tiny_classifier(1)])
    program = trace_network(network, CONTRACT)
    for name in GRAPH_FORMATS:
        find_format(name).write_graph(program, folder, METADATA)
    return folder, network(IMAGES), program


def open_graph(name, folder, precision="fp32"):
    graph_format = find_format(name)
    return graph_format.open_graph(folder / graph_format.file_name, precision)


def test_all_formats_are_tested():
    graphs = [
        name
        for name in FORMATS
        if find_format(name).stores_graph and not find_format(name).whole_only
    ]
    assert graphs == GRAPH_FORMATS


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", GRAPH_FORMATS)
def test_outputs_are_those_of_pytorch(written, name):
    folder, expected, _ = written
    model = open_graph(name, folder)
    for count in (5, 1):
        for values, all_values in zip(
            model.predict(IMAGES[:count]), expected, strict=True
        ):
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
    model = onnx.load(written[0] / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert [value.name for value in (*model.graph.input, *model.graph.output)] == [
        "images",
        "logits",
        "features",
    ]
    assert (
        json.loads({entry.key: entry.value for entry in model.metadata_props}["rsft"])
        == METADATA
    )


def test_openvino_holds_input_size_and_metadata(written):
    model = openvino.Core().read_model(written[0] / "model.xml")
    assert str(model.input("images").partial_shape) == "[?,3,16,16]" and model.output(
        "features"
    )
    assert json.loads(model.get_rt_info("rsft").astype(str)) == METADATA


def test_openvino_in_bf16_is_half_as_large_and_near(written, tmp_path):
    folder, expected, program = written
    find_format("openvino").write_graph(
        program, tmp_path, METADATA | {"precision": "bf16"}
    )
    error = (
        (open_graph("openvino", tmp_path, "bf16").predict(IMAGES).logits - expected[0])
        .abs()
        .max()
    )
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
    for name, package in {
        "openvino": "openvino",
        "onnx": "onnxruntime.quantization",
    }.items():
        with pytest.raises(RequestError, match=rf"pip install 'rsft\[{name}\]'"):
            find_format(name).require(package)


def open_openvino(folder, images, features, axis=None):
    """Open a graph whose first weight, the axis of a normalization, is overwritten in
    the file."""
    path = folder / "model.xml"
    openvino.save_model(
        openvino.Model([features, features], [images]), path, compress_to_fp16=False
    )
    if axis is not None:
        content = path.with_suffix(".bin").read_bytes()
        assert content.startswith(np.int64(3).tobytes())
        path.with_suffix(".bin").write_bytes(np.int64(axis).tobytes() + content[8:])
    return open_graph("openvino", folder)


@pytest.mark.parametrize("axis", [-4, 3, -5, 4, 2**31, 3 + (8 << 56)])
def test_openvino_refuses_axes_that_are_not_dimensions(tmp_path, axis):
    images = ops.parameter([-1, 3, 8, 8], np.float32, name="images")
    normalized = ops.mvn(images, np.array([3]), True, 1e-6, "inside_sqrt")
    features = ops.reduce_mean(normalized, np.array([2, 3]), False)
    if -4 <= axis <= 3:
        graph = open_openvino(tmp_path, images, features, axis)
        assert graph.infer(np.ones((2, 3, 8, 8), np.float32)).features.shape == (2, 3)
    else:
        with pytest.raises(ValueError, match="not a dimension"):
            open_openvino(tmp_path, images, features, axis)


def test_openvino_refuses_a_fixed_number_of_rows(tmp_path):
    images = ops.parameter([-1, 3, 8, 8], np.float32, name="images")
    rows = ops.reshape(images, np.array([15_360_000, 3, -1]), True)
    with pytest.raises(ValueError, match=mentions("[15360000,3]")):
        open_openvino(tmp_path, images, ops.reduce_mean(rows, np.array([2]), False))
