"""Trials of sweep files, and their ids, which later versions keep."""

import re

import pytest

from rsft.errors import RecipeError
from rsft.plugins.sweeps.sweep_file import read_sweep
from rsft.plugins.sweeps.trial_list import list_trials
from rsft.recipe.library import find_recipe, list_entries
from rsft.study.outcomes import TrialOutcome, read_outcomes
from tests.plugins.sweeps.example import SWEEP_FILE


def test_every_combination_is_a_recipe(write_sweep):
    sweep, document = read_sweep(write_sweep(SWEEP_FILE), ["train.lr=0.5"])
    trials = list_trials(sweep, document)
    assert (
        sweep.keys == ["peft.positions", "peft.scale", "seed"]
        and len(trials) == len({t.id for t in trials}) == 8
    )
    last = trials[-1].recipe
    assert trials[-1].keys == {"peft.positions": 1, "peft.scale": "1/r", "seed": 1}
    assert (last.peft.positions, last.peft.scale, last.seed, last.meta) == (
        "1",
        "1/r",
        1,
        None,
    )
    assert last.train.lr == 0.5 and last.train.epochs == 1


def test_cases_are_crossed_with_the_grid(write_sweep):
    text = (
        "recipe: RECIPE\ncases:\n- {meta.sampling: random, meta.ratio: 0.2}\n-"
        " {meta.sampling: tail-heavy}\n"
    )
    trials = list_trials(*read_sweep(write_sweep(text + "grid: {peft.rank: [2, 4]}")))
    expected = [
        ("random", 0.2, 2),
        ("random", 0.2, 4),
        ("tail-heavy", 2),
        ("tail-heavy", 4),
    ]
    assert [tuple(t.keys.values()) for t in trials] == expected


def test_methods_and_tuners_are_values_of_a_key(write_sweep):
    text = (
        "recipe: RECIPE\ngrid:\n  peft:\n  - {method: lora, rank: 4}\n  - {method: hf,"
        " config: {peft_type: OFT, oft_block_size: 8}}\n"
    )
    methods = [t.recipe.peft for t in list_trials(*read_sweep(write_sweep(text)))]
    assert [method.method for method in methods] == ["lora", "hf"]
    assert methods[1].config == {"peft_type": "OFT", "oft_block_size": 8}


def test_several_recipes(write_sweep, recipe_file):
    other = recipe_file.with_name("other.yaml")
    other.write_text(recipe_file.read_text().replace("lr: 0.02", "lr: 0.03"))
    trials = list_trials(
        *read_sweep(write_sweep(f"recipe: [RECIPE, {other}]\ngrid: {{peft.rank: [2]}}"))
    )
    assert [(t.recipe.name, t.recipe.train.lr) for t in trials] == [
        ("bars", 0.02),
        ("other", 0.03),
    ]


def test_more_trials_keep_the_first_draws(write_sweep):
    text = (
        "recipe: RECIPE\nsearch: {train.lr: {log: [0.001, 1]}, peft.rank: {integer: [1,"
        " 8]}}\ntrials: 20"
    )
    trials = list_trials(*read_sweep(write_sweep(text)))
    fewer = list_trials(*read_sweep(write_sweep(text.replace("20", "6"))))
    assert [t.keys for t in fewer] == [t.keys for t in trials[:6]]
    rates = {t.keys["train.lr"] for t in trials}
    ranks = {t.keys["peft.rank"] for t in trials}
    assert (
        min(rates) < 0.01
        and max(rates) > 0.1
        and ranks <= set(range(1, 9))
        and len(ranks) > 4
    )


def test_too_many_trials(write_sweep):
    numbers = list(range(200))
    grid = f"grid: {{seed: {numbers}, train.batch_size: {numbers}}}"
    with pytest.raises(RecipeError) as caught:
        list_trials(*read_sweep(write_sweep(f"recipe: RECIPE\n{grid}")))
    (fault,) = caught.value.faults
    assert "10,000" in fault.value and fault.line == 2


@pytest.mark.parametrize("name", [entry.name for entry in list_entries("sweep")])
def test_every_trial_of_a_shipped_sweep_is_a_recipe(name):
    sweep, document = read_sweep(find_recipe(name, "sweep"))
    (entry,) = (entry for entry in list_entries("sweep") if entry.name == name)
    assert len(list_trials(sweep, document)) == int(
        re.search(r"(\d+) runs", entry.about).group(1)
    )
    assert entry.title and entry.command == f"rsft sweep recipes/sweeps/{name}.yaml"


def test_outcomes_of_the_present_data(read_text, tmp_path):
    trials = list_trials(*read_text("recipe: RECIPE\ngrid: {peft.rank: [1, 2, 3]}\n"))
    for trial, data in zip(trials, ("", "of other data"), strict=False):
        folder = tmp_path / "trials" / trial.id
        folder.mkdir(parents=True)
        TrialOutcome(trial.keys, "done", data=data).save(folder)
    assert list(read_outcomes(tmp_path, trials)) == [trials[0].id]
