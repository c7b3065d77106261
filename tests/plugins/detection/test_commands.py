"""`rsft detect`: the layer and the chips are inputs of the other commands."""

import json

import geopandas
import numpy as np
import pytest

from rsft.data.chips.store import ChipStore
from rsft.data.imagery.reader import read_chip
from rsft.inference.options import PredictionRequest
from rsft.inference.predict.job import predict
from rsft.inference.writers.layer import LAYER_NAME
from rsft.scenes import detection
from rsft.scenes.options import ChipSize
from rsft.scenes.query import Query
from tests.helpers.scenes import (
    SHIPS,
    UTM,
    simulate_sea,
    toy_bundle,
    toy_contract,
    use_toy_model,
    write_geotiff,
    write_sea,
)


@pytest.fixture
def detected(rsft, tmp_path):
    """Return the layer of the objects in two scenes."""
    scenes = []
    for number in (0, 1):
        transform = UTM @ UTM.translation(900 * number, 0)
        path = tmp_path / f"{number}.tif"
        scenes.append(write_sea(path, crs="EPSG:32633", transform=transform))
    code, text = rsft("detect", *scenes, "-o", "objects.gpkg", "--chips", "chips")
    assert code == 0 and "3 bright objects" in text
    return tmp_path / "objects.gpkg"


def test_layer_and_chips(detected):
    table = geopandas.read_file(detected, layer=LAYER_NAME)
    assert set(table["class"]) == {"object"} and "corrected" not in table
    assert table.crs == "EPSG:4326" and (table.geom_type == "Polygon").all()
    places = sorted(zip(table["row"].round(), table["col"].round(), strict=True))
    assert places == sorted(2 * SHIPS)
    assert table["length_m"].between(100, 180).all()
    side = 32
    for path in table["path"]:
        assert read_chip(detected.parent / path).shape == (side, side, 1)


def test_at_takes_the_layer(rsft, detected, tmp_path, monkeypatch):
    scenes = [tmp_path / "0.tif", tmp_path / "1.tif"]
    code, text = rsft("prepare", "scenes", *scenes, "--at", detected, "--root", "store")
    assert code == 0, text
    assert len(ChipStore.open(tmp_path / "store").table) == 6
    contract = toy_contract(crop=16, units={"uint16": toy_contract().units["uint8"]})
    use_toy_model(monkeypatch, toy_bundle(contract=contract))
    request = PredictionRequest(Query(at=detected))
    result = predict(tmp_path / "run", scenes, tmp_path / "out.gpkg", request)
    assert len(result.table) == 6 and "score" in str(result.table.columns)


def test_killed_job_does_not_detect_again(rsft, tmp_path, monkeypatch):
    scenes = []
    for name in "ab":
        (tmp_path / name).mkdir()
        scenes.append(write_sea(tmp_path / name / f"{name}.tif"))
    searched = []
    detect_objects = detection.detect_objects

    def detect(scene, *options):
        if searched == ["a.tif"]:
            searched.append("interrupted")
            raise KeyboardInterrupt
        searched.append(scene.path.name)
        return detect_objects(scene, *options)

    monkeypatch.setattr(detection, "detect_objects", detect)
    command = ("detect", *scenes, "-o", "objects.csv")
    assert rsft(*command)[0] != 0
    assert list(tmp_path.glob(".objects.csv.journal"))
    assert rsft(*command)[0] == 0
    assert searched == ["a.tif", "interrupted", "b.tif"]
    assert not list(tmp_path.glob(".objects.csv.journal"))
    resumed = (tmp_path / "objects.csv").read_text()
    assert rsft(*command, "--overwrite")[0] == 0
    assert (tmp_path / "objects.csv").read_text() == resumed


def test_bare_scene_needs_a_spacing(rsft, tmp_path):
    scene = write_sea(tmp_path / "bare.tif", transform=None)
    command = ("detect", scene, "-o", "objects.csv")
    code, text = rsft(*command)
    assert code != 0 and "--spacing" in text
    code, text = rsft(*command, "--spacing", "10", "--size", "48", "--json")
    event = json.loads(text.splitlines()[-1])
    assert (code, event["count"]) == (0, 3) and "chips" not in event
    assert f"size of the chips: {ChipSize(48)}" in event["notes"]
    code, text = rsft(*command, "--spacing", "10")
    assert code == 2 and "--overwrite" in text


def test_float_pixels_need_a_unit(rsft, tmp_path):
    pixels = simulate_sea(256, 256).astype(np.float32)
    scene = write_geotiff(
        tmp_path / "f.tif", pixels, names=("VV",), crs="EPSG:32633", transform=UTM
    )
    code, text = rsft("detect", scene, "-o", "o.gpkg")
    assert code != 0 and "--unit" in text
    code, text = rsft("detect", scene, "-o", "o.gpkg", "--unit", "sigma0")
    assert code == 0 and "0 bright objects" in text
    assert geopandas.read_file(tmp_path / "o.gpkg", layer=LAYER_NAME).empty
