"""What a table takes from its runs."""

import json
from types import SimpleNamespace

import pytest

from rsft.plugins.sweeps.paper import runs as runs_module
from rsft.plugins.sweeps.paper.cells import Cell, TableSettings, read_tables
from rsft.plugins.sweeps.paper.runs import TableRuns
from rsft.study.outcomes import TrialOutcome


def trial(id, seed):
    return SimpleNamespace(id=id, recipe=SimpleNamespace(seed=seed))


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """Two cells: one of two seeds, and one of three that shares the first of them; one
    recipe is unknown."""
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
    trials = {
        "LoRA": [trial("a", 0), trial("b", 1)],
        "LoTR": [trial("a", 0), trial("c", 1), trial("d", 2)],
        "Other": [],
    }
    cells = [Cell(row, "SAR", f"sar_{row}", {}) for row in trials]
    monkeypatch.setattr(runs_module, "table_cells", lambda table, sets: cells)
    monkeypatch.setattr(
        runs_module, "cell_trials", lambda cell, settings: trials[cell.row]
    )
    monkeypatch.setattr(runs_module, "read_outcomes", lambda results, trials: {})
    runs = TableRuns(read_tables()["4"], TableSettings(), tmp_path)
    runs.outcomes = {
        "a": TrialOutcome({}, "done", "", {}, 1.0),
        "b": TrialOutcome({}, "done", "", {}, 1.0),
        "c": TrialOutcome({}, "failed", "no memory", {}, 1.0),
    }
    return runs


def test_trials_are_named_and_failures_are_told(runs):
    assert runs.names == {
        "a": "LoTR, SAR, seed 0",
        "b": "LoRA, SAR, seed 1",
        "c": "LoTR, SAR, seed 1",
        "d": "LoTR, SAR, seed 2",
    }
    assert len(runs.trials) == 4
    assert runs.failures() == ["LoTR, SAR, seed 1: no memory"]
    assert runs.unknown_recipes == ["sar_Other"]


def test_only_finished_runs_have_values(runs):
    (value,) = runs.values("LoTR", ("SAR", "avg"))
    assert value == pytest.approx((50, 40, 65))
    assert len(runs.values("LoRA", ("SAR", "avg"))) == 2
    assert runs.values("LoTR", ("SAR", "tail")) == []  # without test chips
    assert runs.values("LoTR", ("SAR", "parameters"), authors=True) == []
