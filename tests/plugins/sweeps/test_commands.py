"""Commands of `rsft sweep` as a user types them."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from rsft.plugins.sweeps.sweep_file import read_sweep
from rsft.plugins.sweeps.trial_list import list_trials
from rsft.study.outcomes import TrialOutcome

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


def test_the_path_of_a_shipped_sweep_outside_of_a_clone(rsft, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, printed = rsft("sweep", "recipes/sweeps/table_3_blocks.yaml")
    assert (
        code == 2
        and "this is the sweep table_3_blocks" in printed
        and "rsft prepare dota DOTA" in printed
    )


def test_faults_are_reported_before_any_run(rsft, sweep_file):
    code, printed = rsft("sweep", sweep_file, "peft.rnak=3", "train.lr=1")
    assert (
        code == 2
        and "in the sweep" in printed
        and not (sweep_file.parent / "runs").exists()
    )


@pytest.mark.slow
def test_report_of_an_unfinished_sweep(rsft, sweep_file, monkeypatch):
    sweep, document = read_sweep(sweep_file)
    first, second, *_ = list_trials(sweep, document)
    for trial, outcome in (
        (
            first,
            TrialOutcome(
                first.keys, "done", "", {"val_macro": 0.75, "val_tail": 0.5}, 2.0
            ),
        ),
        (second, TrialOutcome(second.keys, "failed", "the loss is nan")),
    ):
        folder = sweep_file.parent / "runs/sweeps/some/trials" / trial.id
        folder.mkdir(parents=True)
        outcome.save(folder)
    monkeypatch.setattr("rsft.plugins.sweeps.sweep.run_sweep", lambda *_, **__: None)
    code, printed = rsft("sweep", sweep_file)
    assert code == 0 and "2 of 4 trials remain" in printed
    assert "best  peft.rank 1  train.lr 0.02  val_macro 75.0" in printed
    assert (sweep_file.parent / "runs/sweeps/some/some.png").stat().st_size > 1000


def start_sweep(sweep_file, *arguments):
    command = [sys.executable, "-m", "rsft", "sweep", str(sweep_file), *arguments]
    environment = os.environ | {
        "XDG_CACHE_HOME": str(sweep_file.parent / "cache"),
        "RSFT_TEST": str(sweep_file),
    }

    def restore_sigint():  # a job in the background of a shell ignores it
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    options = {
        "cwd": sweep_file.parent,
        "env": environment,
        "preexec_fn": restore_sigint,
    }
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **options)


def trial_processes(sweep_file):
    """Return the numbers of all processes that a sweep started."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"RSFT_TEST={sweep_file}".encode() in (path / "environ").read_bytes():
                found.append(int(path.name))
    return found


def wait_for(condition, process=None, seconds=240):
    """Wait until a condition holds, or a process ends."""
    end = time.monotonic() + seconds
    while not condition() and (process is None or process.poll() is None):
        assert time.monotonic() < end, "it takes too long"
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.exhaustive
def test_killed_and_resumed(sweep_file):
    ranks, rates = SWEEP.splitlines(keepends=True)[3:5]
    text = sweep_file.read_text().replace("train.epochs: 2", "train.epochs: 8")
    # trials that fail come last: the second command runs them again
    sweep_file.write_text(text.replace(ranks + rates, rates + ranks))
    folder = sweep_file.parent / "runs/sweeps/some"

    def outcome_times():
        return {
            path: path.stat().st_mtime_ns for path in folder.glob("trials/*/trial.json")
        }

    def is_between():
        """Return True if one trial has ended, and another one has finished an epoch."""
        ended = {path.parent for path in outcome_times()}
        return (
            ended
            and {path.parents[2] for path in folder.glob("trials/*/*/*/metrics.csv")}
            - ended
        )

    with start_sweep(sweep_file, "--jobs", "1") as driver:
        wait_for(is_between, driver)
        os.kill(driver.pid, signal.SIGKILL)
        before = outcome_times()
    wait_for(lambda: not trial_processes(sweep_file), seconds=60)
    second = start_sweep(sweep_file, "--jobs", "1")
    printed, _ = second.communicate()
    after = outcome_times()
    assert second.returncode == 0 and 1 <= len(before) < 4 and len(after) == 4
    assert all(after[path] == time for path, time in before.items())
    runs = [
        json.loads(path.read_text()) for path in folder.glob("trials/*/*/*/run.json")
    ]
    # the stopped trial did not start again
    assert len(runs) == 4 and sum("resumed" in run for run in runs) == 1
    table = pd.read_parquet(folder / "results.parquet").set_index(
        ["peft.rank", "train.lr"]
    )
    assert table["status"].to_dict() == {
        (1, 0.02): "done",
        (1, 1e30): "failed",
        (2, 0.02): "done",
        (2, 1e30): "failed",
    }
    assert table["reason"][(1, 1e30)].startswith("the loss of the inner loop is")
    assert "best  train.lr 0.02" in printed and printed.count("4/4") == 1
    run = json.loads(
        (folder / "trials" / table["id"].iloc[0] / "trial.json").read_text()
    )
    assert run["metrics"]["val_macro"] == table["val_macro"].iloc[0] > 0.3


@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_by_a_signal(sweep_file, number):
    sweep_file.write_text(
        sweep_file.read_text().replace("train.epochs: 2", "train.epochs: 500")
    )
    folder = sweep_file.parent / "runs/sweeps/some"
    with start_sweep(sweep_file, "--jobs", "1") as driver:
        wait_for(lambda: list(folder.glob("trials/*/*/*/metrics.csv")), driver)
        driver.send_signal(number)
        printed, _ = driver.communicate()
    assert driver.returncode == 128 + number
    assert (
        "trials remain: run the same command to continue" in printed
        and not trial_processes(sweep_file)
    )
    (run,) = [
        json.loads(path.read_text()) for path in folder.glob("trials/*/*/*/run.json")
    ]
    assert run["status"] == "interrupted" and run["position"][0] >= 1


@pytest.mark.slow
@pytest.mark.exhaustive
def test_ray_starts_in_a_home_without_its_folder(sweep_file, tmp_path, monkeypatch):
    pytest.importorskip("ray")
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    with start_sweep(sweep_file, "--ray") as driver:
        printed, _ = driver.communicate()
    assert driver.returncode == 0 and "4/4" in printed and "best  " in printed
    assert (tmp_path / "home/.ray").is_dir()
