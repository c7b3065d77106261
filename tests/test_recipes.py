"""Every shipped recipe is run as its header says, on tiny data of its kind and a tiny network of its family."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from rsft.backbones import registry
from rsft.cli import main
from rsft.recipe.library import LibraryEntry, library_folder, list_recipes
from rsft.recipe.load import load_recipe
from tests.helpers import recipe_sources, tiny_backbones

TINY = ("data.workers=0", "train.epochs=3", "train.batch_size=4", "train.ensemble_size=1")


@pytest.fixture(scope="session")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the headers name (archives in capitals, `recipes/`) and a folder of weights."""
    workspace = tmp_path_factory.mktemp("workspace")
    recipe_sources.write_all(workspace)
    (workspace / "recipes").symlink_to(library_folder())
    (workspace / "weights").mkdir()
    for card in tiny_backbones.CARDS:
        tiny_backbones.write(card, workspace / "weights")
    return workspace


@pytest.fixture
def type_in(workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a command line in that folder and return what it prints."""
    monkeypatch.chdir(workspace)
    monkeypatch.setenv("RSFT_WEIGHTS", str(workspace / "weights"))
    for card in tiny_backbones.CARDS:
        monkeypatch.setitem(registry._RSFT_CARDS, card.name, card)
    recipe_sources.make_small(monkeypatch)

    def run(command: str, *more: object) -> str:
        monkeypatch.setattr(sys, "argv", [*shlex.split(command), *map(str, more)])
        with pytest.raises(SystemExit) as stop:
            main()
        printed = capsys.readouterr()
        assert not stop.value.code, printed.out + printed.err
        return printed.out

    return run


@pytest.mark.slow
@pytest.mark.parametrize("entry", list_recipes(), ids=lambda entry: entry.name)
def test_a_shipped_recipe_runs(entry: LibraryEntry, type_in: Callable[..., str], tmp_path: Path) -> None:
    recipe = load_recipe(entry.path)
    for command in entry.command.splitlines():
        if command.startswith("rsft prepare") and not Path(recipe.data.root).exists():
            type_in(command, *recipe_sources.MORE.get(command.split()[2], ()))
        elif command.startswith("rsft weights"):
            assert "first seen" in (printed := type_in(command)) or "unchanged" in printed
    size = 2 * registry.find_card(recipe.backbone.name).patch
    *_, finetune = entry.command.splitlines()
    folder = Path(type_in(finetune, *TINY, f"data.size={size}", "--runs", tmp_path, "--no-report", "--quiet").strip())

    facts = json.loads((folder / "run.json").read_text())
    assert facts["status"] == "done" and facts["trained_parameters"] > 0
    assert (facts["modulator_parameters"] > 0) == (recipe.meta is not None)
    table = pd.read_csv(folder / "metrics.csv")
    assert table["train_loss"].notna().all()
    assert table["meta_loss"].notna().any() == (recipe.meta is not None)
    (measured,) = json.loads((folder / "evaluation/metrics.json").read_text())["methods"].values()
    assert 0 <= measured["macro"]["value"] <= 1 and (folder / "bundle/weights.safetensors").is_file()
