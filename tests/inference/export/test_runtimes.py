"""Graphs as files that another runtime opens."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from rsft.errors import RequestError
from rsft.inference.export.runtimes import FILES, open_graph, write_graph
from rsft.inference.export.traceable import Network, trace
from rsft.utils import optional_dependencies
from tests.helpers.tiny_bundles import BUNDLE, CONTRACT, IMAGES, classifier

ABOUT = {"classes": ["a", "b", "ç"], "precision": "fp32"}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A folder with every kind, what the network says, and its graph."""
    folder, model = tmp_path_factory.mktemp("graphs"), Network([classifier(1)])
    program = trace(model, CONTRACT)
    for kind in FILES:
        write_graph(kind, program, BUNDLE, ABOUT, folder)
    return folder, model(IMAGES), program


@pytest.mark.parametrize("kind", FILES)
def test_it_answers_as_pytorch_does(written, kind):
    folder, wanted, _ = written
    runtime = open_graph(kind, folder / FILES[kind], "fp32")
    for count in (5, 1):
        for found, whole in zip(runtime.answer(IMAGES[:count]), wanted, strict=True):
            np.testing.assert_allclose(found, whole[:count], atol=1e-5)


@pytest.mark.parametrize("kind", ["onnx", "openvino"])
def test_two_callers_at_once(written, kind):
    folder, wanted, _ = written
    runtime = open_graph(kind, folder / FILES[kind], "fp32")
    assert runtime.callers == 2
    with ThreadPoolExecutor(2) as pool:
        for answer in pool.map(runtime.answer, [IMAGES] * 6):
            np.testing.assert_allclose(answer.logits, wanted[0], atol=1e-5)


def test_onnx_by_its_own_checker(written):
    import onnx

    model = onnx.load(written[0] / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert [value.name for value in (*model.graph.input, *model.graph.output)] == ["images", "logits", "features"]
    assert json.loads({entry.key: entry.value for entry in model.metadata_props}["rsft"]) == ABOUT


def test_openvino_knows_its_input_and_its_bundle(written):
    import openvino

    model = openvino.Core().read_model(written[0] / "model.xml")
    assert str(model.input("images").partial_shape) == "[?,3,16,16]" and model.output("features")
    assert json.loads(model.get_rt_info("rsft").astype(str)) == ABOUT


def test_openvino_in_bf16_is_half_as_large_and_near(written, tmp_path):
    folder, wanted, program = written
    write_graph("openvino", program, BUNDLE, ABOUT | {"precision": "bf16"}, tmp_path)
    away = (open_graph("openvino", tmp_path / "model.xml", "bf16").answer(IMAGES).logits - wanted[0]).abs().max()
    assert 0 < away < 0.1
    sizes = [(place / "model.bin").stat().st_size for place in (tmp_path, folder)]
    assert 0.4 < sizes[0] / sizes[1] < 0.7


def test_torch_export_carries_the_description(written):
    files = {"rsft.json": ""}
    torch.export.load(written[0] / "model.pt2", extra_files=files)
    assert json.loads(files["rsft.json"]) == ABOUT


def test_an_extra_that_is_missing(monkeypatch):
    def missing(name):
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(optional_dependencies.importlib, "import_module", missing)
    with pytest.raises(RequestError, match=r"pip install 'rsft\[openvino\]'"):
        optional_dependencies.need("openvino")
    with pytest.raises(RequestError, match=r"pip install 'rsft\[onnx\]'"):
        optional_dependencies.need("onnxruntime.quantization")
