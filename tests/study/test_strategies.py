"""Ray Tune runs the trials of a sweep: proposals, early stops, lost trials, and
sessions that are continued."""

import contextlib
import json
import logging
import os
import signal
from pathlib import Path

import pytest

from rsft.errors import RsftError
from rsft.study.outcomes import TrialOutcome, read_outcome
from rsft.study.sweep_file import list_trials, read_sweep
from rsft.utils.ray_cluster.session import ray_session

tuning = pytest.importorskip("rsft.study.strategies")

GRID = (
    "recipe: RECIPE\noverrides: {meta: null, train.epochs: 2, head.init: random}\ngrid:"
    " {train.lr: [0.02, 1.0e-9]}\n"
)
TPE = """\
recipe: RECIPE
overrides: {meta: null, train.epochs: 2}
method: tpe
trials: 3
search: {train.lr: {log: [0.001, 1]}, peft.rank: {choice: [2, 4]}, peft.positions: {choice: [q, "12"]}}
"""


class Watcher:
    """Records what happens, and stops the sweep at the start of a trial."""

    def __init__(self, stop_at=None):
        self.started = {}
        self.epochs = []
        self.ended = []
        self.stop_at = stop_at

    def on_start(self, id, keys):
        self.started[id] = keys
        if len(self.started) == self.stop_at:
            raise KeyboardInterrupt

    def on_epoch(self, id, row):
        self.epochs.append((id, row["epoch"]))

    def on_end(self, id, outcome):
        self.ended.append(outcome)


@pytest.fixture
def read(tmp_path, recipe_file, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)

    def read(text):
        path = tmp_path / "some.yaml"
        path.write_text(text.replace("RECIPE", str(recipe_file)))
        sweep, document = read_sweep(path)
        return sweep, list_trials(sweep, document)

    return read


@pytest.fixture
def ray():
    """Start Ray for one test: the workers of a stopped sweep end with the session."""
    with ray_session(None):
        yield


def test_points_of_the_search_become_keys(read):
    sweep, _ = read(TPE)
    config = {"train.lr": 0.0123456, "peft.rank": "2", "peft.positions": '"12"'}
    assert tuning._keys_of(sweep, config) == {
        "train.lr": 0.01235,
        "peft.rank": 2,
        "peft.positions": "12",
    }
    sweep, _ = read(
        "recipe: RECIPE\ntrials: 1\nmethod: tpe\nsearch: {peft.rank: {integer: [1,"
        " 3]}}\n"
    )
    domain = tuning._domain(sweep.search["peft.rank"])
    assert {domain.sample() for _ in range(60)} == {1, 2, 3}


def test_estimator_knows_the_finished_trials(read):
    pytest.importorskip("optuna")
    sweep, _ = read(TPE)

    def propose(finished):
        search = tuning._tpe_search(sweep, finished)
        space = {key: tuning._domain(values) for key, values in sweep.search.items()}
        assert search.set_search_properties("val_macro", "max", space)
        return [
            tuning._keys_of(sweep, search.suggest(str(number))) for number in range(4)
        ]

    keys = propose([])
    assert keys == propose([]) and len({json.dumps(point) for point in keys}) == 4
    assert all(
        0.001 <= point["train.lr"] <= 1 and point["peft.rank"] in (2, 4)
        for point in keys
    )
    rates = [0.001 * 1.5**number for number in range(15)]
    values = {"peft.rank": 2, "peft.positions": "12"}
    outcomes = [
        TrialOutcome(
            {"train.lr": lr, **values}, "done", "", {"val_macro": 1 - abs(lr - 0.25)}
        )
        for lr in rates
    ]
    failed = TrialOutcome({"train.lr": 0.9, **values}, "failed", "the loss is nan")
    assert min(point["train.lr"] for point in propose([*outcomes, failed])) > 0.01


def test_an_outcome_is_not_trained_again(read, tmp_path, monkeypatch):
    sweep, (first, second) = read(GRID)
    reports = []
    monkeypatch.setattr(tuning.tune, "report", reports.append)
    for trial, outcome in (
        (first, TrialOutcome(first.keys, "done", "", {"val_macro": 0.5})),
        (second, TrialOutcome(second.keys, "failed", "the loss is nan")),
    ):
        (tmp_path / trial.id).mkdir()
        outcome.save(tmp_path / trial.id)
    tuning.run_in_worker({"keys": first.keys}, sweep, tmp_path, tmp_path)
    assert reports == [{"val_macro": 0.5}]
    with pytest.raises(RsftError, match="the loss is nan"):
        tuning.run_in_worker({"keys": second.keys}, sweep, tmp_path, tmp_path)


