import json

import pytest

from rsft.errors import RequestError
from rsft.sweep.job import SweepFolder, run_sweep
from rsft.sweep.outcome import Outcome
from rsft.sweep.schema import read_sweep
from rsft.sweep.trials import list_trials
from rsft.utils import ray_cluster

SWEEP = "recipe: RECIPE\noverrides: {meta: null}\ngrid: {peft.rank: [1, 2, 3, 4]}\n"
TPE = "recipe: RECIPE\nmethod: tpe\ntrials: 12\nsearch: {train.lr: {log: [0.001, 1]}, peft.rank: {choice: [2, 4]}}\n"


@pytest.fixture
def opened(tmp_path, recipe_file):
    def open_folder(text=SWEEP):
        path = tmp_path / "some.yaml"
        path.write_text(text.replace("RECIPE", str(recipe_file)))
        sweep, document = read_sweep(path)
        return SweepFolder(tmp_path / "runs/sweeps/some", sweep, list_trials(sweep, document))

    return open_folder


@pytest.fixture
def ray(monkeypatch):
    """In place of Ray Tune: runs one trial after the other, by `end`; its calls are kept."""
    search = pytest.importorskip("rsft.sweep.search")
    calls = []

    def use(end, most=100):
        def fake(sweep, proposals, prepare, *_, **__):
            for _ in range(most):
                keys = proposals.ask()
                if keys is None:
                    return
                folder = prepare(keys)
                assert (folder / "recipe.yaml").is_file()
                calls.append(keys)
                outcome = end(keys)
                outcome.save(folder)
                proposals.tell(keys, outcome)

        monkeypatch.setattr(search, "search", fake)
        return calls

    return use


def done(keys):
    return Outcome(keys, "done", "", {"val_macro": 0.1 * keys["peft.rank"]}, 3.0, "x")


def test_finished_trials_are_not_run_again(opened, ray):
    calls = ray(done, most=2)
    run_sweep(opened(), None)
    results = opened().report()
    assert results.left == 2 and results.best.keys == {"peft.rank": 2}
    ray(done)
    run_sweep(opened(), None)
    assert [keys["peft.rank"] for keys in calls] == [1, 2, 3, 4]
    results = opened().report()
    assert results.left == 0 and results.best.keys == {"peft.rank": 4}
    assert {path.name for path in results.paths.values()} == {"results.parquet", "results.md", "some.png", "some.svg"}


def test_more_of_a_grid_runs_the_new_ones_alone(opened, ray):
    calls = ray(done)
    run_sweep(opened(), None)
    run_sweep(opened(SWEEP.replace("[1,", "[8, 1,")), None)
    assert [keys["peft.rank"] for keys in calls] == [1, 2, 3, 4, 8]
    assert opened().report().left == 0


def test_a_failed_trial_stops_nothing_and_is_retried_when_asked_or_never_trained(opened, ray):
    def end(keys):
        where = {2: "", 3: "manifest"}.get(keys["peft.rank"])
        return done(keys) if where is None else Outcome(keys, "failed", "nan", data=where)

    calls = ray(end)
    folder = opened()
    folder._is_current = lambda trial, outcome: True
    run_sweep(folder, None)
    assert [outcome.reason for outcome in folder.report().failed] == ["nan", "nan"]
    run_sweep(folder, None)
    run_sweep(folder, None, retry=True)
    assert [keys["peft.rank"] for keys in calls] == [1, 2, 3, 4, 2, 2, 3]


def test_other_data_is_another_experiment(opened, ray):
    calls = ray(lambda keys: Outcome(keys, "done", "", {"val_macro": 0.5}, data="of other data"))
    run_sweep(opened(), None)
    run_sweep(opened(), None)
    assert len(calls) == 8 and opened().report().left == 4


def test_what_is_missing_is_said_before_anything_runs(opened, ray, monkeypatch, tmp_path):
    calls = ray(done)
    with pytest.raises(RequestError, match="no chip store"):
        run_sweep(opened(SWEEP.replace("meta: null", f"data.root: {tmp_path}")), None)
    monkeypatch.setattr(ray_cluster, "find_spec", lambda name: None)
    with pytest.raises(RequestError, match=r"rsft\[sweep\]"):
        run_sweep(opened(), None)
    assert not calls


def test_the_estimator_learns_and_goes_on(opened, ray):
    pytest.importorskip("optuna")

    def end(keys):
        return Outcome(keys, "done", "", {"val_macro": 1 - abs(keys["train.lr"] - 0.1)})

    calls = ray(end, most=5)
    run_sweep(opened(TPE), None)
    assert opened(TPE).report().left == 7
    ray(end)
    run_sweep(opened(TPE), None)
    run_sweep(opened(TPE), None)
    assert len(calls) == len({json.dumps(keys) for keys in calls}) == 12
    assert all(0.001 <= keys["train.lr"] <= 1 and keys["peft.rank"] in (2, 4) for keys in calls)
    results = opened(TPE).report()
    assert results.left == 0
    assert results.best.metrics["val_macro"] == max(end(keys).metrics["val_macro"] for keys in calls)
    narrower = opened(TPE.replace("[0.001, 1]", "[0.01, 0.9]"))
    assert narrower.report().left == 12 - sum(0.01 <= keys["train.lr"] <= 0.9 for keys in calls)
