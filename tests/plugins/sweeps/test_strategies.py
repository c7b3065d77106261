"""Which trial comes next, also after a kill."""

import json

import pytest

from rsft.plugins.sweeps.strategies import TpeSearch, list_proposals, list_strategy
from rsft.plugins.sweeps.trial_list import list_trials, make_trial
from rsft.recipe.load import dump_recipe
from rsft.study.outcomes import TrialOutcome

GRID = "recipe: RECIPE\noverrides: {meta: null}\ngrid: {peft.rank: [1, 2]}\n"
TPE = """\
recipe: RECIPE
overrides: {meta: null, train.epochs: 2}
method: tpe
trials: 4
search: {train.lr: {log: [0.001, 1]}, peft.rank: {choice: [2, 4]}, peft.positions: {choice: [q, 1, "12"]}}
"""


def start(trial, folder):
    """Write what a started trial leaves behind."""
    path = folder / "trials" / trial.id
    path.mkdir(parents=True)
    (path / "recipe.yaml").write_text(dump_recipe(trial.recipe))
    return path


def end(trial, folder, value, status="done"):
    metrics = {} if value is None else {"val_macro": value}
    TrialOutcome(trial.keys, status, "", metrics).save(start(trial, folder))


def propose(sweep, folder, count, ended=()):
    """Return the keys of trials that start one after the other."""
    search = TpeSearch(sweep, folder, ended)
    keys = []
    for _ in range(count):
        trial = search()
        if trial is not None:
            start(trial, folder)
            keys.append(trial.keys)
    return keys


def test_listed_trials_keep_their_order(read_text):
    trials = list_trials(*read_text(GRID))
    strategy = list_strategy(trials)
    assert [strategy() for _ in range(3)] == [*trials, None]


def test_the_same_seed_proposes_the_same_trials(read_text, tmp_path):
    pytest.importorskip("optuna")
    sweep, document = read_text(TPE)
    assert list_trials(sweep, document) == []
    keys = propose(sweep, tmp_path / "a", 5)
    assert keys == propose(sweep, tmp_path / "b", 5)
    assert len(keys) == len({json.dumps(point) for point in keys}) == 4
    for point in keys:
        assert 0.001 <= point["train.lr"] <= 1 and point["peft.rank"] in (2, 4)
        assert float(f"{point['train.lr']:.4g}") == point["train.lr"]
        assert point["peft.positions"] in ("q", 1, "12")
    other, _ = read_text(f"{TPE}seed: 9\n")
    assert propose(other, tmp_path / "c", 5) != keys


def test_integers_are_proposed_with_both_limits(read_text, tmp_path):
    pytest.importorskip("optuna")
    text = "recipe: RECIPE\ntrials: 9\nmethod: tpe\nsearch: {peft.rank: {integer: [1, 3]}}\n"
    sweep, _ = read_text(text)
    keys = propose(sweep, tmp_path, 9)
    assert sorted(point["peft.rank"] for point in keys) == [1, 2, 3]  # none twice


def test_the_estimator_knows_the_finished_trials(read_text, tmp_path):
    pytest.importorskip("optuna")
    sweep, _ = read_text(TPE.replace("trials: 4", "trials: 20"))
    rest = {"peft.rank": 2, "peft.positions": "12"}
    for number in range(15):
        lr = round(0.001 * 1.5**number, 6)
        trial = make_trial(sweep, {"train.lr": lr, **rest})
        end(trial, tmp_path, 1 - abs(lr - 0.25))
    end(make_trial(sweep, {"train.lr": 0.9, **rest}), tmp_path, None, "failed")
    ended = [trial.id for trial in list_proposals(sweep, tmp_path / "trials")]
    assert len(ended) == 16
    keys = propose(sweep, tmp_path, 4, ended)
    assert len(keys) == 4 and min(point["train.lr"] for point in keys) > 0.01


def test_a_killed_search_goes_on_with_its_proposals(read_text, tmp_path):
    pytest.importorskip("optuna")
    sweep, _ = read_text(TPE)
    keys = propose(sweep, tmp_path, 2)
    first = make_trial(sweep, keys[0])
    search = TpeSearch(sweep, tmp_path, [first.id])
    assert search().keys == keys[1]
    assert search().keys not in keys


def test_proposals_belong_to_the_present_search(read_text, tmp_path):
    sweep, _ = read_text(TPE)
    for lr, rank in ((0.002, 2), (0.1, 4), (0.5, 2)):
        keys = {"train.lr": lr, "peft.rank": rank, "peft.positions": 1}
        start(make_trial(sweep, keys), tmp_path)

    def count(text):
        return len(list_proposals(read_text(text)[0], tmp_path / "trials"))

    proposals = list_proposals(sweep, tmp_path / "trials")
    assert [trial.keys["peft.positions"] for trial in proposals] == [1, 1, 1]
    assert count(TPE.replace("[0.001, 1]", "[0.01, 1]")) == 2
    assert count(TPE.replace("[2, 4]", "[4, 8]")) == 1
    assert count(TPE.replace("train.epochs: 2", "train.epochs: 9")) == 0
    (tmp_path / "trials" / proposals[0].id / "recipe.yaml").write_text("{")
    assert count(TPE) == 2
