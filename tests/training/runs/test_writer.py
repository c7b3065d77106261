"""A run folder appears whole, with the next free number."""

import json
import subprocess

import pytest

from rsft.recipe.load import load_recipe
from rsft.training.runs.reader import find_runs, is_running
from rsft.training.runs.writer import Run, collect_provenance, git_state
from rsft.utils.atomic_files import sha256


@pytest.fixture
def recipe(recipe_file):
    return load_recipe(recipe_file)


def test_numbers_follow_the_highest_one(recipe, tmp_path):
    first = Run.create(recipe, tmp_path)
    (tmp_path / recipe.name / "007").mkdir()
    second = Run.create(recipe, tmp_path)
    assert [run.folder.name for run in (first, second)] == ["001", "008"]
    assert json.loads((second.folder / "run.json").read_text())["status"] == "running"
    assert is_running(second.folder)


def test_nothing_is_left_of_a_run_that_could_not_begin(recipe, tmp_path, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as context, pytest.raises(KeyboardInterrupt):
        context.setattr(Run, "update", stop)
        Run.create(recipe, tmp_path)
    assert find_runs(tmp_path) == [] and list((tmp_path / recipe.name).iterdir()) == []


def test_a_number_that_another_process_takes_is_left_to_it(recipe, tmp_path, monkeypatch):
    update = Run.update

    def take_the_number(run, **entries):
        other = tmp_path / recipe.name / "001"
        if not other.exists():
            other.mkdir()
            (other / "run.json").write_text("of another process")
        update(run, **entries)

    monkeypatch.setattr(Run, "update", take_the_number)
    run = Run.create(recipe, tmp_path)
    assert run.folder.name == "002" and (run.folder / "recipe.yaml").is_file()
    assert (tmp_path / recipe.name / "001/run.json").read_text() == "of another process"


def git(folder, *arguments):
    identity = ["-c", "user.name=x", "-c", "user.email=x@x", "-c", "commit.gpgsign=false"]
    command = ["git", *identity, "-C", str(folder), *arguments]
    process = subprocess.run(command, check=True, capture_output=True, text=True)
    return process.stdout.strip()


def test_git_state(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text("seed: 0")
    assert git_state(file) is None
    git(tmp_path, "init")
    assert git_state(file) is None  # no commit yet
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "x")
    commit = git(tmp_path, "rev-parse", "HEAD")
    assert git_state(file) == {"commit": commit, "dirty": False}
    file.write_text("seed: 1")
    assert git_state(file) == {"commit": commit, "dirty": True}


def test_the_origin_of_a_run(recipe_file, root, monkeypatch):
    monkeypatch.setenv("PATH", "")  # no git
    entries = collect_provenance(load_recipe(recipe_file), recipe_file)
    assert entries["data"] == {"root": str(root.resolve()), "manifest_sha256": sha256(root / "manifest.parquet")}
    assert entries["git"] is None and entries["recipe_file"] == str(recipe_file.resolve())
    assert entries["recipe"]["meta"]["lr"] == 0.05 and entries["recipe"]["peft"]["rank"] == 4
    assert {"rsft", "python", "torch", "numpy"} <= set(entries["versions"])
    assert entries["hardware"]["cores"] >= 1 and entries["hardware"]["memory_gb"] > 0.5
