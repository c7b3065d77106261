"""The commands of `make quickstart`: they end with a map on which most ships are found
and many are right."""

import json
import re
import shlex
import shutil
import sqlite3
import subprocess
from pathlib import Path

import pyogrio
import pytest
from PIL import Image

from rsft.data.imagery.stretch import Stretch
from rsft.inference.options import PredictionRequest
from rsft.inference.predict import job
from rsft.plugins.demo import prepare as demo
from rsft.plugins.demo.prepare import prepare_demo_scene
from rsft.plugins.demo.scene import SCENE_CLASSES
from rsft.scenes.query import CfarOptions, Query
from tests.helpers.report_page import Page
from tests.helpers.scenes import toy_bundle, toy_contract, use_toy_model

REPOSITORY = Path(__file__).parents[3]
SHIPS = sum(SCENE_CLASSES.values())
FEW_CHIPS = {split: dict.fromkeys(demo.DEMO_CLASSES, 2) for split in ("val", "test")}
FEW_CHIPS["train"] = {"cargo": 8, "fishing": 6, "tanker": 4, "dredger": 4}


def quickstart_commands():
    """Return the arguments of every call of rsft in the target `quickstart`."""
    target = re.search(
        r"^quickstart:.*?\n((?:\t.*\n)+)",
        (REPOSITORY / "Makefile").read_text("utf-8"),
        re.MULTILINE,
    )
    assert target is not None
    lines = target[1].replace("\\\n", " ").splitlines()
    return [
        shlex.split(line.split("$(BIN)/rsft ")[1])
        for line in lines
        if "$(BIN)/rsft " in line
    ]


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize(
    ("target", "extra"),
    [("quickstart", "--editable ."), ("test", "--editable '.[dev]'")],
)
def test_the_quick_start_installs_what_rsft_requires_and_shows_the_progress(
    target, extra
):
    command = ["make", "--dry-run", "--always-make", target]
    done = subprocess.run(
        command, cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    installations = [line for line in done.stdout.splitlines() if "pip install" in line]
    assert installations[-1].endswith(extra) and installations[0].endswith(
        "--editable ."
    )
    assert "--quiet" not in done.stdout


@pytest.mark.exhaustive
def test_detection_finds_the_ships_of_the_scene(monkeypatch, tmp_path):
    contract = toy_contract(units={"uint16": (Stretch(high=856.0),) * 3}, crop=96)
    use_toy_model(
        monkeypatch, toy_bundle(classes=("cargo", "fishing"), contract=contract)
    )
    scene = tmp_path / "scene"
    prepare_demo_scene(scene, 1)
    request = PredictionRequest(
        query=Query(detect=CfarOptions(land=scene / "land.gpkg")),
        truth_path=scene / "ships.gpkg",
        picture_path=tmp_path / "map.png",
    )
    result = job.predict(
        Path("bundle"), [scene / "scene.tif"], tmp_path / "out.gpkg", request
    )
    (check,) = result.truth
    assert (
        check.objects >= SHIPS - 3
        and check.found >= 0.9 * check.objects
        and check.other <= 5
    )
    layer = pyogrio.read_dataframe(tmp_path / "out.gpkg", layer="predictions")
    assert (
        len(layer) == check.found + check.other
        and layer.geometry.is_valid.all()
        and layer.crs == "EPSG:4326"
    )
    assert result.notes[-1] == str(check) and "found" in result.notes[-1]


@pytest.mark.slow
@pytest.mark.parametrize(
    "is_whole", [False, pytest.param(True, marks=pytest.mark.exhaustive)]
)
def test_quickstart_ends_with_a_map(rsft, monkeypatch, tmp_path, is_whole):
    """Run the whole quick start, or one epoch with few chips."""
    if not is_whole:
        monkeypatch.setattr(demo, "DEMO_COUNTS", FEW_CHIPS)
        monkeypatch.setattr(demo, "DEMO_SCENES", 2)
    epochs = [] if is_whole else ["train.epochs=1", "evaluate.baselines=0"]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipes").symlink_to(REPOSITORY / "recipes")
    prepare, audit, finetune, predict, report = quickstart_commands()
    for command in (prepare, audit, [*finetune, *epochs]):
        code, printed = rsft(*command)
        assert code == 0, printed
    code, printed = rsft(*predict, "--json")
    assert code == 0, printed
    done = json.loads(
        [line for line in printed.splitlines() if line.startswith("{")][-1]
    )
    (truth,) = done["truth"]
    assert truth["objects"] == SHIPS and truth["found"] >= 28 and truth["other"] <= 6
    assert not is_whole or truth["right"] >= 24  # 31 where it was measured
    layer = pyogrio.read_dataframe("runs/quickstart/scene.gpkg", layer="predictions")
    assert len(layer) == done["chips"] and layer.geometry.is_valid.all()
    with sqlite3.connect("runs/quickstart/scene.gpkg") as database:
        assert (
            "dredger"
            in database.execute("SELECT styleQML FROM layer_styles").fetchone()[0]
        )
    code, printed = rsft(*report)
    assert code == 0, printed
    page = Page(next((tmp_path / "runs/quickstart").glob("*/report.html")).read_text())
    assert f"{truth['found']} of {SHIPS} true objects found" in page.sections["header"]
    width, height = Image.open("runs/quickstart/map.png").size
    assert (
        width > height > 800
        and (tmp_path / "runs/quickstart/review.html").stat().st_size > 10**5
    )
    assert (
        len(list((tmp_path / "runs/quickstart/chips").glob("*.tif"))) == done["chips"]
    )
