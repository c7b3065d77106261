import re

import pytest

from rsft.recipe.library import find_recipe, list_entries
from rsft.sweep.schema import read_sweep
from rsft.sweep.trials import list_trials


@pytest.mark.parametrize("name", [entry.name for entry in list_entries("sweep")])
def test_every_trial_of_a_shipped_sweep_is_a_recipe(name):
    sweep, document = read_sweep(find_recipe(name, "sweep"))
    (entry,) = (entry for entry in list_entries("sweep") if entry.name == name)
    assert len(list_trials(sweep, document)) == int(re.search(r"(\d+) runs", entry.about).group(1))
    assert entry.title and entry.command == f"rsft sweep recipes/sweeps/{name}.yaml"
