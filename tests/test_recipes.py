"""Run the commands in the header of every shipped recipe, with small data and a small
network of the same kind."""

import json
import shlex
import sys
from pathlib import Path

import pandas as pd
import pytest

from rsft.backbones import loading, registered
from rsft.cli import main
from rsft.recipe.library import library_folder, list_entries
from rsft.recipe.load import load_recipe
from tests.helpers import recipe_sources, tiny_backbones

pytestmark = pytest.mark.slow  # `make test` runs all cases that are not exhaustive
SMALL_RUN = (
    "data.workers=0",
    "train.epochs=3",
    "train.batch_size=8",
    "train.ensemble_size=1",
)


def recipe_cases():
    """Iterate over the recipes; `exhaustive` are those whose method, data set and
    backbone an earlier one has, too."""
    covered: set[tuple[object, object]] = set()
    for entry in list_entries("recipe", "paper"):
        recipe = load_recipe(entry.path)
        features = {
            (recipe.peft.method, recipe.meta is None),
            (recipe.data.root, recipe.backbone.name),
        }
        marks = [pytest.mark.exhaustive] if features <= covered else []
        covered |= features
        yield pytest.param(entry, id=entry.name, marks=marks)


@pytest.fixture(scope="session")
def workspace(tmp_path_factory):
    """A folder with the files that the headers name (archives in capitals, `recipes/`)
    and a folder of weights."""
    workspace = tmp_path_factory.mktemp("workspace")
    recipe_sources.write_all(workspace)
    (workspace / "recipes").symlink_to(library_folder())
    (workspace / "weights").mkdir()
    for card in tiny_backbones.CARDS:
        tiny_backbones.write(card, workspace / "weights")
    return workspace


@pytest.fixture
def run_command(workspace, monkeypatch, capsys):
    """Run a command line in that folder and return what it prints."""
    monkeypatch.chdir(workspace)
    monkeypatch.setenv("RSFT_WEIGHTS", str(workspace / "weights"))
    for card in tiny_backbones.CARDS:
        monkeypatch.setitem(registered.CARDS, card.name, card)
    recipe_sources.make_small(monkeypatch)

    def run(command, *arguments):
        monkeypatch.setattr(sys, "argv", [*shlex.split(command), *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        printed = capsys.readouterr()
        assert not stop.value.code, printed.out + printed.err
        return printed.out

    return run


@pytest.mark.parametrize("entry", list(recipe_cases()))
def test_shipped_recipe_runs(entry, run_command, tmp_path):
    recipe = load_recipe(entry.path)
    for command in entry.command.splitlines():
        if command.startswith("rsft prepare") and not Path(recipe.data.root).exists():
            run_command(
                command, *recipe_sources.EXTRA_OPTIONS.get(command.split()[2], ())
            )
        elif command.startswith("rsft weights"):
            assert "recorded" in run_command(command)
    size = (
        32
        if recipe.backbone.name.startswith("aconvnet")
        else max(8, 2 * loading.find_card(recipe.backbone.name).patch)
    )
    *_, finetune = entry.command.splitlines()
    options = [*SMALL_RUN, f"data.size={size}"]
    options += ["meta.outer_every=2"] if recipe.meta else []  # an epoch has few steps
    folder = Path(
        run_command(
            finetune, *options, "--runs", tmp_path, "--no-report", "--quiet"
        ).strip()
    )

    metadata = json.loads((folder / "run.json").read_text())
    assert metadata["status"] == "done" and metadata["trained_parameters"] > 0
    assert (metadata["modulator_parameters"] > 0) == (recipe.meta is not None)
    table = pd.read_csv(folder / "metrics.csv")
    assert table["train_loss"].notna().all()
    assert table["meta_loss"].notna().any() == (recipe.meta is not None)
    (accuracies,) = json.loads((folder / "evaluation/metrics.json").read_text())[
        "methods"
    ].values()
    assert (
        0 <= accuracies["macro"]["value"] <= 1
        and (folder / "bundle/weights.safetensors").is_file()
    )
