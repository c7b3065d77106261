import json
import signal
import subprocess
import sys

import pytest

from rsft.sweep import process
from rsft.sweep.outcome import TrialOutcome, read_outcome
from rsft.sweep.process import TrialStopped, run_trial

RUN = {"status": "done", "seconds": 7.0, "data": {"manifest_sha256": "abc"}}
TABLE = "epoch,step,val_macro,val_medium\n0,5,0.4,\n1,10,0.5,\n"
EVALUATION = {"methods": {"LoRA": {"macro": {"value": 0.6}, "tail": None}, "k-NN": {"macro": {"value": 0.9}}}}


@pytest.fixture
def trial(tmp_path, monkeypatch):
    """Run a trial whose process is a script."""

    def run(script, metric="val_macro", finished=True):
        folder = tmp_path / "runs/bars/001"
        folder.mkdir(parents=True)
        (folder / "recipe.yaml").write_text("data: {root: x, size: 32}\ntrain: {epochs: 2}\n")
        (folder / "run.json").write_text(json.dumps(RUN))
        (folder / "metrics.csv").write_text(TABLE)
        if finished:
            (folder / "evaluation").mkdir()
            (folder / "evaluation/metrics.json").write_text(json.dumps(EVALUATION))
        monkeypatch.setattr(process, "_command", lambda folder: [sys.executable, "-c", script])
        events = []
        return run_trial(tmp_path / "runs", {"peft.rank": 4}, events.append, metric=metric), events

    return run


def print_events(*events):
    return "\n".join(f"print({json.dumps(json.dumps(event))}, flush=True)" for event in events)


def test_finished_trial(trial, tmp_path):
    outcome, events = trial(print_events({"event": "epoch", "epoch": 0}, {"event": "done", "run": "x"}))
    assert outcome == TrialOutcome(
        keys={"peft.rank": 4},
        status="done",
        metrics={"epoch": 1.0, "step": 10.0, "val_macro": 0.5, "macro": 0.6},
        seconds=7.0,
        run=str(tmp_path / "runs/bars/001"),
        data="abc",
    )
    assert read_outcome(tmp_path / "runs") == outcome and [event["event"] for event in events] == ["epoch", "done"]


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (
            print_events({"event": "error", "what": "the loss is nan", "where": "epoch 2"}) + "\nexit(1)",
            "the loss is nan: epoch 2",
        ),
        (
            print_events(
                {"event": "error", "what": "1 fault", "faults": [{"key": "peft.rank", "allowed": "a number"}]}
            ),
            "1 fault: peft.rank: a number",
        ),
        (
            "import os; os.kill(os.getpid(), 9)",
            "its process was killed by SIGKILL, perhaps because the memory was full",
        ),
        ("raise ValueError('odd')", "ValueError: odd"),
        ("exit(3)", "its process ended with code 3"),
        ("pass", "its process ended with code 0"),
    ],
)
def test_failed_trial_has_a_reason(trial, tmp_path, script, reason):
    outcome, _ = trial(script)
    assert (outcome.status, outcome.reason, outcome.metrics) == ("failed", reason, {})
    assert read_outcome(tmp_path / "runs") == outcome


def test_missing_metric_is_a_failure(trial):
    outcome, _ = trial(print_events({"event": "done"}), metric="val_medium")
    assert (outcome.status, outcome.reason) == ("failed", "val_medium is not a number")


@pytest.mark.parametrize(
    ("status", "resumed"), [("running", True), ("interrupted", True), ("done", True), ("failed", False), (None, False)]
)
def test_unfinished_run_is_resumed(tmp_path, status, resumed):
    folder = tmp_path / "bars/001"
    folder.mkdir(parents=True)
    (folder / "recipe.yaml").write_text("data: {root: x, size: 32}\ntrain: {epochs: 2}\n")
    (folder / "run.json").write_text(json.dumps({"status": status}) if status else "{")
    command = process._command(tmp_path)
    arguments = ["--resume", str(folder)] if resumed else [str(tmp_path / "recipe.yaml"), "--runs", str(tmp_path)]
    assert command[4:] == ["finetune", *arguments, "--json", "--no-report"]


@pytest.mark.parametrize("code", [130, 143])
def test_stopped_trial_has_no_outcome(trial, tmp_path, code):
    with pytest.raises(TrialStopped):
        trial(f"exit({code})")
    assert read_outcome(tmp_path / "runs") is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"status": "done"}', '{"keys": {}, "status": "done", "new": 1}'])
def test_damaged_outcome_is_none(tmp_path, text):
    (tmp_path / "trial.json").write_text(text)
    assert read_outcome(tmp_path) is None


def test_process_ends_with_its_parent():
    code = "import time\nfrom rsft.sweep.launch import end_with_parent\nend_with_parent()\nprint('up', flush=True)\n"
    child = subprocess.Popen(
        [sys.executable, "-c", f"{code}time.sleep(60)"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert child.stdout.readline() == b"up\n" and child.poll() is None
    child.stdin.close()
    assert child.wait(timeout=20) == -signal.SIGTERM
