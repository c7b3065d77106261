import json

import pytest

from rsft.errors import RequestError
from rsft.sweep.job import SweepFolder, run_sweep
from rsft.sweep.outcome import TrialOutcome
from rsft.sweep.schema import read_sweep
from rsft.sweep.trials import list_trials
from rsft.utils import optional_dependencies

SWEEP = "recipe: RECIPE\noverrides: {meta: null}\ngrid: {peft.rank: [1, 2, 3, 4]}\n"
TPE = "recipe: RECIPE\nmethod: tpe\ntrials: 12\nsearch: {train.lr: {log: [0.001, 1]}, peft.rank: {choice: [2, 4]}}\n"


@pytest.fixture
def sweep_folder(tmp_path, recipe_file):
    def open_folder(text=SWEEP):
        path = tmp_path / "some.yaml"
        path.write_text(text.replace("RECIPE", str(recipe_file)))
        sweep, document = read_sweep(path)
        return SweepFolder(tmp_path / "runs/sweeps/some", sweep, list_trials(sweep, document))

    return open_folder


@pytest.fixture
def ray(monkeypatch):
    """Replace Ray Tune: run trials one by one with the outcomes of `end`; return the keys of all calls."""
    search = pytest.importorskip("rsft.sweep.search")
    calls = []

    def use(end, count=100):
        def fake(sweep, proposals, prepare, *_, **__):
            for _ in range(count):
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
    return TrialOutcome(keys, "done", "", {"val_macro": 0.1 * keys["peft.rank"]}, 3.0, "x")


def test_finished_trials_are_not_run_again(sweep_folder, ray):
    calls = ray(done, count=2)
    run_sweep(sweep_folder(), None)
    results = sweep_folder().report()
    assert results.remaining == 2 and results.best.keys == {"peft.rank": 2}
    ray(done)
    run_sweep(sweep_folder(), None)
    assert [keys["peft.rank"] for keys in calls] == [1, 2, 3, 4]
    results = sweep_folder().report()
    assert results.remaining == 0 and results.best.keys == {"peft.rank": 4}
    assert {path.name for path in results.paths.values()} == {"results.parquet", "results.md", "some.png", "some.svg"}


def test_larger_grid_runs_the_new_trials_only(sweep_folder, ray):
    calls = ray(done)
    run_sweep(sweep_folder(), None)
    run_sweep(sweep_folder(SWEEP.replace("[1,", "[8, 1,")), None)
    assert [keys["peft.rank"] for keys in calls] == [1, 2, 3, 4, 8]
    assert sweep_folder().report().remaining == 0


def test_failed_trials_do_not_stop_others_and_are_retried_on_request_or_if_never_trained(sweep_folder, ray):
    def end(keys):
        data = {2: "", 3: "manifest"}.get(keys["peft.rank"])
        return done(keys) if data is None else TrialOutcome(keys, "failed", "nan", data=data)

    calls = ray(end)
    folder = sweep_folder()
    folder._is_current = lambda trial, outcome: True
    run_sweep(folder, None)
    assert [outcome.reason for outcome in folder.report().failed] == ["nan", "nan"]
    run_sweep(folder, None)
    run_sweep(folder, None, retry=True)
    assert [keys["peft.rank"] for keys in calls] == [1, 2, 3, 4, 2, 2, 3]


def test_trials_on_other_data_are_run_again(sweep_folder, ray):
    calls = ray(lambda keys: TrialOutcome(keys, "done", "", {"val_macro": 0.5}, data="of other data"))
    run_sweep(sweep_folder(), None)
    run_sweep(sweep_folder(), None)
    assert len(calls) == 8 and sweep_folder().report().remaining == 4


def test_missing_requirements_are_reported_before_any_run(sweep_folder, ray, monkeypatch, tmp_path):
    calls = ray(done)
    with pytest.raises(RequestError, match="not a chip store"):
        run_sweep(sweep_folder(SWEEP.replace("meta: null", f"data.root: {tmp_path}")), None)
    monkeypatch.setattr(optional_dependencies, "find_spec", lambda name: None)
    with pytest.raises(RequestError, match=r"rsft\[sweep\]"):
        run_sweep(sweep_folder(), None)
    assert not calls


def test_estimator_learns_and_resumes(sweep_folder, ray):
    pytest.importorskip("optuna")

    def end(keys):
        return TrialOutcome(keys, "done", "", {"val_macro": 1 - abs(keys["train.lr"] - 0.1)})

    calls = ray(end, count=5)
    run_sweep(sweep_folder(TPE), None)
    assert sweep_folder(TPE).report().remaining == 7
    ray(end)
    run_sweep(sweep_folder(TPE), None)
    run_sweep(sweep_folder(TPE), None)
    assert len(calls) == len({json.dumps(keys) for keys in calls}) == 12
    assert all(0.001 <= keys["train.lr"] <= 1 and keys["peft.rank"] in (2, 4) for keys in calls)
    results = sweep_folder(TPE).report()
    assert results.remaining == 0
    assert results.best.metrics["val_macro"] == max(end(keys).metrics["val_macro"] for keys in calls)
    narrower = sweep_folder(TPE.replace("[0.001, 1]", "[0.01, 0.9]"))
    assert narrower.report().remaining == 12 - sum(0.01 <= keys["train.lr"] <= 0.9 for keys in calls)
