"""Run every command of docs/analyst.md."""

import csv
import re
import shlex
import shutil
import sys
from pathlib import Path

import cv2
import geopandas
import numpy as np
import pandas as pd
import pyogrio
import pytest
import shapely

from rsft.cli import main
from rsft.data.chips.store import ChipStore
from rsft.data.prepare.image_folder import prepare_folder
from rsft.recipe.load import load_recipe
from rsft.training.finetune import finetune
from tests.helpers.bars_recipe import BARS_RECIPE
from tests.helpers.scenes import UTM, simulate_sea, write_geotiff
from tests.helpers.sentinel1 import write_product, zip_product

DOC = (Path(__file__).parents[3] / "docs/analyst.md").read_text("utf-8")
AIS_SECTION = re.compile(
    r"^## From a scene and AIS.*?(?=^## )", re.MULTILINE | re.DOTALL
)
"""Its commands are those of the tutorial, which tests/plugins/demo/test_scene_and_ais.py runs."""
COMMANDS = re.findall(r"^    \$ (rsft .*)$", AIS_SECTION.sub("", DOC), re.MULTILINE)
SHIPS = [(40, 40), (60, 140), (120, 60)]  # row, col
RADAR_RANGES = {"incidence_deg": (30, 46.2), "row": (35, 125), "col": (35, 145)}


@pytest.fixture(scope="module")
def decibel_bundle(tmp_path_factory):
    """Folder of the bundle of a model of chips in dB."""
    return train_decibels(tmp_path_factory.mktemp("decibels"))


