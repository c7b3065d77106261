"""Commands of `rsft sweep` as a user types them."""

import json
import os
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest

from rsft.sweep.outcome import TrialOutcome
from rsft.sweep.schema import read_sweep
from rsft.sweep.trials import list_trials

SWEEP = """\
recipe: RECIPE
overrides: {meta: null, train.epochs: 2}
grid:
  peft.rank: [1, 2]
  train.lr: [0.02, 1.0e+30]
measures: [val_macro, val_tail]
"""


@pytest.fixture
def sweep_file(tmp_path, recipe_file):
    path = tmp_path / "some.yaml"
    path.write_text(SWEEP.replace("RECIPE", str(recipe_file)))
    return path


def test_shipped_sweeps_are_listed(rsft):
    code, printed = rsft("sweep")
    assert code == 0 and "mstar_position_scale" in printed and "Figures 1d" in printed
    assert "position_scale" not in rsft("recipes", "ls")[1]


def test_unknown_name_has_a_suggestion(rsft):
    code, printed = rsft("sweep", "position_scal")
    assert code == 2 and "did you mean position_scale" in printed


def test_faults_are_reported_before_any_run(rsft, sweep_file):
    code, printed = rsft("sweep", sweep_file, "peft.rnak=3", "train.lr=1")
    assert code == 2 and "in the sweep" in printed and not (sweep_file.parent / "runs").exists()


def test_report_of_an_unfinished_sweep(rsft, sweep_file):
    sweep, document = read_sweep(sweep_file)
    first, second, *_ = list_trials(sweep, document)
    for trial, outcome in (
        (first, TrialOutcome(first.keys, "done", "", {"val_macro": 0.75, "val_tail": 0.5}, 2.0)),
        (second, TrialOutcome(second.keys, "failed", "the loss is nan")),
    ):
        folder = sweep_file.parent / "runs/sweeps/some/trials" / trial.id
        folder.mkdir(parents=True)
        outcome.save(folder)
    code, printed = rsft("sweep", sweep_file, "--report")
    assert code == 0 and "2 of 4 trials remain" in printed
    assert "failed  peft.rank 1  train.lr 1e+30  the loss is nan" in printed
    assert "best  peft.rank 1  train.lr 0.02  val_macro 75.0" in printed
    assert (sweep_file.parent / "runs/sweeps/some/some.png").stat().st_size > 1000


@pytest.mark.slow
def test_killed_and_resumed_on_ray(sweep_file, recipe_file):
    pytest.importorskip("ray")
    folder = sweep_file.parent / "runs/sweeps/some"
    command = [sys.executable, "-m", "rsft", "sweep", str(sweep_file), "--jobs", "1"]

    def outcome_times():
        return {path: path.stat().st_mtime_ns for path in folder.glob("trials/*/trial.json")}

    with subprocess.Popen(command, cwd=sweep_file.parent, stdout=subprocess.DEVNULL) as driver:
        while not outcome_times() and driver.poll() is None:
            time.sleep(0.05)
        os.kill(driver.pid, signal.SIGKILL)
    before = outcome_times()
    second = subprocess.run(command, cwd=sweep_file.parent, capture_output=True, text=True, check=True)
    after = outcome_times()
    assert 1 <= len(before) < 4 and len(after) == 4
    assert all(after[path] == time for path, time in before.items())
    table = pd.read_parquet(folder / "results.parquet").set_index(["peft.rank", "train.lr"])
    assert table["status"].to_dict() == {
        (1, 0.02): "done",
        (1, 1e30): "failed",
        (2, 0.02): "done",
        (2, 1e30): "failed",
    }
    assert table["reason"][(1, 1e30)].startswith("the loss of the inner loop is")
    assert "best  peft.rank" in second.stdout and second.stdout.count("4/4") == 1
    run = json.loads((folder / "trials" / table["id"].iloc[0] / "trial.json").read_text())
    assert run["metrics"]["val_macro"] == table["val_macro"].iloc[0] > 0.3
