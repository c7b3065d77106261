"""Sweep files: their trials, their faults, and the ids of trials, which later versions
keep."""

import pytest

from rsft.data.chips.store_notes import note_store
from rsft.errors import RecipeError, RequestError
from rsft.plugins.sweeps.sweep_file import find_stores, read_sweep
from rsft.plugins.sweeps.trial_list import list_trials, make_trial
from tests.helpers.messages import mentions
from tests.plugins.sweeps.example import SWEEP_FILE


def faults(path, *overrides):
    with pytest.raises(RecipeError) as caught:
        list_trials(*read_sweep(path, overrides))
    return [
        (fault.line, fault.key, fault.value, fault.allowed)
        for fault in caught.value.faults
    ]


def test_stores_that_are_elsewhere(
    write_sweep, recipe_file, root, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    first = tmp_path / "first.yaml"
    second = tmp_path / "second.yaml"
    first.write_text(recipe_file.read_text().replace(str(root), "data/bars"))
    second.write_text(recipe_file.read_text().replace(str(root), "data/ships"))
    path = write_sweep(f"recipe: [{first}, {second}, RECIPE]\ngrid: {{peft.rank: [2]}}")
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


def test_a_sweep_names_the_stores_of_its_recipes(write_sweep, recipe_file):
    text = (
        f"recipe: RECIPE\ngrid: {{peft.rank: [2]}}\nroots: {{{recipe_file}: data/mine,"
        " other: data/more}"
    )
    with pytest.raises(RecipeError) as caught:
        read_sweep(write_sweep(text))
    assert [(fault.key, fault.value) for fault in caught.value.faults] == [
        ("roots.other", "data/more")
    ]
    trials = list_trials(
        *read_sweep(write_sweep(text.replace(", other: data/more", "")))
    )
    assert [trial.recipe.data.root for trial in trials] == ["data/mine"]


def test_all_faults_are_reported_with_their_lines(write_sweep):
    text = (
        SWEEP_FILE.replace("1/r", "-1")
        .replace("[q, 1]", "[q, z]")
        .replace("train.epochs: 1", "train.epoch: 1")
    )
    reported = faults(write_sweep(text), "train.lr=fast")
    assert [fault[:3] for fault in reported] == [
        (0, "train.lr", "fast"), (2, "train.epoch", "1"), (4, "peft.positions", "z"), (5, "peft.scale", "-1"),
    ]  # fmt: skip
    assert (
        reported[0][3] == "a number > 0"
        and "train.epochs" in reported[1][3]
        and "letters" in reported[2][3]
    )


def test_faults_of_the_sweep_itself(write_sweep):
    text = (
        "recipe: RECIPE\ntrails: 3\nmetric: best\nsearch:\n  peft.rank: {integer: [4,"
        " 2]}\n  train.lr: {log: [0, 1]}"
    )
    reported = faults(write_sweep(text))
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
        ("grid: [", "syntax", "YAML"),
    ],
)
def test_contradicting_keys(write_sweep, text, key, allowed):
    (fault,) = faults(write_sweep(f"recipe: RECIPE\n{text}"))
    assert fault[1] == key and allowed in fault[3]


def test_recipe_in_place_of_a_sweep(recipe_file):
    with pytest.raises(RequestError, match=mentions("recipe, not a sweep")) as caught:
        read_sweep(recipe_file)
    assert f"rsft finetune {recipe_file}" in caught.value.hint
