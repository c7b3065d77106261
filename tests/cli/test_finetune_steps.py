"""`rsft finetune` and `rsft.finetune` with chips or scenes: all steps, their commands,
and what a second call keeps."""

import json
import os
import shlex
import shutil
from pathlib import Path

import geopandas
import pytest
import shapely

from rsft.cli import finetune, finetune_steps
from rsft.cli.finetune_steps import FinetuneRequest, Source, Steps, find_steps
from rsft.data.chips.store import ChipStore, read_dataset
from rsft.errors import RequestError
from rsft.models.bundle.bundle import Bundle
from rsft.utils.cell.client import open_cell, separate_cell
from rsft.utils.cell.named import SETTING
from tests.helpers.scenes import UTM, simulate_sea, write_geotiff

SHORT = ("train.epochs=1", "budget=0s", "--no-report")


def learned(run):
    """Return the tensors of a run as bytes, by name."""
    return {
        name: tensor.numpy().tobytes()
        for name, tensor in Bundle.load(Path(run)).tensors.items()
    }


@pytest.fixture
def chips(class_folders, tmp_path):
    """Class folders below the working directory, with a space in their name."""
    return Path(shutil.copytree(class_folders, tmp_path / "my bars").name)


@pytest.fixture
def stopped(monkeypatch):
    """End `rsft finetune` before the choice of a recipe."""

    def stop(path, request, steps):
        raise RequestError("stopped by the test", steps.root)

    monkeypatch.setattr(finetune, "choose_run", stop)


@pytest.mark.exhaustive
def test_all_steps_are_the_printed_commands_and_continue(
    rsft, chips, tmp_path, monkeypatch
):
    code, printed = rsft("finetune", chips, *SHORT)
    assert code == 0, printed
    lines = printed.splitlines()
    titles = [line.partition(":")[0] for line in lines if line.startswith("step ")]
    names = ("prepare", "audit", "choose", "train", "report")
    assert titles == [
        f"step {number} of 5, {name}" for number, name in enumerate(names, 1)
    ]
    commands = [shlex.split(line)[1:] for line in lines if line.startswith("  rsft ")]
    assert commands[:2] == [
        ["prepare", "folder", "my bars", "--root", "data/my-bars"],
        ["audit", "data/my-bars"],
    ]

    run = Path("runs/my-bars/001")
    before = learned("runs/my-bars/001")
    code, printed = rsft("finetune", chips, *SHORT)
    assert (
        code == 0
        and "kept data/my-bars/audit.json" in printed
        and "kept runs/my-bars/001, done" in printed
    ), printed
    assert (
        f"rsft finetune {run}/recipe.yaml" in printed
        and not Path("runs/my-bars/002").exists()
    )

    metadata = json.loads((run / "run.json").read_text())
    # as if it was killed
    (run / "run.json").write_text(json.dumps(metadata | {"status": "running"}))
    shutil.rmtree(run / "bundle")
    code, printed = rsft("finetune", chips, *SHORT)
    assert code == 0 and "kept runs/my-bars/001, killed" in printed, printed
    assert (
        learned(run) == before
        and json.loads((run / "run.json").read_text())["status"] == "done"
    )

    (tmp_path / "apart").mkdir()
    shutil.copytree(chips, tmp_path / "apart" / chips)
    monkeypatch.chdir(tmp_path / "apart")
    for words in commands:
        code, printed = rsft(*words)
        assert code == 0, printed
    assert learned(run) == before
    for file in ("audit.json", "chips/val/flat/0.png"):
        assert (
            Path("data/my-bars", file).read_bytes()
            == (tmp_path / "data/my-bars" / file).read_bytes()
        )


