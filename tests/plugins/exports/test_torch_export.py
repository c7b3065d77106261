"""Graphs of torch.export."""

import json

import pytest
import torch

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
    find_format("torch-export").write_graph(program, folder, METADATA)
    return folder, network(IMAGES), program


def test_torch_export_holds_the_metadata(written):
    files = {"rsft.json": ""}
    torch.export.load(written[0] / "model.pt2", extra_files=files)
    assert json.loads(files["rsft.json"]) == METADATA
