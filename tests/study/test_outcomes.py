"""Outcomes of trials in their folders, and the epochs of their runs."""

import pytest

from rsft.study.outcomes import (
    TrialOutcome,
    describe_keys,
    format_measure,
    read_outcome,
    read_outcomes,
    read_trial_epochs,
)
from rsft.study.trials import list_trials
from rsft.training.runs.reader import read_epochs


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"status": "done"}', '{"keys": {}, "status": "done", "new": 1}'],
)
def test_damaged_outcome_is_none(tmp_path, text):
    (tmp_path / "trial.json").write_text(text)
    assert read_outcome(tmp_path) is None


def test_outcomes_of_the_present_data(read_text, tmp_path):
    trials = list_trials(*read_text("recipe: RECIPE\ngrid: {peft.rank: [1, 2, 3]}\n"))
    for trial, data in zip(trials, ("", "of other data"), strict=False):
        folder = tmp_path / "trials" / trial.id
        folder.mkdir(parents=True)
        TrialOutcome(trial.keys, "done", data=data).save(folder)
    assert list(read_outcomes(tmp_path, trials)) == [trials[0].id]


def test_epochs_of_the_newest_run(tmp_path):
    assert read_trial_epochs(tmp_path) == []
    for number, table in (("001", "epoch,a\n0,1\n"), ("002", "epoch,a\n0,\n1,2\n")):
        run = tmp_path / "bars" / number
        run.mkdir(parents=True)
        (run / "metrics.csv").write_text(table)
    assert read_epochs(tmp_path / "bars/001") == [{"epoch": 0.0, "a": 1.0}]
    assert read_trial_epochs(tmp_path) == [{"epoch": 0.0}, {"epoch": 1.0, "a": 2.0}]


def test_measures_as_text():
    assert format_measure("val_macro", 0.755) == "75.5"
    assert format_measure("val_loss", 0.5) == "0.500"
    assert format_measure("train.lr", 0.001) == format_measure("seconds", 0.001)
    assert format_measure("peft.rank", 4) == "4"
    assert describe_keys({"a": 1, "b": "x"}) == "a 1  b x"
