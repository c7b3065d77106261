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
from rsft.recipe.library import Shipped, library_folder, list_recipes
from rsft.recipe.load import load_recipe
from tests.helpers import recipe_sources, tiny_backbones

TINY = ("data.workers=0", "train.epochs=3", "train.batch_size=4", "train.ensemble_size=1")


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the headers name: archives in capitals, `recipes/`; and the folder of weights."""
    place = tmp_path_factory.mktemp("place")
    recipe_sources.write_all(place)
    (place / "recipes").symlink_to(library_folder())
    (place / "weights").mkdir()
    for card in tiny_backbones.CARDS:
        tiny_backbones.write(card, place / "weights")
    return place


@pytest.fixture
def type_in(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run the command line in that place: what it printed."""
    monkeypatch.chdir(place)
    monkeypatch.setenv("RSFT_WEIGHTS", str(place / "weights"))
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
def test_a_shipped_recipe_runs(entry: Shipped, type_in: Callable[..., str], tmp_path: Path) -> None:
    recipe = load_recipe(entry.path)
    for command in entry.command.splitlines():
        if command.startswith("rsft prepare") and not Path(recipe.data.root).exists():
            type_in(command, *recipe_sources.MORE.get(command.split()[2], ()))
        elif command.startswith("rsft weights"):
            assert "first seen" in (told := type_in(command)) or "unchanged" in told
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
