"""What a table takes from its runs."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from rsft.plugins.sweeps.paper.runs import TableRuns
from rsft.study.outcomes import TrialOutcome


def trial(id, seed):
    return SimpleNamespace(id=id, recipe=SimpleNamespace(seed=seed))


def cell(row):
    return SimpleNamespace(row=row, set="SAR")


@pytest.fixture
def runs(tmp_path):
    """Two cells: one of two seeds, and one of three that shares the first of them."""
    folder = tmp_path / "run"
    (folder / "evaluation").mkdir(parents=True)
    avg = {"value": 0.5, "low": 0.4, "high": 0.65}
    methods = {"methods": {"LoRA": {"avg": avg, "tail": None}}}
    (folder / "evaluation/metrics.json").write_text(json.dumps(methods))
    runs = object.__new__(TableRuns)  # without recipes
    runs.table = SimpleNamespace(only_counts_parameters=False)
    runs.cells = [
        (cell("LoRA"), [trial("a", 0), trial("b", 1)]),
        (cell("LoTR"), [trial("a", 0), trial("c", 1), trial("d", 2)]),
    ]
    runs.outcomes = {
        "a": TrialOutcome({}, "done", "", {"avg": 0.5}, 1.0, str(folder)),
        "b": TrialOutcome({}, "done", "", {"avg": np.nan}, 1.0, str(folder)),
        "c": TrialOutcome({}, "failed", "no memory", {}, 1.0, ""),
    }
    return runs


def test_trials_are_counted_and_named_the_first_seeds_first(runs):
    assert (runs.planned_count, runs.finished_count) == (4, 2)
    assert {id: name for id, (name, _) in runs.named_trials().items()} == {
        "a": "LoTR, SAR, seed 0",
        "b": "LoRA, SAR, seed 1",
        "c": "LoTR, SAR, seed 1",
        "d": "LoTR, SAR, seed 2",
    }
    assert list(runs.named_trials()) == ["a", "b", "c", "d"]
    assert runs.failures() == ["LoTR, SAR: no memory"]
    runs.table.only_counts_parameters = True
    assert runs.planned_count == 0


def test_only_finished_runs_are_measured(runs):
    assert runs.measured_values("LoRA", "SAR", "avg") == [50.0]  # one is not a number
    assert runs.measured_values("LoTR", "SAR", "avg") == [50.0]
    assert runs.measured_values("LoTR", "SAR", "tail") == []
    assert runs.intervals("LoTR", "SAR", "tail") == []
    (interval,) = runs.intervals("LoTR", "SAR", "avg")
    assert interval == pytest.approx((50, 40, 65))
