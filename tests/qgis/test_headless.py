"""The plug-in in QGIS without a window. `make test-qgis` runs these tests; they need
qgis_process and PyQGIS."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import venv
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import cv2
import geopandas
import numpy as np
import pytest
import shapely
from pyproj import Transformer

from rsft.data.chips.store import ChipStore
from tests.helpers.plugins import needs_plugin
from tests.helpers.scenes import UTM, simulate_sea, write_geotiff
from tools.maintenance.qgis_plugin import write_plugin

pytestmark = pytest.mark.skipif(
    "RSFT_TEST_QGIS" not in os.environ, reason="make test-qgis runs these tests"
)

ROOT = Path(__file__).parents[2]
SHIPS = [(40, 40), (60, 140), (120, 60)]  # row, col
NAMES = (
    "bundleinfo",
    "classifypoints",
    "classifytiles",
    "detectclassify",
    "addlabels",
    "finetune",
    "cuttrainingchips",
    "matchais",
    "install",
)
CLASSES = ["flat", "slanted", "steep"]


@pytest.fixture(scope="module")
def desk(run, tmp_path_factory):
    """Install the zip into an empty profile of QGIS, and write a scene with three
    ships, positions and land."""
    folder = tmp_path_factory.mktemp("qgis")
    shutil.unpack_archive(write_plugin(folder / "rsft_qgis.zip"), folder / "plugins")
    (folder / "bin").mkdir()
    command = folder / "bin/rsft"
    command.write_text(
        f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" -m rsft "$@"\n'
    )
    command.chmod(0o755)
    variables = {
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
        "QGIS_PLUGINPATH": str(folder / "plugins"),
    }
    variables |= {
        "QGIS_CUSTOM_CONFIG_PATH": str(folder / "profile"),
        "XDG_RUNTIME_DIR": str(folder),
    }
    variables |= {"QT_QPA_PLATFORM": "offscreen", "OMP_NUM_THREADS": "1"}
    environment = {
        key: value for key, value in os.environ.items() if key != "PYTHONPATH"
    } | variables
    write_inputs(folder)
    desk = SimpleNamespace(
        folder=folder, bundle=run / "bundle", environment=environment
    )
    call(desk, "plugins", "enable", "rsft_qgis")
    return desk


def write_inputs(folder):
    """Write a scene, points, boxes and land."""
    water = 20 * simulate_sea(160, 192)
    for row, col in SHIPS:
        cv2.line(water, (col - 9, row - 4), (col + 9, row + 4), 240.0, 3)
    pixels = np.clip(water, 1, 255).astype(np.uint8)
    write_geotiff(folder / "scene.tif", pixels, crs="EPSG:32633", transform=UTM)
    centers = shapely.points([UTM @ (col, row) for row, col in SHIPS])
    layer = geopandas.GeoDataFrame(
        {"mmsi": ["111", "222", "333"]}, geometry=centers, crs=32633
    )
    layer.to_file(folder / "ships.gpkg", layer="ships")
    layer.to_file(folder / "ships.gpkg", layer="others")
    layer.set_geometry(layer.buffer(160).envelope).to_file(folder / "boxes.geojson")
    # around the first ship
    corners = [UTM @ corner for corner in ((20, 20), (60, 20), (60, 60), (20, 60))]
    geopandas.GeoDataFrame(geometry=[shapely.Polygon(corners)], crs=32633).to_crs(
        4326
    ).to_file(folder / "land.gpkg")


def call(desk, *arguments, fails=False):
    """Run qgis_process and return what it printed."""
    command = ["qgis_process", *map(str, arguments)]
    done = subprocess.run(
        command, env=desk.environment, capture_output=True, text=True, timeout=300
    )
    assert fails == bool(done.returncode), done.stdout + done.stderr
    return done.stdout + (done.stderr if fails else "")


def run_algorithm(desk, name, **values):
    """Run an algorithm by qgis_process and return its results."""
    words = [f"{key}={value}" for key, value in values.items()]
    printed = call(desk, "run", f"rsft:{name}", "--json", "--", *words)
    return json.loads(printed[printed.index("{") :])["results"]


def read(result):
    """Read the predictions that a result names."""
    path, _, layer = result["OUTPUT"].partition("|layername=")
    assert layer == "predictions"
    return geopandas.read_file(path, layer=layer)


def test_the_zip_provides_all_algorithms(desk):
    printed = call(desk, "list", "--json")
    provider = json.loads(printed[printed.index("{") :])["providers"]["rsft"]
    assert provider["is_active"] and set(provider["algorithms"]) == {
        f"rsft:{name}" for name in NAMES
    }
    text = call(desk, "help", "rsft:classifypoints")
    assert (
        "Folder of a model that rsft trained" in text
        and "Instead of the scene above" in text
    )


def test_an_error_is_printed_once(desk):
    values = (
        f"BUNDLE={desk.folder / 'missing'}",
        f"OUTPUT={desk.folder / 'missing.html'}",
    )
    printed = call(desk, "run", "rsft:bundleinfo", "--", *values, fails=True)
    assert printed.count("no bundle found") == 1


def test_rsft_is_installed_on_request_only(desk, tmp_path):
    package = f"PACKAGE={tmp_path / 'missing-1-py3-none-any.whl'}"
    printed = call(desk, "run", "rsft:install", "--", package, fails=True)
    assert "Check the box" in printed and not list(
        desk.folder.glob("profile/**/rsft-environment")
    )
    python = tmp_path / "python3"
    python.write_text(
        '#!/bin/sh\ncase "$*" in -c*) echo 3 12;; *) echo "[Errno 28] No space left";'
        " exit 1;; esac\n"
    )
    python.chmod(0o755)
    printed = call(
        desk,
        "run",
        "rsft:install",
        "--",
        "AGREE=true",
        package,
        f"PYTHON={python}",
        fails=True,
    )
    assert (
        "The disk is full" in printed or "has 8 GB" in printed or "GB free" in printed
    )


def test_training_chips_from_a_layer(desk):
    store = desk.folder / "cut"
    values = {
        "SCENE": desk.folder / "scene.tif",
        "LABELS": f"{desk.folder / 'ships.gpkg'}|layername=ships",
    }
    values |= {
        "FIELD": "mmsi",
        "SIZE": "32",
        "BACKGROUND": 2,
        "EXTRA": "--val 0.3",
        "OUTPUT": store,
    }
    result = run_algorithm(desk, "cuttrainingchips", **values)
    assert (result["CHIPS"], result["REJECTED"], result["STORE"]) == (5, 0, str(store))
    assert ChipStore.open(store).classes == ("111", "222", "333", "background")
    missing = [f"{key}={value}" for key, value in values.items() if key != "SCENE"]
    assert "either a scene or a folder" in call(
        desk, "run", "rsft:cuttrainingchips", "--", *missing, fails=True
    )


@needs_plugin("ais")
def test_ships_by_ais(desk):
    ais = desk.folder / "ais.csv"
    to_degrees = Transformer.from_crs(32633, 4326, always_xy=True)
    rows = []
    for number, (row, col) in enumerate(SHIPS):
        lon, lat = to_degrees.transform(*(UTM @ (col, row)))
        rows += [
            f"21900000{number},2021-01-19T03:{m}:00,{lat:.6f},{lon:.6f},0,0,70"
            for m in (10, 20)
        ]
    ais.write_text(
        "MMSI,BaseDateTime,LAT,LON,SOG,COG,VesselType\n" + "\n".join(rows) + "\n"
    )
    values = {
        "SCENE": desk.folder / "scene.tif",
        "AIS": ais,
        "TIME": "2021-01-19T03:15:00Z",
    }
    values |= {
        "EXTRA": "--land none --unit amplitude --bands VV --pfa 1e-4",
        "OUTPUT": desk.folder / "matches.gpkg",
    }
    result = run_algorithm(desk, "matchais", **values)
    assert result["MATCHED"] == 3
    assert (
        geopandas.read_file(result["OUTPUT"], layer="matched")["ais_class"].tolist()
        == ["cargo"] * 3
    )


@pytest.mark.parametrize("front", [False, True])
def test_an_environment_belongs_behind_the_folders_of_the_system(desk, tmp_path, front):
    venv.create(tmp_path / "venv", with_pip=False, symlinks=True)
    folders = [str(tmp_path / "venv/bin"), desk.environment["PATH"]]
    environment = desk.environment | {
        "PATH": ":".join(folders if front else folders[::-1])
    }
    done = subprocess.run(
        ["qgis_process", "list"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    # in front, QGIS takes its python3
    assert ("rsft:classifypoints" in done.stdout) != front


def test_points(desk):
    out = desk.folder / "points.gpkg"
    page = desk.folder / "points.html"
    at = f"{desk.folder / 'ships.gpkg'}|layername=others"
    values = {
        "BUNDLE": desk.bundle,
        "SCENE": desk.folder / "scene.tif",
        "AT": at,
        "SIDE": 32,
    }
    result = run_algorithm(desk, "classifypoints", **values, OUTPUT=out, REVIEW=page)
    table = read(result)
    assert (
        result["CHIPS"] == 3
        and result["REJECTED"] == 0
        and Path(result["REVIEW"]) == page
        and page.exists()
    )
    assert table["mmsi"].tolist() == ["111", "222", "333"] and table["at"].tolist() == [
        1,
        2,
        3,
    ]
    assert set(table["class"]) <= set(CLASSES) and set(table.geom_type) == {"Point"}
    assert table.to_crs(32633).geometry.x.tolist() == pytest.approx(
        [UTM.c + 10 * col for _, col in SHIPS], abs=1
    )


def test_boxes_with_a_margin_to_geojson(desk):
    values = {
        "BUNDLE": desk.bundle,
        "SCENE": desk.folder / "scene.tif",
        "AT": desk.folder / "boxes.geojson",
    }
    out = desk.folder / "boxes_classes.geojson"
    result = run_algorithm(
        desk, "classifypoints", **values, MARGIN=2, EXTRA="--batch-size 2", OUTPUT=out
    )
    table = geopandas.read_file(out)
    assert (
        result["OUTPUT"] == str(out)
        and len(table) == 3
        and set(table.geom_type) == {"Polygon"}
    )


def test_tiles(desk):
    values = {
        "BUNDLE": desk.bundle,
        "PRODUCT": desk.folder / "scene.tif",
        "TILE": 32,
        "STRIDE": 16,
    }
    result = run_algorithm(
        desk, "classifytiles", **values, OUTPUT=desk.folder / "tiles.gpkg"
    )
    assert result["CHIPS"] == len(read(result)) == 99


def test_detection_leaves_out_land(desk):
    values = {"BUNDLE": desk.bundle, "SCENE": desk.folder / "scene.tif", "SIDE": 32}
    land = desk.folder / "land.gpkg"
    table = read(
        run_algorithm(
            desk,
            "detectclassify",
            **values,
            LAND=land,
            OUTPUT=desk.folder / "detected.gpkg",
        )
    )
    assert sorted(table["col"].round(-1)) == [60, 140]


def test_corrected_layer_to_labels_and_a_new_bundle(desk, root):
    table = desk.folder / "corrected.gpkg"
    store = desk.folder / "store"
    values = {
        "BUNDLE": desk.bundle,
        "SCENE": desk.folder / "scene.tif",
        "AT": desk.folder / "boxes.geojson",
    }
    run_algorithm(desk, "classifypoints", **values, SIDE=32, OUTPUT=table)
    with closing(sqlite3.connect(table)) as database, database:
        for (trigger,) in database.execute(
            "SELECT name FROM sqlite_master WHERE type = 'trigger'"
        ).fetchall():
            database.execute(f'DROP TRIGGER "{trigger}"')  # it needs functions of GDAL
        labels = [("steep", 1), ("not a target", 2), ("unsure", 3)]
        database.executemany(
            "UPDATE predictions SET corrected = ? WHERE fid = ?", labels
        )
    shutil.copytree(root, store)
    labels = {"LAYER": f"{table}|layername=predictions", "STORE": store}
    result = run_algorithm(desk, "addlabels", **labels)
    assert (result["ADDED"], result["RELABELED"], result["REJECTED"]) == (
        1,
        0,
        0,
    ) and result["FOLDER"] == str(store)
    page = desk.folder / "new.html"
    runs = desk.folder / "runs"
    options = {
        "BUNDLE": desk.bundle,
        "RUNS": runs,
        "EXTRA": "train.epochs=1 --no-report",
        "OUTPUT": page,
    }
    more = {"NOT_A_TARGET": "clutter", "NEW_CLASSES": "clutter"}
    result = run_algorithm(desk, "finetune", **labels, **more, **options)
    assert result["ADDED"] == 1 and Path(result["NEW_BUNDLE"]).parents[2] == runs
    assert (Path(result["NEW_BUNDLE"]) / "bundle.json").exists()
    for words in ("<b>Recall</b>", "Replay check: validation chips", "<td>steep</td>"):
        assert words in page.read_text()
    described = run_algorithm(
        desk,
        "bundleinfo",
        BUNDLE=result["NEW_BUNDLE"],
        OUTPUT=desk.folder / "new_bundle.html",
    )
    assert described["CLASSES"] == "flat, slanted, steep, clutter"


def test_bundle_information(desk):
    page = desk.folder / "bundle.html"
    result = run_algorithm(desk, "bundleinfo", BUNDLE=desk.bundle, OUTPUT=page)
    assert result["CLASSES"] == ", ".join(CLASSES) and result["NAME"] == "bars"
    assert result["UNIT"].startswith("uint8")
    assert "<td>slanted</td>" in page.read_text()


def test_errors_reach_the_user(desk):
    values = {
        "BUNDLE": desk.bundle,
        "SCENE": desk.folder / "scene.tif",
        "TILE": 32,
        "OUTPUT": desk.folder / "no.gpkg",
    }
    away = desk.folder / "away.geojson"
    geopandas.read_file(desk.folder / "boxes.geojson").translate(5e4).to_file(away)
    untiled = {key: value for key, value in values.items() if key != "TILE"}
    places = [
        "none of the 3 positions lies in scene.tif",
        "check the coordinate system",
    ]
    cases = [
        (
            "classifytiles",
            values | {"UNIT": "db"},
            ["hint: ", "but db is float32", '"Calibration factor"'],
        ),
        (
            "classifytiles",
            untiled,
            ["enter the size of your training chips in Tile size"],
        ),
        ("classifytiles", values | {"PRODUCT": desk.folder}, ["not both"]),
        ("classifypoints", untiled | {"AT": away, "SIDE": 32}, places),
        (
            "bundleinfo",
            {"BUNDLE": desk.folder, "OUTPUT": "no.html"},
            ["bundle", "hint:"],
        ),
    ]
    for name, options, texts in cases:
        words = [f"{key}={value}" for key, value in options.items()]
        printed = call(desk, "run", f"rsft:{name}", "--", *words, fails=True)
        assert all(text in printed for text in texts), printed
        # the text that rsft prints on the terminal
        assert "error: uint16" not in printed


def test_layers_models_canceling_and_the_setting(desk, root):
    """Run the script `qgis_session.py` in the Python of QGIS."""
    python = "/usr/bin/python3"
    script = Path(__file__).parent / "qgis_session.py"
    if subprocess.run(
        [python, "-c", "import qgis.core"], env=desk.environment, capture_output=True
    ).returncode:
        pytest.skip(f"{python} has no PyQGIS (Debian: apt install python3-qgis)")
    store = Path(shutil.copytree(root, desk.folder / "session_store"))
    bundle = {file.name: file.read_bytes() for file in desk.bundle.iterdir()}
    command = [python, *map(str, (script, desk.bundle, desk.folder, store))]
    done = subprocess.run(
        command, env=desk.environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    session = json.loads(done.stdout.splitlines()[-1])
    assert (
        session["renderer"] == "categorizedSymbol" and session["name"] == "Predictions"
    )
    assert (
        session["categories"][:4] == [*CLASSES, "unlike the training chips"]
        and session["features"] == 3
    )
    assert session["model_features"] == 3 and session["temporary"] == ["111", "333"]
    assert (
        "canceled" in session["canceled"] and not (desk.folder / "none.gpkg").exists()
    )
    assert (
        "Save the edits" in session["unsaved"]
        and "not in a file" in session["memory_layer"]
    )
    assert session["corrected"] == "steep"
    assert (
        session["canceled_labels"] == "canceled; the chip store has not changed"
        and session["same_store"]
    )
    expected = (
        "canceled; the labels are in the store, and the old bundle has not changed"
    )
    assert session["canceled_training"] == expected and 50 < session["percent"] < 100
    assert ChipStore.open(store).table["added_from"].notna().sum() == 1
    assert {file.name: file.read_bytes() for file in desk.bundle.iterdir()} == bundle
    (canceled,) = desk.folder.glob("canceled/*/*/run.json")
    assert json.loads(canceled.read_text())["status"] == "interrupted"
    assert (
        not (canceled.parent / "bundle").exists()
        and not (desk.folder / "canceled.html").exists()
    )
    assert "neither the rsft executable" in session["wrong_setting"]
