"""Trials of sweep files, and their ids, which later versions keep."""

import re

import pytest
from pydantic import Field

from rsft.errors import RecipeError
from rsft.recipe.library import find_recipe, list_entries
from rsft.recipe.load import dump_recipe, load_recipe
from rsft.recipe.schema import Recipe, TrainSection
from rsft.study.sweep_file import read_sweep
from rsft.study.trials import Trial, changed_values, list_trials

SWEEP = """\
recipe: RECIPE
overrides: {meta: null, train.epochs: 1}
grid:
  peft.positions: [q, 1]
  peft.scale: [0.5, 1/r]
seeds: [0, 1]
"""


def test_every_combination_is_a_recipe(write_sweep):
    sweep, document = read_sweep(write_sweep(SWEEP), ["train.lr=0.5"])
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


@pytest.fixture
def trial(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text("data: {root: x, size: 32}\ntrain: {epochs: 1}\n")
    return lambda *overrides: Trial({}, load_recipe(path, overrides))


def test_defaults_do_not_count(trial, tmp_path):
    assert changed_values(trial().recipe) == {
        "data": {"root": "x", "size": 32},
        "train": {"epochs": 1},
    }
    written = (
        "seed=0",
        "meta=null",
        "peft.method=lora",
        "loss.tau=1",
        "train.lr=0.01",
        "backbone.blocks=null",
    )
    assert trial(*written).id == trial("name=other", "track.to=[]").id == trial().id
    complete = tmp_path / "complete.yaml"
    complete.write_text(dump_recipe(trial("peft.rank=3").recipe))
    assert Trial({}, load_recipe(complete)).id == trial("peft.rank=3").id


@pytest.mark.parametrize(
    "override",
    [
        "seed=1",
        "meta={}",
        "peft.rank=3",
        "peft.method=bitfit",
        "loss.tau=2",
        "train.lr=1",
        "data.root=y",
        "meta.lr=1",
    ],
)
def test_every_other_value_counts(trial, override):
    assert (
        trial(override).id != trial().id
        and changed_values(trial("meta={}").recipe)["meta"] == {}
    )


def test_a_new_key_with_a_default_keeps_the_id(trial):
    class LaterTrain(TrainSection):
        patience_mode: str = Field(
            default="max", description="a key of a later version"
        )

    class LaterRecipe(Recipe):
        train: LaterTrain

    values = trial("peft.rank=3").recipe.model_dump()
    later = LaterRecipe.model_validate(values)
    assert (
        later.train.patience_mode == "max"
        and Trial({}, later).id == trial("peft.rank=3").id
    )
    values["train"]["patience_mode"] = "min"
    assert Trial({}, LaterRecipe.model_validate(values)).id != trial("peft.rank=3").id


@pytest.mark.parametrize("name", [entry.name for entry in list_entries("sweep")])
def test_every_trial_of_a_shipped_sweep_is_a_recipe(name):
    sweep, document = read_sweep(find_recipe(name, "sweep"))
    (entry,) = (entry for entry in list_entries("sweep") if entry.name == name)
    assert len(list_trials(sweep, document)) == int(
        re.search(r"(\d+) runs", entry.about).group(1)
    )
    assert entry.title and entry.command == f"rsft sweep recipes/sweeps/{name}.yaml"
