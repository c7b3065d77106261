"""Which trials of a sweep are run, and what its results are; processes are replaced."""

import os
import signal
import time
from threading import Thread

import pytest

from rsft.errors import Interrupted, RequestError
from rsft.plugins.sweeps import sweep as sweep_module
from rsft.plugins.sweeps.sweep import SweepFolder, run_sweep
from rsft.plugins.sweeps.trial_list import list_trials
from rsft.recipe.load import load_recipe
from rsft.study.outcomes import RECIPE, TrialOutcome, read_outcome
from rsft.utils import dependencies
from rsft.utils.atomic_files import sha256
from rsft.utils.executor import TaskLostError, TaskStoppedError
from tests.helpers.executors import ExecutorHere

SWEEP = "recipe: RECIPE\noverrides: {meta: null}\ngrid: {peft.rank: [1, 2, 3, 4]}\n"
TPE = (
    "recipe: RECIPE\nmethod: tpe\ntrials: 4\nsearch: {train.lr: {log: [0.001, 1]},"
    " peft.rank: {choice: [2, 4]}}\n"
)


@pytest.fixture
def sweep_folder(read_text, tmp_path):
    def open_folder(text=SWEEP):
        sweep, document = read_text(text)
        trials = list_trials(sweep, document)
        return SweepFolder(tmp_path / "runs/sweeps/some", sweep, trials)

    return open_folder


class Watcher:
    """Records what happens."""

    def __init__(self):
        self.events = []

    def on_start(self, id, keys):
        self.events.append(("start", keys["peft.rank"]))

    def on_end(self, id, outcome):
        self.events.append(("end", outcome and outcome.status))


@pytest.fixture
def run(monkeypatch):
    """Run a sweep with the outcomes of `end` in place of training; return the keys of
    all trials."""
    calls = []

    def run(folder, end, watcher=None, **options):
        def work(path, keys, settings):
            assert path.is_absolute() and not (path / "trial.json").exists()
            assert load_recipe(path / RECIPE).peft.rank == keys["peft.rank"]
            calls.append(keys)
            outcome = end(keys)
            outcome.save(path)
            return outcome

        executor = ExecutorHere(work)
        monkeypatch.setattr(sweep_module, "open_executor", lambda *_, **__: executor)
        run_sweep(folder, watcher or Watcher(), **options)
        return calls

    return run


def done(keys):
    metrics = {"val_macro": 0.1 * keys["peft.rank"]}
    return TrialOutcome(keys, "done", "", metrics, 3.0, "x")


def ranks(calls):
    return [keys["peft.rank"] for keys in calls]


@pytest.mark.slow
def test_finished_trials_are_not_run_again(sweep_folder, run):
    def stop_after_two(keys):
        if keys["peft.rank"] == 3:
            raise KeyboardInterrupt
        return done(keys)

    with pytest.raises(Interrupted):
        run(sweep_folder(), stop_after_two)
    results = sweep_folder().report()
    assert results.remaining == 2 and results.best.keys == {"peft.rank": 2}
    watcher = Watcher()
    calls = run(sweep_folder(), done, watcher)
    assert ranks(calls) == [1, 2, 3, 3, 4]
    assert watcher.events == [
        ("start", 3),
        ("end", "done"),
        ("start", 4),
        ("end", "done"),
    ]
    results = sweep_folder().report()
    assert results.remaining == 0 and results.best.keys == {"peft.rank": 4}
    names = {path.name for path in results.paths.values()}
    assert names == {"results.parquet", "results.md"}
    assert run(sweep_folder(), done) is calls and len(calls) == 5


@pytest.mark.slow
def test_larger_grid_runs_the_new_trials_only(sweep_folder, run):
    run(sweep_folder(), done)
    calls = run(sweep_folder(SWEEP.replace("[1,", "[8, 1,")), done)
    assert ranks(calls) == [1, 2, 3, 4, 8]
    assert sweep_folder().report().remaining == 0


@pytest.mark.slow
def test_failed_trials_are_run_again(sweep_folder, run, root):
    manifest = sha256(root / "manifest.parquet")

    def end(keys):
        data = {2: "", 3: manifest}.get(keys["peft.rank"])
        if data is None:
            return done(keys)
        return TrialOutcome(keys, "failed", "nan", data=data)

    folder = sweep_folder()
    run(folder, end)
    reasons = [outcome.reason for outcome in folder.outcomes().values()]
    assert reasons.count("nan") == 2
    calls = run(folder, end)
    assert ranks(calls) == [1, 2, 3, 4, 2, 3]


@pytest.mark.slow
def test_trials_that_the_scheduler_stopped_have_ended(sweep_folder, run):
    def end(keys):
        if keys["peft.rank"] < 4:
            return done(keys)
        return TrialOutcome(keys, "stopped", "behind")

    run(sweep_folder(), end)
    calls = run(sweep_folder(), end)
    results = sweep_folder().report()
    assert len(calls) == 4 and results.remaining == 0
    assert results.best.keys == {"peft.rank": 3} and not results.remaining


def test_trials_on_other_data_are_run_again(sweep_folder, run):
    def end(keys):
        return TrialOutcome(keys, "done", "", {"val_macro": 0.5}, data="of other data")

    run(sweep_folder(), end)
    calls = run(sweep_folder(), end)
    assert len(calls) == 8 and sweep_folder().report().remaining == 4


