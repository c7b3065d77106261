"""Commands of `rsft runs`, and resuming a run."""

import json
import shutil

import pytest


@pytest.fixture
def runs(run, tmp_path):
    """A finished, an interrupted and a broken run."""
    for number in ("001", "002"):
        shutil.copytree(run, tmp_path / "runs/bars" / number)
    folder = tmp_path / "runs/bars/002"
    metadata = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(metadata | {"status": "interrupted", "position": [1, 2]}))
    text = (folder / "recipe.yaml").read_text()
    assert "lr: 0.02 " in text
    (folder / "recipe.yaml").write_text(text.replace("lr: 0.02 ", "lr: 0.04 "))
    (tmp_path / "runs/bars/003").mkdir()


def test_ls(rsft, runs):
    code, printed = rsft("runs", "ls")
    lines = [" ".join(line.split()) for line in printed.splitlines()]
    assert code == 0 and len(lines) == 6
    assert lines[1].startswith("runs/bars/003 broken")
    assert lines[2].startswith("runs/bars/001 done") and " 3/3 " in lines[2]
    assert lines[3].startswith("runs/bars/002 interrupted") and " 1/3 " in lines[3]
    assert "run.json is missing or damaged" in printed


def test_show(rsft, runs):
    code, printed = rsft("runs", "show", "runs/bars/002")
    assert code == 0 and "interrupted" in printed and "train_chips" in printed
    assert "rsft finetune --resume runs/bars/002" in printed
    assert rsft("runs", "show", "runs/bars/003")[0] == 0
    assert rsft("runs", "show", "runs/bars/004")[0] == 2


def test_compare(rsft, runs):
    code, printed = rsft("runs", "compare", "runs/bars/001", "runs/bars/002")
    lines = {line.split()[0]: line.split()[1:] for line in printed.splitlines() if line.strip()}
    assert code == 0 and lines["train.lr"] == ["0.02", "0.04"] and lines["status"] == ["done", "interrupted"]
    assert "train.epochs" not in lines


def test_rm(rsft, runs, tmp_path, monkeypatch):
    monkeypatch.setattr("typer.confirm", lambda text: False)
    assert rsft("runs", "rm", "runs/bars/001")[0] == 0 and (tmp_path / "runs/bars/001").exists()
    assert rsft("runs", "rm", "runs/bars/001", "runs/bars/003", "--yes")[0] == 0
    assert sorted(path.name for path in (tmp_path / "runs/bars").iterdir()) == ["002"]


def test_no_runs(rsft):
    assert rsft("runs", "ls") == (0, "no runs in runs\n")


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
    assert code == 2 and "train.epochs cannot change" in printed
    assert rsft("finetune", "--resume", "data.workers=0", "--quiet") == (0, "runs/bars/001\n")
    assert (tmp_path / "runs/bars/001/report.html").exists()
    code, printed = rsft("finetune", "--resume")
    assert code == 2 and "no unfinished run" in printed
    assert rsft("finetune", "--resume", "runs/bars/001", "--quiet") == (0, "runs/bars/001\n")
