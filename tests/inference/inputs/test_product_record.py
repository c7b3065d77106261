"""What a job on a raw product tells about it: notes, metadata, columns, the command on the review page."""

from __future__ import annotations

import json
import sqlite3

import numpy as np
import pytest

from rsft.data.imagery.contract import Stretch
from rsft.data.imagery.products.options import ProductOptions
from rsft.data.imagery.reader import read_chip
from rsft.inference.inputs.scene_chips import product_notes, product_record
from rsft.inference.options import PredictionRequest, SceneQuery
from rsft.inference.predict import job
from rsft.inference.predict.job import predict
from rsft.inference.scenes.raster import open_scene
from tests.helpers.scenes import brightness_logits, toy_bundle, toy_contract, toy_engine, write_geotiff
from tests.helpers.sentinel1 import calibrate_pixel, write_product, zip_product

SHAPE = 64, 96
DN = np.random.default_rng(0).gamma(4, 30, SHAPE).astype(np.uint16)
NAME = "S1A_IW_GRDH_1SDV_20210119T031653_20210119T031718_036201_043ED0_8255"


@pytest.fixture
def use_unit(monkeypatch):
    def use(unit):
        contract = toy_contract(units={unit: (Stretch(low=-30, high=0),) * 3}, bands=("VV",), planes=("VV",) * 3)
        monkeypatch.setattr(job.Bundle, "load", lambda folder: toy_bundle(contract=contract))
        monkeypatch.setattr(job, "select_engine", lambda bundle, *_: toy_engine(brightness_logits, bundle))

    return use


@pytest.mark.slow
def test_a_job_tells_what_was_done(use_unit, tmp_path):
    use_unit("db")
    safe = write_product(tmp_path, {"vv": DN, "vh": DN})
    out, page = tmp_path / "out.gpkg", tmp_path / "page.html"
    request = PredictionRequest(SceneQuery(grid=32), html_path=page, chips_dir=tmp_path / "cut")
    result = predict(tmp_path, [zip_product(safe)], out, request)
    start = f"{NAME}.zip: "
    notes = [note.removeprefix(start) for note in result.notes if note.startswith(start)]
    assert notes == [
        "Sentinel-1 GRD, 2021-01-19T03:16:53.799379Z, descending, incidence 30 to 46.1 degrees",
        "calibrated to sigma0 by the tables of the product; thermal noise removed",
    ]
    values = [
        [calibrate_pixel(safe, "vv", float(value), *pixel, "sigma0", noise) for noise in (True, False)]
        for pixel, value in np.ndenumerate(DN)
        if value
    ]
    lowest = min(value for value, _ in values)
    assert lowest == pytest.approx(1 / 565**2, rel=0.3)
    (clipped,) = (note for note in result.notes if "below the thermal noise" in note)
    power = np.array(values)
    is_clipped = np.isclose(power[:, 0] * DN[DN > 0].astype(float) ** 2, power[:, 1], rtol=1e-9)
    assert f": {is_clipped.sum():,} of {DN.size:,} values in chips" in clipped
    with sqlite3.connect(out) as database:
        metadata = dict(database.execute("SELECT key, value FROM rsft_metadata"))
    assert json.loads(metadata["products"]) == [
        {
            "scene": NAME,
            "product": "Sentinel-1 GRD",
            "unit": "sigma0",
            "calibration": "the tables of the product",
            "noise": "thermal noise removed",
            "acquired": "2021-01-19T03:16:53.799379Z",
            "pass": "descending",
            "incidence_deg": [30.0, 46.1],
        }
    ]
    table = result.table.sort_values("chip")
    assert table["incidence_deg"].tolist() == pytest.approx(
        [30 + 16 * col / 95 + 0.1 * row / 63 for row in (16, 48) for col in (16, 48, 80)], abs=0.01
    )
    assert "--unit sigma0 --bands VV" in page.read_text()


def test_saved_chips_are_in_the_unit_of_the_scene_and_declare_their_nodata(use_unit, tmp_path):
    use_unit("db")
    dn = DN.copy()
    dn[:, :5] = 0
    safe = write_product(tmp_path, {"vv": dn})
    predict(tmp_path, [safe], tmp_path / "out.csv", PredictionRequest(SceneQuery(grid=32), chips_dir=tmp_path / "cut"))
    path = min((tmp_path / "cut").glob("*.tif"))
    chip = read_chip(path)
    assert np.isnan(chip[:, :5]).all() and np.isfinite(chip[:, 5:]).all()
    assert chip[9, 20, 0] == pytest.approx(
        calibrate_pixel(safe, "vv", float(dn[9, 20]), 9, 20, "sigma0", True), rel=1e-5
    )
    scene = open_scene(path)
    assert (scene.unit, scene.bands) == ("sigma0", ("VV",))


def test_an_amplitude_model_gets_digital_numbers(use_unit, tmp_path):
    use_unit("amplitude")
    safe = write_product(tmp_path, {"vv": DN, "vh": DN})
    result = predict(tmp_path, [safe], tmp_path / "out.csv", PredictionRequest(SceneQuery(grid=32)))
    assert f"unit of {safe.name}: amplitude, as the file declares" in result.notes
    assert not any("calibrated to" in note or "noise" in note for note in result.notes)


def test_a_raster_without_description(tmp_path):
    scene = open_scene(write_geotiff(tmp_path / "s.tif", DN))
    assert product_record(scene) == {"scene": "s", "product": "raster"} and product_notes(scene) == []
    factor = open_scene(tmp_path / "s.tif", ProductOptions(factor=2e-6))
    assert product_notes(factor) == ["s.tif: calibrated to sigma0 by factor 2e-06"]