@pytest.mark.parametrize(
    ("error", "number"),
    [(KeyboardInterrupt, signal.SIGINT), (SystemExit(143), signal.SIGTERM)],
)
def test_signal_stops_the_sweep(sweep_folder, run, error, number):
    def stop(keys):
        raise error

    with pytest.raises(Interrupted) as caught:
        run(sweep_folder(), stop)
    assert caught.value.exit_code == 128 + number
    assert "same command" in caught.value.hint
    assert sweep_folder().report().remaining == 4


def test_crashed_and_stopped_processes(sweep_folder, run, tmp_path):
    def crash(keys):
        path = next((tmp_path / "runs/sweeps/some/trials").glob("*"))
        if keys["peft.rank"] == 1:
            (path / "errors.txt").write_text("Traceback\nValueError: odd\n")
            raise TaskLostError("its process ended with code 1", has_raised=True)
        if keys["peft.rank"] == 2:
            raise TaskLostError("its process was killed by SIGSEGV")
        if keys["peft.rank"] == 3:
            raise TaskStoppedError("its process was stopped")
        return done(keys)

    watcher = Watcher()
    run(sweep_folder(), crash, watcher)
    ends = [status for kind, status in watcher.events if kind == "end"]
    assert ends == ["failed", "failed", None, "done"]
    outcomes = sweep_folder().outcomes().values()
    reasons = {outcome.keys["peft.rank"]: outcome.reason for outcome in outcomes}
    assert reasons == {
        1: "ValueError: odd",
        2: "its process was killed by SIGSEGV",
        4: "",
    }


def test_missing_requirements_are_reported_before_any_run(
    sweep_folder, run, monkeypatch, tmp_path
):
    with pytest.raises(RequestError, match="not a chip store"):
        folder = sweep_folder(SWEEP.replace("meta: null", f"data.root: {tmp_path}"))
        run(folder, done)

    def fail(name):
        raise ImportError(name)

    monkeypatch.setattr(dependencies.importlib, "import_module", fail)
    with pytest.raises(RequestError) as caught:
        run(sweep_folder(TPE), done)
    assert "rsft[sweep]" in caught.value.hint
    monkeypatch.undo()
    with pytest.raises(RequestError, match="GPUs"):
        run_sweep(sweep_folder(f"{SWEEP}gpus: 99\n"), Watcher())


@pytest.mark.slow
def test_tpe_runs_its_number_of_trials(sweep_folder, run):
    pytest.importorskip("optuna")
    calls = run(sweep_folder(TPE), done)
    assert len(calls) == 4 and sweep_folder(TPE).report().remaining == 0
    calls = run(sweep_folder(TPE.replace("trials: 4", "trials: 5")), done)
    assert len(calls) == 5


def is_between(trials):
    """Whether one trial has ended, and another one has finished two epochs."""
    ended = {path.parent for path in trials.glob("*/trial.json")}
    started = {
        path.parents[2]
        for path in trials.glob("*/*/*/metrics.csv")
        if len(path.read_text().splitlines()) > 2
    }
    return ended and started - ended


@pytest.mark.slow
@pytest.mark.exhaustive
def test_a_killed_trial_does_not_stop_others(sweep_folder):
    text = (
        "recipe: RECIPE\noverrides: {meta: null, train.epochs: 20, head.init: random}\n"
        "grid: {train.lr: [0.02, 1.0e-9]}\n"
    )
    folder = sweep_folder(text)
    first, second = folder.trials
    trials = folder.path / "trials"

    def kill(trial):
        while not list(trial.glob("*/*/metrics.csv")):
            time.sleep(0.2)
        os.kill(process_that_locks(trial / "lock"), signal.SIGSEGV)

    class Killer(Watcher):
        def on_start(self, id, keys):
            if id == second.id:
                Thread(target=kill, args=(trials / id,), daemon=True).start()

    run_sweep(folder, Killer())
    outcomes = [read_outcome(trials / trial.id) for trial in (first, second)]
    assert [outcome.status for outcome in outcomes] == ["done", "failed"]
    assert outcomes[1].reason == "its process was killed by SIGSEGV"
    assert outcomes[1].data


def process_that_locks(path):
    """Return the number of the process that has a file open."""
    from pathlib import Path

    for handle in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if handle.readlink() == path and handle.parts[2] != str(os.getpid()):
                return int(handle.parts[2])
        except OSError:  # the process has ended
            continue
    raise AssertionError("no process trains this trial")


@pytest.mark.slow
@pytest.mark.exhaustive
def test_asha_stops_a_trial_that_falls_behind(sweep_folder):
    text = (
        "recipe: RECIPE\noverrides: {meta: null, train.epochs: 8, head.init: random}\n"
        "grid: {train.lr: [0.03, 1.0e-9]}\nscheduler: asha\ngrace_period: 4\n"
    )
    folder = sweep_folder(text)
    run_sweep(folder, AnyWatcher(), jobs=1)
    first, second = folder.outcomes().values()
    assert first.status == "done" and second.status == "stopped"
    assert second.keys == {"train.lr": 1e-9} and second.metrics["epoch"] == 3
    assert second.reason == "stopped early by asha"


class AnyWatcher(Watcher):
    def on_start(self, id, keys):
        pass
