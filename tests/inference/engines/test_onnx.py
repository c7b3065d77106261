"""Graphs of ONNX: a valid file, int8, and the properties of pixels."""

import json

import onnx
import pytest

from rsft.inference.engines import onnx as onnx_engine
from rsft.inference.engines.base import find_format
from rsft.inference.engines.traceable import TraceableNetwork, trace_network
from tests.helpers.tiny_bundles import CONTRACT, IMAGES, tiny_classifier

pytestmark = pytest.mark.slow

METADATA = {"classes": ["a", "b", "ç"], "precision": "fp32"}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A folder with a graph, the network's outputs, and the traced program."""
    folder = tmp_path_factory.mktemp("graphs")
    network = TraceableNetwork([tiny_classifier(1)])
    program = trace_network(network, CONTRACT)
    find_format("onnx").write_graph(program, folder, METADATA)
    return folder, network(IMAGES), program


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


def test_only_whole_pipelines_describe_their_pixels():
    assert onnx_engine.describe_pixels({"classes": ["a"]}) == {}
    whole = {"unit": "db", "bands": ["VV", "VH"]}
    assert onnx_engine.describe_pixels({"whole": whole}) == {
        "unit": "db",
        "bands": "VV, VH",
    }