@pytest.fixture
def desk(run, decibel_bundle, root, tmp_path, monkeypatch):
    """Make what the commands need: a bundle, chips, a scene with three ships, their
    positions, land."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(run / "bundle", "runs/ships/1/bundle")
    shutil.copy(run / "run.json", "runs/ships/1")
    shutil.copytree(root / "chips/val", "chips")
    shutil.copytree(root, "data/ships")
    water = 20 * simulate_sea(160, 192)
    for row, col in SHIPS:
        cv2.line(water, (col - 9, row - 4), (col + 9, row + 4), 240.0, 3)
    pixels = np.clip(water, 1, 255).astype(np.uint8)
    write_geotiff(tmp_path / "scene.tif", pixels, crs="EPSG:32633", transform=UTM)
    write_geotiff(tmp_path / "coarse.tif", pixels)
    x, y = UTM @ (
        np.array([col for _, col in SHIPS], float),
        np.array([row for row, _ in SHIPS], float),
    )
    geopandas.GeoDataFrame(
        {"class": ["ship"] * 3}, geometry=shapely.points(x, y), crs=32633
    ).to_file("ships.gpkg")
    Path("labels").mkdir()
    Path("labels/scene.txt").write_text(
        "".join(f"0 {col / 192} {row / 160} 0.1 0.06\n" for row, col in SHIPS)
    )
    land = shapely.Polygon(
        [UTM @ corner for corner in ((150, 100), (192, 100), (192, 160), (150, 160))]
    )
    geopandas.GeoDataFrame(geometry=[land], crs=32633).to_crs(4326).to_file(
        "land.geojson"
    )
    shutil.copytree(decibel_bundle, "runs/ships_db/1/bundle")
    write_radar_scenes(tmp_path)
    Path("archive").mkdir()
    for name, side in (("north", 64), ("south", 96)):
        write_geotiff(
            tmp_path / f"archive/{name}.tif",
            pixels[:side, :64],
            crs="EPSG:32633",
            transform=UTM,
        )
    return tmp_path


def write_radar_scenes(folder):
    """Write a Sentinel-1 product as folder and archive, and a complex scene."""
    sea = 80 * simulate_sea(160, 192)
    for row, col in SHIPS:
        cv2.line(sea, (col - 9, row - 4), (col + 9, row + 4), 1500.0, 3)
    pixels = np.clip(sea, 1, 65535).astype(np.uint16)
    write_product(folder, {"vv": pixels, "vh": pixels}).rename("product.SAFE")
    zip_product(folder / "product.SAFE")
    write_geotiff(folder / "slc.tif", (sea[:64, :64] * 1j).astype(np.complex64))


def train_decibels(folder):
    """Train a model of chips in dB (VV) on bright bars, and return the folder of its
    bundle."""
    rng = np.random.default_rng(0)
    source = folder / "source"
    for split, count in (("train", 12), ("val", 6)):
        for name, end in (("flat", (28, 16)), ("steep", (16, 28))):
            (source / split / name).mkdir(parents=True)
            for index in range(count):
                chip = rng.gamma(4, 0.005, (32, 32)).astype(np.float32)
                cv2.line(chip, (32 - end[0], 32 - end[1]), end, 5.0, 3)
                write_geotiff(
                    source / f"{split}/{name}/{index}.tif", 10 * np.log10(chip)
                )
    store = prepare_folder(source, folder / "store", unit="db", bands=("VV",))
    (folder / "db.yaml").write_text(BARS_RECIPE.replace("ROOT", str(store.root)))
    return (
        finetune(
            load_recipe(folder / "db.yaml", ["backbone.blocks=2"]), folder / "out"
        ).folder
        / "bundle"
    )


def call(monkeypatch, capsys, command):
    monkeypatch.setattr(sys, "argv", shlex.split(command))
    with pytest.raises(SystemExit) as stop:
        main()
    printed = capsys.readouterr()
    assert not stop.value.code, f"{command}\n{printed.out}{printed.err}"
    return printed.out


def correct(folder):
    """Write what the review page saves if every chip has a class."""
    rows = pyogrio.read_dataframe(folder / "review.gpkg", layer="predictions")
    with (folder / "corrected.csv").open("w", newline="") as file:
        table = csv.writer(file, quoting=csv.QUOTE_ALL)
        table.writerow(["path", "class", "predicted", "probability"])
        labels = zip(rows["path"], ("flat", "flat", "steep"), strict=True)
        table.writerows(
            [(folder / path).absolute(), label, "x", 0.5] for path, label in labels
        )


@pytest.mark.exhaustive
@pytest.mark.slow
def test_every_command(desk, monkeypatch, capsys):
    assert len(COMMANDS) == 22
    for command in COMMANDS:
        if "corrected.csv" in command:
            correct(desk)
        printed = call(monkeypatch, capsys, command)
        assert ("--truth" in command) == (
            "3 of 3 true objects found, 0 of them" in printed
        )
    layers = {
        path.stem: pyogrio.read_dataframe(path, layer="predictions")
        for path in desk.glob("*.gpkg")
        if path.stem != "ships"
    }
    assert {name: len(layer) for name, layer in layers.items()} == {
        "checked": 30,
        **{
            "chips": 18,
            "ships_classes": 3,
            "boxes": 3,
            "tiles": 99,
            "found": 3,
            "objects": 3,
            "coarse": 120,
            "review": 3,
        },
        **{"compared": 3, "mapped": 3},
        **{"grd": 3, "grd_ships": 3, "slc": 4},
    }
    archive = {
        path.stem: pyogrio.read_info(path, layer="predictions")
        for path in desk.glob("archive_classes/*.gpkg")
    }
    assert {name: info["features"] for name, info in archive.items()} == {
        "north": 4,
        "south": 6,
    }
    centers = layers["found"].to_crs(32633).geometry.centroid
    assert sorted(zip(centers.x, centers.y, strict=True)) == [
        pytest.approx(UTM @ (col, row), abs=10)
        for row, col in sorted(SHIPS, key=lambda ship: ship[1])
    ]
    assert [
        layers["grd_ships"][name].between(*limits).all()
        for name, limits in RADAR_RANGES.items()
    ] == [True] * 3
    assert layers["boxes"]["length_m"].tolist() == pytest.approx([192] * 3, abs=1)
    assert len(list((desk / "cut").glob("*.tif"))) == 3
    assert len(list((desk / "data/corrected/chips").rglob("*.tif"))) == 3
    assert ChipStore.open(desk / "data/ships").class_counts("train").tolist() == [
        26,
        4,
        13,
    ]
    assert (
        "scene_000001" in (desk / "review.html").read_text()
        and (desk / "map.png").stat().st_size > 10_000
    )
    suggested = pd.read_csv(desk / "suggested.csv")["path"]
    assert len(suggested) == 3 and all(
        Path(path).parent == desk / "cut" for path in suggested
    )


@pytest.mark.exhaustive
def test_python_example(desk, capsys):
    (code,) = re.findall(r"```python\n(.*?)```", DOC, re.DOTALL)
    exec(code, {})
    assert capsys.readouterr().out.count("\n") == 6
