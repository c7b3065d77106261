"""Which trials of a sweep are run, and what its results are; Ray Tune is replaced."""

import contextlib
import json
import signal

import pytest

from rsft.errors import Interrupted, RequestError
from rsft.study.outcomes import TrialOutcome
from rsft.study.sweep import SweepFolder, run_sweep
from rsft.study.sweep_file import list_trials, make_trial, read_sweep
from rsft.utils import dependencies
from rsft.utils.ray_cluster import session

SWEEP = "recipe: RECIPE\noverrides: {meta: null}\ngrid: {peft.rank: [1, 2, 3, 4]}\n"
TPE = (
    "recipe: RECIPE\nmethod: tpe\ntrials: 4\nsearch: {train.lr: {log: [0.001, 1]},"
    " peft.rank: {choice: [2, 4]}}\n"
)


@pytest.fixture
def sweep_folder(tmp_path, recipe_file):
    def open_folder(text=SWEEP):
        path = tmp_path / "some.yaml"
        path.write_text(text.replace("RECIPE", str(recipe_file)))
        sweep, document = read_sweep(path)
        return SweepFolder(
            tmp_path / "runs/sweeps/some", sweep, list_trials(sweep, document)
        )

    return open_folder


@pytest.fixture
def tune(monkeypatch):
    """Replace Ray Tune: run trials one by one with the outcomes of `end`; return the
    keys of all calls."""
    tuning = pytest.importorskip("rsft.study.strategies")
    monkeypatch.setattr(
        session, "ray_session", lambda address: contextlib.nullcontext()
    )
    calls = []

    def use(end, count=100, restored=(False,)):
        sessions = iter(restored)

        def fake(sweep, folder, trials, finished, watcher, jobs, server):
            for trial in trials[:count]:
                path = folder / trial.id
                path.mkdir(parents=True, exist_ok=True)
                assert not (path / "trial.json").exists()
                calls.append(trial.keys)
                end(trial.keys).save(path)
            return next(sessions)

        monkeypatch.setattr(tuning, "tune_trials", fake)
        return calls

    return use


def done(keys):
    return TrialOutcome(
        keys, "done", "", {"val_macro": 0.1 * keys["peft.rank"]}, 3.0, "x"
    )


def ranks(calls):
    return [keys["peft.rank"] for keys in calls]


@pytest.mark.slow
def test_finished_trials_are_not_run_again(sweep_folder, tune):
    calls = tune(done, count=2)
    run_sweep(sweep_folder(), None)
    results = sweep_folder().report()
    assert results.remaining == 2 and results.best.keys == {"peft.rank": 2}
    tune(done)
    run_sweep(sweep_folder(), None)
    assert ranks(calls) == [1, 2, 3, 4]
    results = sweep_folder().report()
    assert results.remaining == 0 and results.best.keys == {"peft.rank": 4}
    assert {path.name for path in results.paths.values()} == {
        "results.parquet",
        "results.md",
        "some.png",
        "some.svg",
    }


@pytest.mark.slow
def test_larger_grid_runs_the_new_trials_only(sweep_folder, tune):
    calls = tune(done)
    run_sweep(sweep_folder(), None)
    tune(done)
    run_sweep(sweep_folder(SWEEP.replace("[1,", "[8, 1,")), None)
    assert ranks(calls) == [1, 2, 3, 4, 8]
    assert sweep_folder().report().remaining == 0


@pytest.mark.slow
def test_failed_trials_do_not_stop_others_and_are_retried_on_request_or_if_never_trained(
    sweep_folder, tune, root
):
    from rsft.utils.atomic_files import sha256

    manifest = sha256(root / "manifest.parquet")

    def end(keys):
        data = {2: "", 3: manifest}.get(keys["peft.rank"])
        return (
            done(keys)
            if data is None
            else TrialOutcome(keys, "failed", "nan", data=data)
        )

    calls = tune(end, restored=[False] * 3)
    folder = sweep_folder()
    run_sweep(folder, None)
    assert [outcome.reason for outcome in folder.report().failed] == ["nan", "nan"]
    run_sweep(folder, None)
    run_sweep(folder, None, retry=True)
    assert ranks(calls) == [1, 2, 3, 4, 2, 2, 3]


