"""Trials that are trained in their folders: outcomes, failures, and resumed runs."""

import json
import os
import signal
from pathlib import Path

import pytest

from rsft.errors import Fault, Interrupted, RecipeError, RequestError
from rsft.recipe.load import dump_recipe, load_recipe
from rsft.recipe.schema import DataSection
from rsft.study import runs
from rsft.study.outcomes import RECIPE, TrialOutcome, read_outcome
from rsft.study.runs import StoppedEarlyError, run_trial
from rsft.training.listeners import RunListener
from rsft.training.runs.reader import find_runs, hash_data
from rsft.utils.atomic_files import sha256

pytestmark = pytest.mark.slow

RUN = {"status": "done", "seconds": 7.0, "data": {"manifest_sha256": "abc"}}
TABLE = "epoch,step,val_macro,val_medium\n0,5,0.4,\n1,10,0.5,\n"
EVALUATION = {
    "methods": {
        "LoRA": {"macro": {"value": 0.6}, "tail": None},
        "k-NN": {"macro": {"value": 0.9}},
    }
}
KEYS = {"peft.rank": 4}


@pytest.fixture
def trial(tmp_path, monkeypatch):
    """Run a trial whose training is replaced by a function of no argument."""

    def run(train=lambda: None, metric="val_macro"):
        folder = tmp_path / "runs/bars/001"
        (folder / "evaluation").mkdir(parents=True)
        (folder / "recipe.yaml").write_text(
            "data: {root: x, size: 32}\ntrain: {epochs: 2}\n"
        )
        (folder / "run.json").write_text(json.dumps(RUN))
        (folder / "metrics.csv").write_text(TABLE)
        (folder / "evaluation/metrics.json").write_text(json.dumps(EVALUATION))
        monkeypatch.setattr(runs, "train_in_folder", lambda *_: train())
        return run_trial(tmp_path / "runs", KEYS, metric, RunListener())

    return run


def raising(error):
    def train():
        raise error

    return train


def test_finished_trial(trial, tmp_path):
    outcome = trial()
    metrics = {"epoch": 1.0, "step": 10.0, "val_macro": 0.5, "macro": 0.6}
    run = str(tmp_path / "runs/bars/001")
    assert outcome == TrialOutcome(KEYS, "done", "", metrics, 7.0, run, "abc")
    assert read_outcome(tmp_path / "runs") == outcome


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (
            RequestError("the loss is nan", "epoch 2", "a smaller rate"),
            "the loss is nan: epoch 2",
        ),
        (
            RecipeError([Fault("a.yaml", 3, "meta.lr", "0", "x")]),
            "1 fault in the recipe: a.yaml: meta.lr: x",
        ),
        (RuntimeError("no memory"), "no memory"),
        (MemoryError(), "MemoryError"),
    ],
)
def test_failed_trial_has_a_reason(trial, tmp_path, error, reason):
    outcome = trial(raising(error))
    assert (outcome.status, outcome.reason) == ("failed", reason)
    assert outcome.metrics == {} and outcome.data == "abc"
    assert read_outcome(tmp_path / "runs") == outcome


def test_missing_metric_is_a_failure(trial):
    outcome = trial(metric="val_medium")
    assert (outcome.status, outcome.reason) == ("failed", "val_medium is not a number")


def test_a_trial_that_fell_behind_keeps_its_metrics(trial):
    outcome = trial(raising(StoppedEarlyError("behind the others")))
    assert (outcome.status, outcome.reason) == ("stopped", "behind the others")
    assert outcome.metrics["val_macro"] == 0.5


def test_stopped_trial_has_no_outcome(trial, tmp_path):
    with pytest.raises(Interrupted):
        trial(raising(Interrupted(signal.SIGTERM)))
    assert read_outcome(tmp_path / "runs") is None


