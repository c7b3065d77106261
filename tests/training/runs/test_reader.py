import json
import subprocess
import sys

import pytest

from rsft.errors import RequestError
from rsft.recipe.load import dump_recipe, load_recipe
from rsft.training.runs.reader import (
    find_runs,
    find_unfinished_run,
    is_running,
    lock_run,
    read_run_info,
    recipe_differences,
    remove_run,
    resolve_resume,
)

METRICS = {"methods": {"MetaLoRA": {"macro": {"value": 0.75}, "head": None, "micro": {"value": 0.5}}}}


@pytest.fixture
def write(tmp_path, recipe_file):
    """Make the folder of a run."""

    def make(number, status="done", *overrides, **facts):
        folder = tmp_path / "runs/bars" / number
        folder.mkdir(parents=True)
        (folder / "recipe.yaml").write_text(dump_recipe(load_recipe(recipe_file, overrides)))
        (folder / "run.json").write_text(json.dumps({"status": status, "started": f"2025-01-{number}"} | facts))
        return folder

    return make


def test_accuracy_is_that_of_the_evaluation_or_of_the_last_validation(write):
    folder = write("001")
    assert read_run_info(folder).accuracy == {}
    (folder / "metrics.csv").write_text("epoch,val_macro,val_micro\n0,0.25,0.5\n1,,\n")
    assert read_run_info(folder).accuracy == {"macro": 0.25, "micro": 0.5}
    (folder / "evaluation").mkdir()
    (folder / "evaluation/metrics.json").write_text(json.dumps(METRICS))
    assert read_run_info(folder).accuracy == {"macro": 0.75, "micro": 0.5}


@pytest.mark.parametrize(
    ("file", "content"), [("run.json", None), ("run.json", "{"), ("run.json", "[1]"), ("recipe.yaml", "train: 3")]
)
def test_a_broken_folder_is_told_not_raised(write, file, content):
    folder = write("001")
    (folder / file).unlink() if content is None else (folder / file).write_text(content)
    found = read_run_info(folder)
    assert found.status == "broken" and file in found.faults[0]
    assert find_runs(folder.parents[1]) == [found]


def test_a_run_whose_process_is_gone_was_killed(write):
    folder = write("001", "running")
    assert read_run_info(folder).status == "killed"
    code = (
        "import sys, pathlib; from rsft.training.runs import reader as runs; "
        "held = runs.hold(pathlib.Path(sys.argv[1])); print(1, flush=True)"
    )
    command = [sys.executable, "-c", f"{code}; input()", folder]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        assert is_running(folder) and read_run_info(folder).status == "running"
        with pytest.raises(RequestError, match="still goes on"):
            lock_run(folder, timeout_s=0)
        with pytest.raises(RequestError, match="still goes on"):
            remove_run(read_run_info(folder))
        process.kill()
    assert read_run_info(folder).status == "killed"


def test_the_newest_unfinished_run(write, tmp_path):
    write("001", "interrupted")
    write("002", "failed")
    write("003")
    assert [run.folder.name for run in find_runs(tmp_path / "runs")] == ["001", "002", "003"]
    assert find_unfinished_run(tmp_path / "runs").folder.name == "002"
    with pytest.raises(RequestError, match="no unfinished run"):
        find_unfinished_run(tmp_path / "runs/bars/003")
    with pytest.raises(RequestError, match="no such run"):
        read_run_info(tmp_path / "runs/bars/004")


def test_take_up(write, tmp_path, recipe_file):
    folder = write("001", "interrupted")
    for wish in (None, str(folder), str(folder.parent), str(recipe_file)):
        run, recipe = resolve_resume(wish, tmp_path / "runs", ["data.workers=2"])
        assert run.folder == folder and recipe.data.workers == 2
    with pytest.raises(RequestError, match=r"train\.lr, train\.epochs cannot change|train\.epochs, train\.lr cannot"):
        resolve_resume(str(folder), tmp_path / "runs", ["train.lr=1", "train.epochs=9", "train.device=cpu"])
    with pytest.raises(RequestError, match="no such recipe"):
        resolve_resume("nothing", tmp_path / "runs")
    with pytest.raises(RequestError, match="no unfinished run"):
        resolve_resume(None, tmp_path / "no runs yet")
    (folder / "recipe.yaml").write_text("")
    with pytest.raises(RequestError, match=r"recipe\.yaml: .* fault"):
        resolve_resume(str(folder), tmp_path / "runs")


def test_differences(write):
    runs = [read_run_info(write("001")), read_run_info(write("002", "done", "train.lr=1.0", "meta=null"))]
    found = recipe_differences(runs)
    assert found["train.lr"] == [0.02, 1.0] and found["meta.outer_every"] == [2, None]
    assert "train.epochs" not in found
