"""A run with a network of two blocks, exported in a third of the time;
layers are read in this process."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from tests.helpers.bars_recipe import BARS_RECIPE
from tests.helpers.vector_layers import CellHere

GRAPH_METADATA = {"classes": ["a", "b", "ç"], "precision": "fp32"}
"""Metadata of the files of `tiny_graph`."""


@pytest.fixture(scope="session", autouse=True)
def _exports_read_operators_once(onnx_operators: None) -> None:
    """Nearly all exports of the tests are in this folder."""


@pytest.fixture(autouse=True)
def _layers_are_read_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read vector layers without the process that limits damage."""
    monkeypatch.setattr("rsft.data.imagery.vectors.ReaderCell", CellHere)


@pytest.fixture(scope="session")
def run(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a finished run of `BARS_RECIPE` on `root`, with the first two blocks of
    the backbone."""
    from rsft.recipe.load import load_recipe
    from rsft.training.finetune import finetune

    folder = tmp_path_factory.mktemp("finished")
    (folder / "bars.yaml").write_text(BARS_RECIPE.replace("ROOT", str(root)))
    return finetune(
        load_recipe(folder / "bars.yaml", ["backbone.blocks=2"]), folder / "runs"
    ).folder


@pytest.fixture(scope="session")
def tiny_program():
    """Return the traced program of a tiny classifier, and its outputs for `IMAGES`."""
    from rsft.inference.engines.traceable import TraceableNetwork, trace_network
    from tests.helpers.tiny_bundles import CONTRACT, IMAGES, tiny_classifier

    network = TraceableNetwork([tiny_classifier(1)])
    return trace_network(network, CONTRACT), network(IMAGES)


@pytest.fixture(scope="session")
def tiny_graph(tiny_program, tmp_path_factory) -> Callable[[str], Path]:
    """Return a function that returns the folder with the graph of `tiny_program` in a
    format, which is written at the first call."""
    from rsft.inference.engines.base import find_format

    @cache
    def write(name: str) -> Path:
        folder = tmp_path_factory.mktemp("graph")
        find_format(name).write_graph(tiny_program[0], folder, GRAPH_METADATA)
        return folder

    return write


@pytest.fixture(scope="session")
def exported(run: Path, tmp_path_factory) -> Callable[[str], Path]:
    """Return a function that returns the folder of the bundle of `run` in a format,
    which is written at the first call."""
    from rsft.inference.export.export import export_bundle

    folder = tmp_path_factory.mktemp("exports")
    return cache(lambda name: export_bundle(run, name, "fp32", folder / name).folder)