def test_a_scene_with_labels(rsft, tmp_path, stopped):
    pixels = simulate_sea(128, 128)
    pixels[20:30, 20:50] = pixels[20:30, 80:90] = pixels[90:94, 20:50] = pixels[
        90:94, 80:90
    ] = 3
    options = {
        "crs": "EPSG:32633",
        "transform": UTM,
        "names": ("VV",),
        "units": ("sigma0",),
    }
    write_geotiff(tmp_path / "scene.tif", pixels**2, **options)
    places = [(35, 25), (85, 25), (35, 92), (85, 92)]
    rows = {
        "type": ["cargo", "tug"] * 2,
        "geometry": [shapely.Point(UTM @ place).buffer(200) for place in places],
    }
    geopandas.GeoDataFrame(rows, crs="EPSG:32633").to_file(tmp_path / "ships.gpkg")
    words = ("--at", "ships.gpkg", "--prepare", "--size 32 --val 0.5 --jobs 1")
    # as in the program: preparation and audit have cells
    with separate_cell():
        open_cell([tmp_path / "scene.tif"])
        setting = os.environ[SETTING]
        code, printed = rsft(
            "finetune", "scene.tif", *words, "--root", "store", "name=first"
        )
        assert os.environ[SETTING] == setting
    assert SETTING not in os.environ
    assert code == 2 and "stopped by the test" in printed, printed
    assert "4 chips in store" in printed
    assert "chips of one scene are in several splits" in printed
    command = "rsft prepare scenes scene.tif --root store --at ships.gpkg"
    assert f"{command} --size 32 --val 0.5 --jobs 1" in printed
    assert (
        len(ChipStore.open(Path("store")).table) == 4
        and Path("store/audit.json").is_file()
    )
    assert read_dataset(Path("store"))["command"].startswith(
        "rsft prepare scenes scene.tif --root store"
    )

    code, printed = rsft(
        "finetune", "scene.tif", *words[:2], "--prepare=--bogus", "--root", "other"
    )
    assert code == 2 and "a step failed" in printed and "--prepare" in printed
    assert "No such option: --bogus" in printed and "rsft prepare scenes" in printed
    Path("scenes").mkdir()
    steps = find_steps(FinetuneRequest("scenes", prepare="--ais ais.csv"))
    assert steps.commands["prepare"] == shlex.split(
        "rsft prepare scenes scenes --root data/scenes --ais ais.csv"
    )


def test_json_and_quiet(rsft, chips, stopped):
    code, printed = rsft("finetune", chips, "--json")
    events = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    assert code == 2 and [(event["event"], event.get("name")) for event in events] == [
        ("begin", "prepare"),
        ("begin", "audit"),
        ("error", None),
    ]
    assert events[1] == {
        **events[1],
        "number": 2,
        "of": 5,
        "command": "rsft audit data/my-bars",
    }
    code, printed = rsft("finetune", chips, "--quiet")
    assert code == 2 and "step" not in printed and "stopped by the test" in printed


def test_a_store_that_was_built_otherwise(rsft, chips, stopped):
    assert "stopped by the test" in rsft("finetune", chips, "--prepare", "--val 0.4")[1]
    code, printed = rsft("finetune", chips)
    assert (
        code == 2
        and "a chip store already exists" in printed
        and "a finished chip store is given" in printed
    )


def test_what_is_neither(rsft, chips, recipe_file, root):
    Path("empty").mkdir()
    Path("scenes").mkdir()
    Path("scenes/a.tif").write_bytes(b"")
    for name in ("empty", "scenes", "scenes/a.tif"):
        code, printed = rsft("finetune", name)
        assert code == 2 and "neither a recipe, nor a chip store" in printed, printed
        assert f"rsft finetune {name} --at LABELS" in printed
    code, printed = rsft("finetune", "no_such_recipe")
    assert code == 2 and "no such recipe" in printed
    code, printed = rsft("finetune", recipe_file, "--root", "x")
    assert code == 2 and "prepared already" in printed
    code, printed = rsft("finetune", root, "--prepare", "--val 0.3")
    assert code == 2 and "prepared already" in printed
    code, printed = rsft("finetune", chips, "train.epoch=3", "for=best")
    # before the chips are prepared
    assert code == 2 and "macro | tail" in printed and not Path("data").exists()
    code, printed = rsft("finetune", chips, "train.epoch=3")
    assert code == 2 and "train.epochs" in printed and not Path("data").exists()
    code, printed = rsft("finetune", chips, "--from", "x")
    assert code == 2 and "leave out --from" in printed


@pytest.mark.parametrize(
    ("source", "root"),
    [
        ("chips", "data/chips"),
        ("a/My ships.tif", "data/My-ships"),
        ("*.tif", "data/chips"),
        ("data/ships", "data/ships-chips"),
        ("data", "data-chips"),
        (".hidden", "data/hidden"),
    ],
)
def test_the_store_never_lies_in_its_source(tmp_path, monkeypatch, source, root):
    monkeypatch.chdir(tmp_path)
    if "." in source[1:]:
        Path("a").mkdir()
        Path(source).write_text("")
    else:
        Path(source).mkdir(parents=True)
    # the name alone, without the build and the training that come with it
    assert finetune_steps._choose_root(Path(source)) == Path(root)


def test_overrides_and_options_are_in_the_command(root):
    request = FinetuneRequest(
        str(root),
        ["budget=1min", "name=a b"],
        runs=Path("r"),
        no_report=True,
    )
    steps = Steps(request, Source.STORE)
    keys = [
        f"data.root={root}",
        f"name={root.name}",
        "budget=1min",
        "name=a b",
    ]
    assert steps.commands["choose"] == [
        "rsft",
        "finetune",
        "auto",
        *keys,
        "--no-report",
        "--runs",
        "r",
    ]
    assert list(steps.commands) == ["audit", "choose"]
