"""Sweep files: their trials, their faults, and the ids of trials, which later versions
keep."""

import re

import pytest
from pydantic import Field

from rsft.data.chips.store_notes import note_store
from rsft.errors import RecipeError, RequestError
from rsft.recipe.library import find_recipe, list_entries
from rsft.recipe.load import dump_recipe, load_recipe
from rsft.recipe.schema import Recipe, TrainSection
from rsft.study.sweep_file import find_stores, read_sweep
from rsft.study.trials import Trial, changed_values, list_trials, make_trial
from tests.helpers.messages import mentions

SWEEP = """\
recipe: RECIPE
overrides: {meta: null, train.epochs: 1}
grid:
  peft.positions: [q, 1]
  peft.scale: [0.5, 1/r]
seeds: [0, 1]
"""


@pytest.fixture
def sweep_file(tmp_path, recipe_file):
    def write(text):
        path = tmp_path / "some.yaml"
        path.write_text(text.replace("RECIPE", str(recipe_file)))
        return path

    return write


def faults(path, *overrides):
    with pytest.raises(RecipeError) as caught:
        list_trials(*read_sweep(path, overrides))
    return [
        (fault.line, fault.key, fault.value, fault.allowed)
        for fault in caught.value.faults
    ]


def test_every_combination_is_a_recipe(sweep_file):
    sweep, document = read_sweep(sweep_file(SWEEP), ["train.lr=0.5"])
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


def test_cases_are_crossed_with_the_grid(sweep_file):
    text = (
        "recipe: RECIPE\ncases:\n- {meta.sampling: random, meta.ratio: 0.2}\n-"
        " {meta.sampling: tail-heavy}\n"
    )
    trials = list_trials(*read_sweep(sweep_file(text + "grid: {peft.rank: [2, 4]}")))
    expected = [
        ("random", 0.2, 2),
        ("random", 0.2, 4),
        ("tail-heavy", 2),
        ("tail-heavy", 4),
    ]
    assert [tuple(t.keys.values()) for t in trials] == expected


def test_several_recipes(sweep_file, recipe_file):
    other = recipe_file.with_name("other.yaml")
    other.write_text(recipe_file.read_text().replace("lr: 0.02", "lr: 0.03"))
    trials = list_trials(
        *read_sweep(sweep_file(f"recipe: [RECIPE, {other}]\ngrid: {{peft.rank: [2]}}"))
    )
    assert [(t.recipe.name, t.recipe.train.lr) for t in trials] == [
        ("bars", 0.02),
        ("other", 0.03),
    ]


