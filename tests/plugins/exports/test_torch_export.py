"""Graphs of torch.export."""

import json

import pytest
import torch

from tests.helpers.tiny_bundles import GRAPH_METADATA

pytestmark = pytest.mark.slow


def test_torch_export_holds_the_metadata(tiny_graph):
    files = {"rsft.json": ""}
    torch.export.load(tiny_graph("torch-export") / "model.pt2", extra_files=files)
    assert json.loads(files["rsft.json"]) == GRAPH_METADATA