def trial_process(folder):
    """Return the number of the process that locks the folder of a trial."""
    for path in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            if path.readlink() == folder / "lock":
                return int(path.parts[2])
    raise AssertionError("no process trains this trial")


@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="reads /proc")
def test_killed_trial_does_not_stop_others(read, tmp_path, ray):
    sweep, trials = read(GRID.replace("train.epochs: 2", "train.epochs: 20"))
    folder = tmp_path / "trials"
    first, second = trials

    class Killer(Watcher):
        def on_epoch(self, id, row):
            super().on_epoch(id, row)
            if self.started[id] == second.keys and row["epoch"] == 1:
                os.kill(trial_process(folder / second.id), signal.SIGSEGV)

    watcher = Killer()
    assert tuning.tune_trials(sweep, folder, trials, [], watcher) is False
    outcomes = [read_outcome(folder / trial.id) for trial in trials]
    assert [outcome.status for outcome in outcomes] == ["done", "failed"]
    assert (
        outcomes[1].reason == "its process was killed by SIGSEGV" and outcomes[1].data
    )
    assert sorted(outcome.status for outcome in watcher.ended) == ["done", "failed"]
    assert [
        epoch for id, epoch in watcher.epochs if watcher.started[id] == first.keys
    ] == list(range(20))
    assert not list((tmp_path / "cache/rsft/sweeps").glob("*"))


@pytest.mark.slow
@pytest.mark.exhaustive
def test_asha_stops_a_trial_that_falls_behind(read, tmp_path, ray):
    text = GRID.replace("train.epochs: 2", "train.epochs: 8").replace(
        "[0.02", "[0.03, 0.02"
    )
    sweep, trials = read(f"{text}scheduler: asha\ngrace_period: 4\n")
    watcher = Watcher()
    tuning.tune_trials(sweep, tmp_path / "trials", trials, [], watcher, jobs=1)
    statuses = [outcome.status for outcome in watcher.ended]
    assert statuses[0] == "done" and statuses[-1] == "stopped"
    assert (
        watcher.ended[-1].keys == {"train.lr": 1e-9}
        and watcher.ended[-1].metrics["epoch"] >= 3
    )
    assert watcher.ended[-1].reason == "stopped early by asha"


@pytest.mark.slow
@pytest.mark.exhaustive
def test_stopped_search_continues_with_its_proposals(read, tmp_path, ray, caplog):
    sweep, trials = read(TPE)
    assert trials == []
    first = Watcher(stop_at=2)
    second = Watcher()
    third = Watcher()
    with pytest.raises(KeyboardInterrupt):
        tuning.tune_trials(sweep, tmp_path / "trials", [], [], first, jobs=1)
    assert (
        tuning.tune_trials(sweep, tmp_path / "trials", [], [], second, jobs=1) is True
    )
    proposals = list(first.started.values())
    assert (
        proposals[1] in second.started.values()
        and proposals[0] not in second.started.values()
    )
    assert len(second.started) == len(second.ended) == 2
    outcomes = [read_outcome(path) for path in (tmp_path / "trials").iterdir()]
    assert [outcome.status for outcome in outcomes] == [
        "done"
    ] * 3 and not caplog.records
    assert (
        tuning.tune_trials(sweep, tmp_path / "trials", [], outcomes[:2], third, jobs=1)
        is False
    )
    assert len(third.started) == 1


@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.parametrize("is_damaged", [False, True])
def test_state_of_another_or_broken_session_is_discarded(
    read, tmp_path, ray, caplog, is_damaged
):
    text = GRID.replace("[0.02, 1.0e-9]", "[0.02]").replace("epochs: 2", "epochs: 1")
    sweep, trials = read(text)
    with pytest.raises(KeyboardInterrupt):
        tuning.tune_trials(
            sweep, tmp_path / "trials", trials, [], Watcher(stop_at=1), jobs=1
        )
    (state,) = (tmp_path / "cache/rsft/sweeps").glob("*/*/tuner.pkl")
    if is_damaged:
        state.write_bytes(state.read_bytes()[:100])
    else:
        sweep, trials = read(text.replace("0.02", "0.03"))
    watcher = Watcher()
    caplog.set_level(logging.WARNING)
    assert (
        tuning.tune_trials(sweep, tmp_path / "trials", trials, [], watcher, jobs=1)
        is False
    )
    assert ("is incomplete" if is_damaged else "has changed") in caplog.text
    assert [outcome.status for outcome in watcher.ended] == ["done"]