def test_stores_that_are_elsewhere(
    sweep_file, recipe_file, root, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    first = tmp_path / "first.yaml"
    second = tmp_path / "second.yaml"
    first.write_text(recipe_file.read_text().replace(str(root), "data/bars"))
    second.write_text(recipe_file.read_text().replace(str(root), "data/ships"))
    path = sweep_file(f"recipe: [{first}, {second}, RECIPE]\ngrid: {{peft.rank: [2]}}")
    sweep, _ = read_sweep(path)
    with pytest.raises(RequestError, match=mentions("data/bars", "does not exist")):
        find_stores(sweep)
    note_store(root, "ships")  # the name of the data set; that of the folder is bars
    sweep, sentences = find_stores(sweep)
    trials = [make_trial(sweep, {"recipe": name}) for name in sweep.recipes]
    assert [trial.recipe.data.root for trial in trials] == [str(root)] * 3
    assert [text.partition(" is ")[0] for text in sentences] == [
        "data/bars",
        "data/ships",
    ]
    named, _ = read_sweep(path, ["data.root=data/bars"])
    assert find_stores(named) == (named, [])


def test_a_sweep_names_the_stores_of_its_recipes(sweep_file, recipe_file):
    text = (
        f"recipe: RECIPE\ngrid: {{peft.rank: [2]}}\nroots: {{{recipe_file}: data/mine,"
        " other: data/more}"
    )
    with pytest.raises(RecipeError) as caught:
        read_sweep(sweep_file(text))
    assert [(fault.key, fault.value) for fault in caught.value.faults] == [
        ("roots.other", "data/more")
    ]
    trials = list_trials(
        *read_sweep(sweep_file(text.replace(", other: data/more", "")))
    )
    assert [trial.recipe.data.root for trial in trials] == ["data/mine"]


def test_more_trials_keep_the_first_draws(sweep_file):
    text = (
        "recipe: RECIPE\nsearch: {train.lr: {log: [0.001, 1]}, peft.rank: {integer: [1,"
        " 8]}}\ntrials: 20"
    )
    trials = list_trials(*read_sweep(sweep_file(text)))
    fewer = list_trials(*read_sweep(sweep_file(text.replace("20", "6"))))
    assert [t.keys for t in fewer] == [t.keys for t in trials[:6]]
    rates = {t.keys["train.lr"] for t in trials}
    ranks = {t.keys["peft.rank"] for t in trials}
    assert (
        min(rates) < 0.01
        and max(rates) > 0.1
        and ranks <= set(range(1, 9))
        and len(ranks) > 4
    )


def test_all_faults_are_reported_with_their_lines(sweep_file):
    text = (
        SWEEP.replace("1/r", "-1")
        .replace("[q, 1]", "[q, z]")
        .replace("train.epochs: 1", "train.epoch: 1")
    )
    reported = faults(sweep_file(text), "train.lr=fast")
    assert [fault[:3] for fault in reported] == [
        (0, "train.lr", "fast"), (2, "train.epoch", "1"), (4, "peft.positions", "z"), (5, "peft.scale", "-1"),
    ]  # fmt: skip
    assert (
        reported[0][3] == "a number > 0"
        and "train.epochs" in reported[1][3]
        and "letters" in reported[2][3]
    )


def test_faults_of_the_sweep_itself(sweep_file):
    text = (
        "recipe: RECIPE\ntrails: 3\nmetric: best\nsearch:\n  peft.rank: {integer: [4,"
        " 2]}\n  train.lr: {log: [0, 1]}"
    )
    reported = faults(sweep_file(text))
    located = [
        (2, "trails"),
        (3, "metric"),
        (5, "search.peft.rank"),
        (6, "search.train.lr"),
    ]
    assert [(line, key) for line, key, *_ in reported] == located
    assert (
        reported[0][3].startswith("no such key; a sweep has recipe, ")
        and "val_macro" in reported[1][3]
    )


GRID = "grid: {peft.rank: [1]}\n"
SEARCH = "search: {peft.rank: {choice: [1, 2]}}\n"


@pytest.mark.parametrize(
    ("text", "key", "allowed"),
    [
        ("", "grid", "something that varies"),
        (GRID + "trials: 3", "trials", "nothing: without a search"),
        (SEARCH, "trials", "a whole number"),
        (GRID + "x: peft.scale", "x", "peft.rank"),
        (GRID + "overrides: {peft.rank: 3}", "overrides.peft.rank", "not vary"),
        (
            GRID + "cases: [{peft.rank: 3}]",
            "grid.peft.rank",
            "each key in one section only",
        ),
        (
            SEARCH + "method: tpe\ntrials: 3\nseeds: [0]",
            "method",
            "random, because the sweep has a grid",
        ),
        (GRID + "scheduler: asha\nmetric: tail", "scheduler", "at the end of a run"),
        (GRID + "scheduler: median", "scheduler", "asha"),
        ("grid: {peft.rank: [0]}", "peft.rank", "a whole number >= 1"),
        (
            "search: {train.lr: {uniform: [-1, 1]}}\ntrials: 2",
            "train.lr",
            "a number > 0",
        ),
        ("grid: [", "syntax", "valid YAML"),
    ],
)
def test_contradicting_keys(sweep_file, text, key, allowed):
    (fault,) = faults(sweep_file(f"recipe: RECIPE\n{text}"))
    assert fault[1] == key and allowed in fault[3]


def test_too_many_trials(sweep_file):
    numbers = list(range(200))
    (reported,) = faults(
        sweep_file(
            f"recipe: RECIPE\ngrid: {{seed: {numbers}, train.batch_size: {numbers}}}"
        )
    )
    assert "10,000" in reported[2]


def test_recipe_in_place_of_a_sweep(recipe_file):
    with pytest.raises(RequestError, match=mentions("recipe, not a sweep")) as caught:
        read_sweep(recipe_file)
    assert f"rsft finetune {recipe_file}" in caught.value.hint


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
