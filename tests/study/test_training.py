"""Trials in processes of their own: outcomes, failures, signals, and runs that are
resumed."""

import json
import os
import signal
import time
from multiprocessing import AuthenticationError
from pathlib import Path

import pytest

from rsft import errors
from rsft.recipe.load import dump_recipe, load_recipe
from rsft.recipe.schema import DataSection
from rsft.study import training as process
from rsft.study.outcomes import RECIPE, TrialOutcome, read_outcome
from rsft.study.training import TrialStopped, run_trial
from rsft.training.runs.reader import hash_data
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


WAIT = "report({'pid': float(os.getpid())}); time.sleep(60)"
REPORT_GPU = "report({'gpu': float(os.environ['CUDA_VISIBLE_DEVICES'])})"
BE_KILLED = "os.kill(os.getpid(), signal.SIGKILL)"


class Target:
    """A target that can be pickled and runs `code` in place of a training; the process
    sees no replaced function."""

    def __init__(self, code):
        self.code = code

    def __call__(self, folder, threads, environment, connection):
        names = vars(errors) | {"os": os, "signal": signal, "time": time}
        process._train = lambda folder, threads, report: exec(
            self.code, names | {"report": report}
        )
        process.train_trial(folder, threads, environment, connection)


@pytest.fixture
def trial(tmp_path, monkeypatch):
    """Run a trial whose process runs code."""

    def run(code, metric="val_macro"):
        folder = tmp_path / "runs/bars/001"
        (folder / "evaluation").mkdir(parents=True)
        (folder / "recipe.yaml").write_text(
            "data: {root: x, size: 32}\ntrain: {epochs: 2}\n"
        )
        (folder / "run.json").write_text(json.dumps(RUN))
        (folder / "metrics.csv").write_text(TABLE)
        (folder / "evaluation/metrics.json").write_text(json.dumps(EVALUATION))
        monkeypatch.setattr(process, "train_trial", Target(code))
        rows = []
        return run_trial(tmp_path / "runs", KEYS, rows.append, metric=metric), rows

    return run


def test_finished_trial(trial, tmp_path):
    outcome, rows = trial("report({'epoch': 0.0})")
    metrics = {"epoch": 1.0, "step": 10.0, "val_macro": 0.5, "macro": 0.6}
    run = str(tmp_path / "runs/bars/001")
    assert outcome == TrialOutcome(KEYS, "done", "", metrics, 7.0, run, "abc")
    assert read_outcome(tmp_path / "runs") == outcome and rows == [{"epoch": 0.0}]


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (
            "raise RsftError('the loss is nan', 'epoch 2', 'a smaller rate')",
            "the loss is nan: epoch 2",
        ),
        (
            "raise RecipeError([Fault('a.yaml', 3, 'meta.lr', '0', 'x')])",
            "1 fault in the recipe: a.yaml: meta.lr: x",
        ),
        (
            BE_KILLED,
            "its process was killed by SIGKILL, perhaps because the memory was full",
        ),
        ("raise ValueError('odd')", "ValueError: odd"),
        ("os._exit(3)", "its process ended with code 3"),
        ("os._exit(0)", "its process ended with code 0"),
    ],
)
def test_failed_trial_has_a_reason(trial, tmp_path, code, reason):
    outcome, _ = trial(code)
    assert (outcome.status, outcome.reason, outcome.metrics, outcome.data) == (
        "failed",
        reason,
        {},
        "abc",
    )
    assert read_outcome(tmp_path / "runs") == outcome


def test_missing_metric_is_a_failure(trial):
    outcome, _ = trial("", metric="val_medium")
    assert (outcome.status, outcome.reason) == ("failed", "val_medium is not a number")


def test_stopped_trial_has_no_outcome(trial, tmp_path):
    with pytest.raises(TrialStopped):
        trial("os._exit(128 + signal.SIGTERM)")
    assert read_outcome(tmp_path / "runs") is None


def test_process_ends_with_its_parent(tmp_path):
    context = process.multiprocessing.get_context("forkserver")
    connection, child_end = context.Pipe()
    child = context.Process(target=Target(WAIT), args=(tmp_path, 1, {}, child_end))
    child.start()
    child_end.close()
    assert connection.recv()["pid"] == child.pid and child.is_alive()
    connection.close()
    child.join(20)
    assert child.exitcode == -signal.SIGTERM


@pytest.fixture
def request_of(tmp_path, monkeypatch):
    """Let a server run a trial whose process runs code."""

    def request(server, code, report):
        monkeypatch.setattr(process, "train_trial", Target(code))
        return process.request_trial(
            server, report, folder=tmp_path, keys=KEYS, metric="macro"
        )

    return request


def test_server_runs_trials_of_workers(request_of, tmp_path, monkeypatch):
    rows = []
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    with process.trial_server(1) as server:
        with pytest.raises(AuthenticationError):
            request_of((server[0], b"another key"), REPORT_GPU, rows.append)
        outcome = request_of(server, REPORT_GPU, rows.append)
        assert rows == [{"gpu": 3.0}] and outcome == read_outcome(tmp_path)
        assert (outcome.status, outcome.reason) == ("failed", "macro is not a number")
        assert request_of(server, BE_KILLED, rows.append).reason.startswith(
            "its process was killed by SIGKILL"
        )


def test_end_of_the_server_stops_its_trials(request_of, tmp_path):
    with process.trial_server(1) as server, pytest.raises(TrialStopped):

        def stop(row):
            os.kill(int(row["pid"]), signal.SIGTERM)

        request_of(server, WAIT, stop)
    with process.trial_server(1) as server:
        connection = process.Client(server[0], authkey=server[1])
        connection.send({"folder": tmp_path, "keys": KEYS, "metric": "macro"})
        number = int(connection.recv()["pid"])
    with pytest.raises(EOFError):
        connection.recv()
    assert read_outcome(tmp_path) is None and not Path(f"/proc/{number}").exists()


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"status": "done"}', '{"keys": {}, "status": "done", "new": 1}'],
)
def test_damaged_outcome_is_none(tmp_path, text):
    (tmp_path / "trial.json").write_text(text)
    assert read_outcome(tmp_path) is None


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
    run = process._unfinished_run(tmp_path)
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
    assert process._unfinished_run(tmp_path) is not None
    (pool / "b.png").write_bytes(b"second")
    assert process._unfinished_run(tmp_path) is None
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
    assert (process._unfinished_run(tmp_path) is not None) == is_resumed


def test_stopped_trial_continues_where_it_was(tmp_path, recipe_file):
    recipe = load_recipe(recipe_file, ["meta=null", "train.epochs=12"])
    (tmp_path / RECIPE).write_text(dump_recipe(recipe))

    def stop(row):
        if row["epoch"] == 3:
            raise SystemExit  # as Tune does in the thread of a trial

    with pytest.raises(SystemExit):
        run_trial(tmp_path, KEYS, stop, metric="macro")
    (run,) = process.find_runs(tmp_path)
    assert (
        run.status == "interrupted"
        and run.metadata["position"][0] >= 4
        and read_outcome(tmp_path) is None
    )
    epochs = []
    outcome = run_trial(
        tmp_path, KEYS, lambda row: epochs.append(row["epoch"]), metric="macro"
    )
    (run,) = process.find_runs(tmp_path)
    assert len(run.metadata["resumed"]) == 1 and epochs[0] >= 4 and epochs[-1] == 11
    assert (
        outcome.status == "done"
        and outcome.metrics["macro"] > 0.3
        and outcome.metrics["epoch"] == 11
    )
    assert Path(outcome.run) == run.folder
