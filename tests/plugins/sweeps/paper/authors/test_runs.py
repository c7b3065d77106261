"""Runs of the authors' trainer: their folders, and whether they are finished."""

from pathlib import Path
from types import SimpleNamespace

from rsft.plugins.sweeps.paper.authors.runs import (
    DATA_FILE,
    authors_folder,
    is_finished,
)
from rsft.recipe.load import load_recipe
from rsft.training.runs.reader import hash_data


def test_every_trial_has_a_folder_of_its_own():
    trial = SimpleNamespace(id="SAR-lora-0")
    assert authors_folder(Path("runs"), trial) == Path("runs/authors/SAR-lora-0")


def test_a_run_is_finished_for_the_same_chips(recipe_file, tmp_path):
    recipe = load_recipe(recipe_file)
    assert not is_finished(tmp_path, recipe)
    (tmp_path / DATA_FILE).write_text(hash_data(recipe.data))
    assert is_finished(tmp_path, recipe)
    (tmp_path / DATA_FILE).write_text("0" * 64)
    assert not is_finished(tmp_path, recipe)
