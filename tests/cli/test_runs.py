"""Commands of `rsft runs`, and resuming a run."""

import json
import re
import shutil
from pathlib import Path

import pytest


@pytest.fixture
def runs(run, tmp_path):
    """A finished, an interrupted and a broken run."""
    for number in ("001", "002"):
        shutil.copytree(run, tmp_path / "runs/bars" / number)
    folder = tmp_path / "runs/bars/002"
    metadata = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(
        json.dumps(metadata | {"status": "interrupted", "position": [1, 2]})
    )
    text = (folder / "recipe.yaml").read_text()
    assert "lr: 0.02 " in text
    (folder / "recipe.yaml").write_text(text.replace("lr: 0.02 ", "lr: 0.04 "))
    (tmp_path / "runs/bars/003").mkdir()


def test_ls(rsft, runs):
    code, printed = rsft("runs", "ls")
    lines = [" ".join(line.split()) for line in printed.splitlines() if line.strip()]
    assert code == 0 and len(lines) == 7
    assert lines[2].startswith("runs/bars/003 broken")
    assert lines[3].startswith("runs/bars/001 done") and " 3/3 " in lines[3]
    assert lines[4].startswith("runs/bars/002 interrupted") and " 1/3 " in lines[4]
    assert "run.json is missing or damaged" in printed


def test_accuracy_of_leaking_chips_is_marked(rsft, runs):
    assert "*" not in rsft("runs", "ls")[1]
    path = Path("runs/bars/001/evaluation/metrics.json")
    leaks = {"chips": 4, "identical": 4, "group": 0, "vessel": 0}
    path.parent.mkdir()
    path.write_text(
        json.dumps({"methods": {"LoRA": {"micro": {"value": 1.0}}}, "leaks": leaks})
    )
    for command in (
        ("ls",),
        ("show", "runs/bars/001"),
        ("compare", "runs/bars/001", "runs/bars/002"),
    ):
        printed = " ".join(rsft("runs", *command)[1].split())
        assert (
            re.search(r" \d+\.\d\* ", printed)
            and "* runs/bars/001: 4 evaluated chips leak" in printed
        )


def test_show(rsft, runs):
    code, printed = rsft("runs", "show", "runs/bars/002")
    assert code == 0 and "interrupted" in printed and "train_chips" in printed
    assert "rsft finetune --resume runs/bars/002" in printed
    assert rsft("runs", "show", "runs/bars/003")[0] == 0
    assert rsft("runs", "show", "runs/bars/004")[0] == 2


def test_compare(rsft, runs):
    code, printed = rsft("runs", "compare", "runs/bars/001", "runs/bars/002")
    lines = {
        line.split()[0]: line.split()[1:]
        for line in printed.splitlines()
        if line.strip()
    }
    assert (
        code == 0
        and lines["train.lr"] == ["0.02", "0.04"]
        and lines["status"] == ["done", "interrupted"]
    )
    assert "train.epochs" not in lines


@pytest.mark.slow
def test_folder_of_runs_stands_for_its_newest_run(rsft, runs, tmp_path):
    shutil.rmtree(tmp_path / "runs/bars/003")
    shutil.copytree(tmp_path / "runs/bars/001", tmp_path / "runs/other/9")
    code, printed = rsft("runs", "compare", "runs/bars", "runs/other")
    assert (
        code == 0
        and "broken" not in printed
        and "runs/bars/002" in printed
        and "runs/other/9" in printed
    )
    assert (
        "rsft finetune --resume runs/bars/002" in rsft("runs", "show", "runs/bars")[1]
    )
    code, printed = rsft("report", "runs/other", "--no-pictures")
    assert code == 0 and "runs/other/9/report.html" in printed


def test_rm_takes_no_folder_of_runs(rsft, runs, tmp_path):
    code, printed = rsft("runs", "rm", "runs/bars", "--yes")
    assert (
        code == 2
        and "contains runs and is not a run" in printed
        and "runs/bars/003" in printed
    )
    assert (tmp_path / "runs/bars/001").is_dir()


def test_rm(rsft, runs, tmp_path, monkeypatch):
    monkeypatch.setattr("typer.confirm", lambda text: False)
    assert (
        rsft("runs", "rm", "runs/bars/001")[0] == 0
        and (tmp_path / "runs/bars/001").exists()
    )
    assert rsft("runs", "rm", "runs/bars/001", "runs/bars/003", "--yes")[0] == 0
    assert sorted(path.name for path in (tmp_path / "runs/bars").iterdir()) == ["002"]


def test_no_runs(rsft):
    assert rsft("runs", "ls") == (0, "no runs in runs\n")


@pytest.mark.slow
def test_resume(rsft, recipe_file, monkeypatch, tmp_path):
    import os
    import signal

    from rsft.training import fit

    train_on_batch = fit.train_on_batch

    def stop(*arguments):
        os.kill(os.getpid(), signal.SIGTERM)
        return train_on_batch(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(fit, "train_on_batch", stop)
        code, printed = rsft("finetune", recipe_file)
    assert code == 143 and "rsft finetune --resume runs/bars/001" in printed
    code, printed = rsft("finetune", "--resume", recipe_file, "train.epochs=9")
    assert code == 2 and "a resumed run keeps its recipe" in printed
    assert rsft("finetune", "--resume", "--quiet") == (
        0,
        "runs/bars/001\n",
    )
    assert (tmp_path / "runs/bars/001/report.html").exists()
    code, printed = rsft("finetune", "--resume")
    assert code == 2 and "no unfinished run" in printed
    assert rsft("finetune", "--resume", "runs/bars/001", "--quiet") == (
        0,
        "runs/bars/001\n",
    )


@pytest.mark.parametrize("digest", [None, "f" * 64])
def test_a_finished_run_is_not_evaluated_on_other_chips(rsft, run, tmp_path, digest):
    """The store may have changed, or a stranger's run names any."""
    folder = Path(shutil.copytree(run, tmp_path / "runs/foreign/001"))
    metadata = json.loads((folder / "run.json").read_text())
    metadata["data"]["manifest_sha256"] = digest
    (folder / "run.json").write_text(json.dumps(metadata))
    code, printed = rsft("finetune", folder, "--resume", "--no-report")
    assert code == 2 and "the chips have changed since the run began" in printed
