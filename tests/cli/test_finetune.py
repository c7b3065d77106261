"""Output of `rsft finetune` with --json and --quiet."""

import json
import sys
from pathlib import Path

import pandas as pd
import pytest

from rsft.cli import main
from rsft.evaluation import evaluate
from tests.helpers.killing import kill_at_call, run_until_killed
from tests.helpers.plugins import needs_plugin

pytestmark = pytest.mark.slow


@pytest.fixture
def rsft(monkeypatch, capsys, tmp_path):
    """Run a command in an empty folder; return its exit code, standard output and
    standard error."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["rsft", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        printed = capsys.readouterr()
        return stop.value.code or 0, printed.out, printed.err

    return run


@needs_plugin("trackers")
def test_json_events_of_a_run(rsft, recipe_file):
    code, out, _ = rsft(
        "finetune",
        recipe_file,
        "train.epochs=2",
        "track.to=[tensorboard]",
        "--json",
        "--no-report",
    )
    events = list(map(json.loads, out.splitlines()))
    tasks = [event["task"] for event in events if event["event"] == "progress"]
    assert events[0]["event"] == "progress" and {
        "weights of vit_tiny_patch8_64.simship",
        "calibration",
    } <= set(tasks)
    events = [event for event in events if event["event"] != "progress"]
    names = [event["event"] for event in events]
    assert (
        code == 0
        and names[0] == "started"
        and names[-1] == "done"
        and names.count("epoch") == 2
    )
    steps = [event for event in events if event["event"] == "step"]
    assert [step["done"] for step in steps] == list(range(1, steps[-1]["total"] + 1))
    assert all(
        step["inner_s"] > 0 and step["memory_mb"] > 100 and step["gpu_mb"] is None
        for step in steps
    )
    # the first epoch is the warm-up
    assert steps[-1]["outer_s"] > 0 and steps[0]["outer_s"] == 0
    run = Path(events[-1]["run"])
    row = pd.read_csv(run / "metrics.csv").iloc[-1]
    assert row[["data_s", "inner_s", "outer_s"]].sum() == pytest.approx(
        row["seconds"], rel=1e-3
    )
    assert row["memory_mb"] > 100 and not (run / "report.html").exists()
    assert list(run.glob("tensorboard/events.out.tfevents.*"))
    metadata = json.loads((run / "run.json").read_text())
    assert metadata["tracking"] == {"tensorboard": "tensorboard"} and metadata[
        "recipe_file"
    ] == str(recipe_file)


def test_json_event_of_an_error(rsft):
    code, out, err = rsft("finetune", "mstar_lt_small", "peft.rnk=3", "--json")
    event = json.loads(out)
    assert code == 2 and "peft.rank" in err
    assert event["event"] == "error" and [
        fault["key"] for fault in event["faults"]
    ] == ["peft.rnk"]
    code, out, _ = rsft("finetune", "mstar_lt_small", "data.root=nowhere", "--json")
    assert code == 2 and json.loads(out)["location"] == "nowhere"


def test_quiet(rsft, recipe_file):
    code, out, _ = rsft(
        "finetune", recipe_file, "train.epochs=1", "meta=null", "--quiet", "--no-report"
    )
    assert code == 0 and out == "runs/bars/001\n"


def test_a_run_that_is_killed_in_its_evaluation_gets_evaluation_and_report(
    rsft, recipe_file
):
    arguments = ["finetune", recipe_file, "train.epochs=1", "meta=null"]

    def train_and_die():
        kill_at_call(evaluate, "evaluate")
        sys.argv = ["rsft", *map(str, arguments)]
        main()

    run_until_killed(train_and_die, timeout_s=300)
    folder = Path("runs/bars/001")
    assert json.loads((folder / "run.json").read_text())["status"] == "trained"
    bundle = (folder / "bundle/bundle.json").read_bytes()
    _, out, _ = rsft("runs", "ls")
    assert "complete with: rsft finetune --resume runs/bars/001" in out
    code, _, err = rsft("finetune", "--resume")
    assert code == 0, err
    assert json.loads((folder / "run.json").read_text())["status"] == "done"
    assert (folder / "evaluation/metrics.json").is_file()
    assert "status of this run" not in (folder / "report.html").read_text("utf-8")
    assert (folder / "bundle/bundle.json").read_bytes() == bundle
    code, _, err = rsft("finetune", "--resume")
    assert code == 2 and "no unfinished run" in err
    assert "complete with" not in rsft("runs", "ls")[1]


def test_a_run_that_starts_at_a_bundle(rsft, run, root):
    before = sorted((path, path.stat().st_mtime_ns) for path in run.rglob("*"))
    code, out, err = rsft("finetune", "--from", run, "train.epochs=1", "--no-report")
    assert code == 0, err
    assert f"starts at {run / 'bundle'}" in out
    metadata = json.loads(Path("runs/bars/001/run.json").read_text())
    assert (
        metadata["start"]["bundle"] == str(run / "bundle")
        and metadata["recipe"]["train"]["epochs"] == 1
    )
    assert sorted((path, path.stat().st_mtime_ns) for path in run.rglob("*")) == before
    code, out, _ = rsft("runs", "show", "runs/bars")
    assert code == 0 and f"bundle: {run / 'bundle'}" in out


def test_a_recipe_that_does_not_agree_with_the_bundle(rsft, run, recipe_file):
    code, _, err = rsft("finetune", recipe_file, "--from", run, "peft.rank=2")
    assert (
        code == 2
        and "peft.rank  found 2" in err
        and "the bundle has 4: set peft.rank to it, or train without" in err
    )
    code, _, err = rsft("finetune", "--from", run, "--resume")
    assert code == 2 and "leave out --from or --resume" in err
    code, _, err = rsft("finetune", "--from", "nowhere", "train.epochs=1")
    assert code == 2 and "error: no bundle found\nwhere: nowhere" in err
