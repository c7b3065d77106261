"""A run with a network of two blocks, exported in a third of the time;
layers are read in this process."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from tests.helpers.bars_recipe import BARS_RECIPE
from tests.helpers.vector_layers import CellHere


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
def exported(run: Path, tmp_path_factory) -> Callable[[str], Path]:
    """Return a function that returns the folder of the bundle of `run` in a format,
    which is written at the first call."""
    from rsft.inference.export.export import export_bundle

    folder = tmp_path_factory.mktemp("exports")
    return cache(lambda name: export_bundle(run, name, "fp32", folder / name).folder)
