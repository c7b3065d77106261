"""What a table takes from its runs."""

import json
from types import SimpleNamespace

import pytest

from rsft.plugins.sweeps.paper import runs as runs_module
from rsft.plugins.sweeps.paper.runs import TableRuns
from rsft.study.outcomes import TrialOutcome


def trial(id, seed):
    return SimpleNamespace(id=id, recipe=SimpleNamespace(seed=seed))


def cell(row):
    return SimpleNamespace(row=row, set="SAR")


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """Two cells: one of two seeds, and one of three that shares the first of them."""
    avg = {"value": 0.5, "low": 0.4, "high": 0.65}
    methods = {"methods": {"LoRA": {"avg": avg, "tail": None}}}
    for id in "ab":
        folder = tmp_path / "trials" / id / "evaluation"
        folder.mkdir(parents=True)
        (folder / "metrics.json").write_text(json.dumps(methods))
    monkeypatch.setattr(
        runs_module, "find_runs", lambda folder: [SimpleNamespace(folder=folder)]
    )
    monkeypatch.setattr(runs_module, "authors_folder", lambda results, _: results)
    runs = object.__new__(TableRuns)  # without recipes
    runs.results = tmp_path
    runs.cells = [
        (cell("LoRA"), [trial("a", 0), trial("b", 1)]),
        (cell("LoTR"), [trial("a", 0), trial("c", 1), trial("d", 2)]),
    ]
    runs.outcomes = {
        "a": TrialOutcome({}, "done", "", {}, 1.0),
        "b": TrialOutcome({}, "done", "", {}, 1.0),
        "c": TrialOutcome({}, "failed", "no memory", {}, 1.0),
    }
    return runs


def test_trials_are_named_and_failures_are_told(runs):
    assert {id: name for id, (name, _) in runs.named_trials().items()} == {
        "a": "LoTR, SAR, seed 0",
        "b": "LoRA, SAR, seed 1",
        "c": "LoTR, SAR, seed 1",
        "d": "LoTR, SAR, seed 2",
    }
    assert len(runs.trials) == 5
    assert runs.failures() == ["LoTR, SAR: no memory"]


def test_only_finished_runs_have_values(runs):
    (value,) = runs.values("LoTR", ("SAR", "avg"))
    assert value == pytest.approx((50, 40, 65))
    assert len(runs.values("LoRA", ("SAR", "avg"))) == 2
    assert runs.values("LoTR", ("SAR", "tail")) == []  # without test chips
    assert runs.values("LoTR", ("SAR", "parameters"), authors=True) == []
