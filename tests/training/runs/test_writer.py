"""A run folder appears whole, with the next free number."""

import json
import re
import shutil
import subprocess

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rsft.recipe.load import load_recipe
from rsft.training.runs.reader import find_runs, is_running
from rsft.training.runs.writer import Run, collect_provenance, git_state, mark_done
from rsft.utils.atomic_files import sha256
from tests.helpers.messages import mentions


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


@pytest.fixture
def create(recipe, tmp_path):
    """Return a function that creates a run on a chip store, and returns its folder in
    the folder of all runs."""
    runs = tmp_path / "runs"

    def run_on(store):
        data = recipe.data.model_copy(update={"root": str(store)})
        return str(
            Run.create(
                recipe.model_copy(update={"data": data}), runs
            ).folder.relative_to(runs)
        )

    return run_on


def change_store(store, change):
    """Change all tables of class names in a chip store, and with them the hash of its
    manifest."""
    dataset = json.loads((store / "dataset.json").read_text())
    names = {name: change(name) for name in dataset["classes"]}
    dataset["classes"] = list(names.values())
    dataset["groups"] = {
        group: [names[name] for name in members]
        for group, members in dataset["groups"].items()
    }
    (store / "dataset.json").write_text(json.dumps(dataset))
    table = pd.read_parquet(store / "manifest.parquet").replace({"class": names})
    pq.write_table(pa.Table.from_pandas(table), store / "manifest.parquet")


def test_a_run_folder_has_no_blanks(recipe, root, tmp_path):
    update = {
        "data": recipe.data.model_copy(update={"root": str(root)}),
        "name": "small network",
    }
    named = recipe.model_copy(update=update)
    assert (
        Run.create(named, tmp_path / "new").folder == tmp_path / "new/small-network/001"
    )
    (tmp_path / "old/small network/001").mkdir(parents=True)
    assert (
        Run.create(named, tmp_path / "old").folder == tmp_path / "old/small network/002"
    )
    assert (
        load_recipe(tmp_path / "new/small-network/001/recipe.yaml").name
        == "small network"
    )


def test_runs_of_another_store_have_their_own_folder(create, root, tmp_path, caplog):
    others = [shutil.copytree(root, tmp_path / name / "mine") for name in ("a", "b")]
    for other in others:  # the same classes
        table = pd.read_parquet(other / "manifest.parquet").assign(source=str(other))
        pq.write_table(pa.Table.from_pandas(table), other / "manifest.parquet")
    assert create(root) == "bars/001" and not caplog.text
    assert create(others[0]) == "bars-mine/001"
    assert re.search(mentions("runs/bars has", "runs/bars-mine"), caplog.text)
    assert create(others[1]) == "bars-mine-2/001"
    assert [create(store) for store in (root, *others)] == [
        "bars/002",
        "bars-mine/002",
        "bars-mine-2/002",
    ]


def test_runs_of_other_classes_have_their_own_folder(create, root, tmp_path):
    store = shutil.copytree(root, tmp_path / "mine")
    assert create(store) == "bars/001"
    change_store(store, str.upper)
    assert create(store) == "bars-mine/001"


def test_a_store_may_grow_and_move(create, root, tmp_path):
    store = shutil.copytree(root, tmp_path / "mine")
    assert create(store) == "bars/001"
    dataset = json.loads((store / "dataset.json").read_text())
    dataset["classes"].append("new")  # as `rsft data add --new-class` does
    (store / "dataset.json").write_text(json.dumps(dataset))
    assert create(store) == "bars/002"
    assert create(store.rename(tmp_path / "moved")) == "bars/003"


@pytest.mark.parametrize(
    "content",
    [
        [],
        {},
        {"data": None},
        {"data": "x"},
        {"data": {"root": ""}},
        {"data": {"root": "", "classes": 7}},
    ],
)
def test_a_damaged_run_does_not_count(create, root, tmp_path, content):
    assert create(root) == "bars/001"
    (tmp_path / "runs/bars/002").mkdir()
    (tmp_path / "runs/bars/002/run.json").write_text(json.dumps(content))
    (tmp_path / "runs/bars/003").mkdir()
    (tmp_path / "runs/bars/003/run.json").write_text("{")
    assert create(root) == "bars/004"


def test_nothing_is_left_of_a_run_that_could_not_begin(recipe, tmp_path, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as context, pytest.raises(KeyboardInterrupt):
        context.setattr(Run, "update", stop)
        Run.create(recipe, tmp_path)
    assert find_runs(tmp_path) == [] and list((tmp_path / recipe.name).iterdir()) == []


def test_a_number_that_another_process_takes_is_left_to_it(
    recipe, tmp_path, monkeypatch
):
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
    identity = [
        "-c",
        "user.name=x",
        "-c",
        "user.email=x@x",
        "-c",
        "commit.gpgsign=false",
    ]
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
    monkeypatch.setenv("RSFT_MATMUL", "torch")
    entries = collect_provenance(load_recipe(recipe_file), recipe_file)
    manifest = sha256(root / "manifest.parquet")
    assert entries["data"] == {"root": str(root.resolve()), "manifest_sha256": manifest}
    assert entries["classes"] == ["flat", "slanted", "steep"]
    assert entries["git"] is None and entries["recipe_file"] == str(
        recipe_file.resolve()
    )
    assert (
        entries["recipe"]["meta"]["lr"] == 0.05
        and entries["recipe"]["peft"]["rank"] == 4
    )
    assert {"rsft", "python", "torch", "numpy"} <= set(entries["versions"])
    assert entries["matmul"] == "torch"
    assert entries["hardware"]["cores"] >= 1 and entries["hardware"]["memory_gb"] > 0.5


@pytest.mark.parametrize(
    ("status", "after"), [("trained", "done"), ("failed", "failed")]
)
def test_only_a_trained_run_becomes_done(tmp_path, status, after):
    folder = tmp_path
    (folder / "run.json").write_text(json.dumps({"status": status, "seed": 3}))
    (folder / "checkpoints").mkdir()
    mark_done(folder)
    metadata = json.loads((folder / "run.json").read_text())
    assert metadata == {"status": after, "seed": 3}
    assert (folder / "checkpoints").exists() == (after == "failed")
