import json
import subprocess
import sys

import pytest

from rsft.errors import RequestError
from rsft.recipe.load import dump_recipe, load_recipe
from rsft.training.runs import reader
from rsft.training.runs.reader import (
    find_newest_run,
    find_runs,
    find_runs_folder,
    is_running,
    lock_run,
    read_run_info,
    recipe_differences,
    remove_run,
    resolve_resume,
)
from tests.helpers.messages import mentions

METRICS = {
    "methods": {
        "MetaLoRA": {"macro": {"value": 0.75}, "head": None, "micro": {"value": 0.5}}
    }
}

LOCK_A_RUN = (
    "import pathlib, sys; from rsft.training.runs.reader import lock_run; "
    "lock = lock_run(pathlib.Path(sys.argv[1])); print(1, flush=True); input()"
)


@pytest.fixture
def make_run_folder(tmp_path, recipe_file):
    """A function that makes a run folder."""

    def make(number, status="done", *overrides, **metadata):
        folder = tmp_path / "runs/bars" / number
        folder.mkdir(parents=True)
        (folder / "recipe.yaml").write_text(
            dump_recipe(load_recipe(recipe_file, overrides))
        )
        (folder / "run.json").write_text(
            json.dumps({"status": status, "started": f"2025-01-{number}"} | metadata)
        )
        return folder

    return make


def test_accuracy_is_that_of_the_evaluation(make_run_folder):
    folder = make_run_folder("001")
    assert read_run_info(folder).accuracy == {}
    (folder / "evaluation").mkdir()
    (folder / "evaluation/metrics.json").write_text(json.dumps(METRICS))
    assert read_run_info(folder).accuracy == {"macro": 0.75, "micro": 0.5}


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("run.json", None),
        ("run.json", "{"),
        ("run.json", "[1]"),
        ("run.json", '{"status": "done", "position": 3}'),
        ("recipe.yaml", "train: 3"),
    ],
)
def test_a_damaged_run_folder_is_broken_and_raises_no_error(
    make_run_folder, file, content
):
    folder = make_run_folder("001")
    (folder / file).unlink() if content is None else (folder / file).write_text(content)
    info = read_run_info(folder)
    assert info.status == "broken" and file in info.faults[0]
    assert find_runs(folder.parents[1]) == [info]


@pytest.mark.slow
def test_a_run_whose_process_has_ended_was_killed(make_run_folder):
    folder = make_run_folder("001", "running")
    assert read_run_info(folder).status == "killed"
    command = [sys.executable, "-c", LOCK_A_RUN, folder]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        process.stdout.readline()
        assert is_running(folder) and read_run_info(folder).status == "running"
        with pytest.raises(
            RequestError, match=mentions("in progress", "another process")
        ):
            lock_run(folder, timeout_s=0)
        with pytest.raises(RequestError, match=mentions("in progress")):
            remove_run(read_run_info(folder))
        process.kill()
    assert read_run_info(folder).status == "killed"


def test_the_newest_unfinished_run(make_run_folder, tmp_path):
    make_run_folder("001", "interrupted")
    make_run_folder("002", "failed")
    make_run_folder("003")
    assert [run.folder.name for run in find_runs(tmp_path / "runs")] == [
        "001",
        "002",
        "003",
    ]
    assert resolve_resume(None, tmp_path / "runs")[0].folder.name == "002"
    with pytest.raises(RequestError, match=mentions("run folder", "not exist")):
        read_run_info(tmp_path / "runs/bars/004")


def test_resolve_resume(make_run_folder, tmp_path, recipe_file):
    folder = make_run_folder("001", "interrupted")
    for request in (None, str(folder), str(folder.parent), str(recipe_file)):
        run, recipe = resolve_resume(request, tmp_path / "runs")
        assert run.folder == folder and recipe == run.recipe
    with pytest.raises(RequestError, match="no such recipe"):
        resolve_resume("nothing", tmp_path / "runs")
    with pytest.raises(RequestError, match="no unfinished run"):
        resolve_resume(None, tmp_path / "no runs yet")
    (folder / "recipe.yaml").write_text("")
    with pytest.raises(RequestError, match=r"recipe\.yaml: .* fault"):
        resolve_resume(str(folder), tmp_path / "runs")


def test_folders_of_runs_have_no_blanks(tmp_path):
    assert (
        find_runs_folder(tmp_path, "my  small\tnetwork")
        == tmp_path / "my-small-network"
    )
    assert find_runs_folder(tmp_path, "bars") == tmp_path / "bars"


def test_a_folder_with_blanks_of_an_earlier_version_stays_in_use(
    make_run_folder, tmp_path, recipe_file
):
    recipe_file.write_text(recipe_file.read_text() + "name: small bars\n")
    folder = make_run_folder("001", "interrupted").parent.rename(
        tmp_path / "runs/small bars"
    )
    assert find_runs_folder(tmp_path / "runs", "small bars") == folder
    (run,) = find_runs(folder)
    assert (
        run.folder == find_newest_run(folder) == folder / "001"
        and run.recipe.name == "small bars"
    )
    for request in (None, str(folder), str(folder / "001"), str(recipe_file)):
        assert resolve_resume(request, tmp_path / "runs")[0].folder == folder / "001"


def test_a_recipe_resumes_its_newest_run_on_any_data(
    make_run_folder, tmp_path, recipe_file
):
    make_run_folder("001", "interrupted").parent.rename(tmp_path / "runs/bars-mine")
    make_run_folder("002", "done")
    assert (
        resolve_resume(str(recipe_file), tmp_path / "runs")[0].folder
        == tmp_path / "runs/bars-mine/001"
    )
    with pytest.raises(RequestError, match="no unfinished run"):
        resolve_resume(str(tmp_path / "runs/bars"), tmp_path / "runs")


def test_resolve_resume_reads_the_recipe_once(make_run_folder, tmp_path, monkeypatch):
    folder = make_run_folder("001", "interrupted")
    paths = []
    monkeypatch.setattr(
        reader,
        "load_recipe",
        lambda path, *args, **options: paths.append(path) or load_recipe(path),
    )
    run, recipe = resolve_resume(str(folder), tmp_path / "runs")
    assert paths == [folder / "recipe.yaml"] and recipe is run.recipe


def test_recipe_differences(make_run_folder):
    runs = [
        read_run_info(make_run_folder("001")),
        read_run_info(make_run_folder("002", "done", "train.lr=1.0", "meta=null")),
    ]
    differences = recipe_differences(runs)
    assert differences["train.lr"] == [0.02, 1.0] and differences[
        "meta.outer_every"
    ] == [2, None]
    assert "train.epochs" not in differences


def test_the_newest_run_of_a_recipe(make_run_folder):
    folders = [make_run_folder(number) for number in ("002", "010", "9")]
    runs = folders[0].parent
    assert (
        find_newest_run(runs) == folders[1]
        and find_newest_run(folders[0]) == folders[0]
    )
    assert find_newest_run(runs / "none") == runs / "none"
    # the folder of all recipes has no numbered run
    assert find_newest_run(runs.parent) == runs.parent
