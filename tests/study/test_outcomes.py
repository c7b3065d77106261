"""Outcomes of trials in their folders, and the epochs of their runs."""

from types import SimpleNamespace

import pytest

from rsft.study import outcomes
from rsft.study.outcomes import (
    TrialOutcome,
    describe_keys,
    format_measure,
    read_outcome,
)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"status": "done"}', '{"keys": {}, "status": "done", "new": 1}'],
)
def test_damaged_outcome_is_none(tmp_path, text):
    (tmp_path / "trial.json").write_text(text)
    assert read_outcome(tmp_path) is None


def test_measures_as_text():
    assert format_measure("val_macro", 0.755) == "75.5"
    assert format_measure("val_loss", 0.5) == "0.500"
    assert format_measure("train.lr", 0.001) == format_measure("seconds", 0.001)
    assert format_measure("peft.rank", 4) == "4"
    assert describe_keys({"a": 1, "b": "x"}) == "a 1  b x"
    peft = {"method": "hf", "config": {"r": 2}}
    assert describe_keys({"peft": peft}) == "peft {method: hf, config: {r: 2}}"


def test_outcomes_of_other_data_are_left_out(tmp_path, monkeypatch):
    trials = []
    for id, data, root in (
        ("a", "1", "x"),
        ("b", "2", "x"),
        ("c", "", "x"),
        ("d", "2", "absent"),
        ("e", None, "x"),
    ):
        section = SimpleNamespace(root=root, unlabeled=None)
        trials.append(SimpleNamespace(id=id, recipe=SimpleNamespace(data=section)))
        (tmp_path / "trials" / id).mkdir(parents=True)
        if data is not None:
            outcome = TrialOutcome({}, "done", "", {}, 1.0, "", data)
            outcome.save(tmp_path / "trials" / id)
    present = {"x": "1", "absent": ""}
    monkeypatch.setattr(outcomes, "hash_data", lambda data: present[data.root])
    assert list(outcomes.read_outcomes(tmp_path, trials)) == ["a", "c", "d"]