@pytest.mark.slow
def test_trials_that_the_scheduler_stopped_have_ended(sweep_folder, tune):
    calls = tune(
        lambda keys: (
            done(keys)
            if keys["peft.rank"] < 4
            else TrialOutcome(keys, "stopped", "behind")
        )
    )
    run_sweep(sweep_folder(), None)
    run_sweep(sweep_folder(), None, retry=True)
    results = sweep_folder().report()
    assert len(calls) == 4 and results.remaining == 0
    assert results.best.keys == {"peft.rank": 3} and results.failed == []


def test_trials_on_other_data_are_run_again(sweep_folder, tune):
    calls = tune(
        lambda keys: TrialOutcome(
            keys, "done", "", {"val_macro": 0.5}, data="of other data"
        ),
        restored=[0, 0],
    )
    run_sweep(sweep_folder(), None)
    run_sweep(sweep_folder(), None)
    assert len(calls) == 8 and sweep_folder().report().remaining == 4


@pytest.mark.slow
def test_trials_that_a_restored_session_lacks_are_run_afterwards(sweep_folder, tune):
    calls = tune(done, count=3, restored=[True, False])
    run_sweep(sweep_folder(), None)
    assert ranks(calls) == [1, 2, 3, 4] and sweep_folder().report().remaining == 0


@pytest.mark.parametrize(
    ("error", "number"),
    [(KeyboardInterrupt, signal.SIGINT), (SystemExit(143), signal.SIGTERM)],
)
def test_signal_stops_the_sweep(sweep_folder, tune, monkeypatch, error, number):
    tuning = pytest.importorskip("rsft.study.strategies")

    def fake(*_):
        raise error

    monkeypatch.setattr(
        session, "ray_session", lambda address: contextlib.nullcontext()
    )
    monkeypatch.setattr(tuning, "tune_trials", fake)
    with pytest.raises(Interrupted) as caught:
        run_sweep(sweep_folder(), None)
    assert (
        caught.value.exit_code == 128 + number and "same command" in caught.value.hint
    )
    assert sweep_folder().report().remaining == 4


def test_missing_requirements_are_reported_before_any_run(
    sweep_folder, tune, monkeypatch, tmp_path
):
    calls = tune(done)
    with pytest.raises(RequestError, match="not a chip store"):
        run_sweep(
            sweep_folder(SWEEP.replace("meta: null", f"data.root: {tmp_path}")), None
        )
    monkeypatch.setattr(dependencies, "find_spec", lambda name: None)
    with pytest.raises(RequestError, match=r"rsft\[sweep\]"):
        run_sweep(sweep_folder(), None)
    assert not calls


@pytest.mark.slow
def test_proposed_trials_count_if_the_present_search_could_propose_them(sweep_folder):
    folder = sweep_folder(TPE)
    for lr, rank in ((0.002, 2), (0.1, 4), (0.5, 2)):
        keys = {"train.lr": lr, "peft.rank": rank}
        path = folder.path / "trials" / make_trial(folder.sweep, keys).id
        path.mkdir(parents=True)
        TrialOutcome(keys, "done", "", {"val_macro": lr}).save(path)
    results = folder.report()
    assert results.remaining == 1 and results.best.keys == {
        "train.lr": 0.5,
        "peft.rank": 2,
    }
    assert sweep_folder(TPE.replace("[0.001, 1]", "[0.01, 1]")).report().remaining == 2
    assert sweep_folder(TPE.replace("[2, 4]", "[4, 8]")).report().remaining == 3
    other_recipe = sweep_folder(f"{TPE}overrides: {{train.epochs: 9}}\n")
    assert (
        other_recipe.report().remaining == 4
        and len(json.loads((path / "trial.json").read_text())) > 3
    )
