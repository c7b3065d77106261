"""A run with a network of two blocks, exported in a third of the time;
layers are read in this process."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.bars_recipe import BARS_RECIPE
from tests.helpers.vector_layers import CellHere


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