@pytest.mark.parametrize(
    ("status", "data", "is_resumed"),
    [("running", "present", True), ("interrupted", "present", True), ("interrupted", None, True),
     ("interrupted", "earlier", False), ("done", "present", True), ("failed", "present", False),
     (None, "present", False)],
)  # fmt: skip
def test_unfinished_run_on_the_same_data_is_resumed(
    tmp_path, root, status, data, is_resumed
):
    folder = tmp_path / "bars/001"
    folder.mkdir(parents=True)
    (folder / "recipe.yaml").write_text(
        f"data: {{root: {root}, size: 32}}\ntrain: {{epochs: 2}}\n"
    )
    hashes = {
        "present": sha256(root / "manifest.parquet"),
        "earlier": "abc",
        None: None,
    }
    metadata = {"status": status, "data": {"manifest_sha256": hashes[data]}}
    (folder / "run.json").write_text(json.dumps(metadata) if status else "{")
    # the files of a run that was killed, without training one
    run = runs._unfinished_run(tmp_path)
    assert (run.folder if run else None) == (folder if is_resumed else None)


def test_a_run_is_not_resumed_with_another_pool(tmp_path, root):
    pool = tmp_path / "pool"
    folder = tmp_path / "bars/001"
    pool.mkdir()
    (pool / "a.png").write_bytes(b"first")
    folder.mkdir(parents=True)
    (folder / "recipe.yaml").write_text(
        f"data: {{root: {root}, size: 32, unlabeled: {pool}}}\ntrain: {{epochs: 2}}\n"
    )
    data = DataSection(root=str(root), size=32, unlabeled=str(pool))
    manifest = sha256(root / "manifest.parquet")
    metadata = {
        "status": "running",
        "data": {"manifest_sha256": manifest, "sha256": hash_data(data)},
    }
    (folder / "run.json").write_text(json.dumps(metadata))
    assert runs._unfinished_run(tmp_path) is not None
    (pool / "b.png").write_bytes(b"second")
    assert runs._unfinished_run(tmp_path) is None
    assert hash_data(data.model_copy(update={"unlabeled": None})) == manifest
    assert (
        hash_data(data.model_copy(update={"unlabeled": str(tmp_path / "gone")})) == ""
    )


@pytest.mark.parametrize(
    ("status", "device", "is_resumed"),
    [("running", "cpu", False), ("trained", "cpu", True), ("running", "cuda", True)],
)
def test_a_run_with_another_number_of_threads_is_trained_anew(
    tmp_path, root, status, device, is_resumed
):
    folder = tmp_path / "bars/001"
    folder.mkdir(parents=True)
    (folder / "recipe.yaml").write_text(
        f"data: {{root: {root}, size: 32}}\ntrain: {{epochs: 2}}\n"
    )
    metadata = {"status": status, "device": device, "hardware": {"threads": 999}}
    (folder / "run.json").write_text(json.dumps(metadata))
    assert (runs._unfinished_run(tmp_path) is not None) == is_resumed


def test_stopped_trial_continues_where_it_was(tmp_path, recipe_file):
    recipe = load_recipe(recipe_file, ["meta=null", "train.epochs=12"])
    (tmp_path / RECIPE).write_text(dump_recipe(recipe))

    class Stop(RunListener):
        def on_epoch_end(self, row, scales):
            if row["epoch"] == 3:
                os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted):
        run_trial(tmp_path, KEYS, "macro", Stop())
    (run,) = find_runs(tmp_path)
    assert run.status == "interrupted" and run.metadata["position"][0] >= 4
    assert read_outcome(tmp_path) is None
    epochs = []

    class Record(RunListener):
        def on_epoch_end(self, row, scales):
            epochs.append(row["epoch"])

    outcome = run_trial(tmp_path, KEYS, "macro", Record())
    (run,) = find_runs(tmp_path)
    assert len(run.metadata["resumed"]) == 1 and epochs[0] >= 4 and epochs[-1] == 11
    assert outcome.status == "done" and outcome.metrics["macro"] > 0.3
    assert outcome.metrics["epoch"] == 11 and Path(outcome.run) == run.folder
