"""Graphs of ONNX: a valid file, int8, and the properties of pixels."""

import json

import onnx
import pytest

from rsft.inference.engines import onnx as onnx_engine
from tests.helpers.tiny_bundles import GRAPH_METADATA

pytestmark = pytest.mark.slow


def test_onnx_checker_accepts_the_file(tiny_graph):
    model = onnx.load(tiny_graph("onnx") / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert [value.name for value in (*model.graph.input, *model.graph.output)] == [
        "images",
        "logits",
        "features",
    ]
    assert (
        json.loads({entry.key: entry.value for entry in model.metadata_props}["rsft"])
        == GRAPH_METADATA
    )


def test_only_whole_pipelines_describe_their_pixels():
    assert onnx_engine.describe_pixels({"classes": ["a"]}) == {}
    whole = {"unit": "db", "bands": ["VV", "VH"]}
    assert onnx_engine.describe_pixels({"whole": whole}) == {
        "unit": "db",
        "bands": "VV, VH",
    }
