"""Outcomes of trials in their folders, and the epochs of their runs."""

import pytest

from rsft.study.outcomes import (
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
