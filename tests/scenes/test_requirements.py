"""Which unit a scene is read in, and what a job on a raw product says about it."""

import json
import sqlite3

import numpy as np
import pytest

from rsft.data.imagery.products.options import DEFAULT_OPTIONS, ProductOptions
from rsft.data.imagery.reader import read_chip
from rsft.data.imagery.stretch import Stretch
from rsft.errors import DataError, RequestError
from rsft.inference.options import PredictionRequest
from rsft.inference.predict.job import predict
from rsft.inference.predict.scene_chips import describe_scene
from rsft.scenes.options import UNDECLARED
from rsft.scenes.query import CfarOptions, Query
from rsft.scenes.raster import PixelWindow, open_scene
from rsft.scenes.reader import SceneReader
from rsft.scenes.requirements import check_scene, select_unit
from tests.helpers.messages import mentions
from tests.helpers.scenes import (
    UTM,
    toy_bundle,
    toy_contract,
    use_toy_model,
    write_geotiff,
)
from tests.helpers.sentinel1 import calibrate_pixel, write_product, zip_product

DN = np.random.default_rng(0).gamma(2, 60, (40, 50)).astype(np.uint16) + 40
DECIBELS = np.linspace(-25, 5, 40 * 50, dtype=np.float32).reshape(40, 50)
PIXEL = PixelWindow(7, 9, 8, 10)


def contract(unit, **fields):
    return toy_contract(
        units={unit: (Stretch(low=-30, high=3000),) * 3},
        bands=("VV",),
        planes=("VV",) * 3,
        **fields,
    )


def read(path, model, unit=None, options=DEFAULT_OPTIONS):
    """Return unit, data type and value of a pixel, as a job reads them."""
    scene = select_unit(open_scene(path, options), model, unit)
    indices = check_scene(scene, model, UNDECLARED)
    reader = SceneReader(scene, indices)
    value = reader(PIXEL)[0, 0, 0]
    reader.close()
    return scene.unit, scene.dtype, value


@pytest.mark.parametrize(
    ("query", "side"),
    [
        (Query(detect=CfarOptions(land="none")), "--size 64"),
        (Query(grid=16), None),
    ],
)
def test_unit_spacing_and_side_are_one_answer(monkeypatch, tmp_path, query, side):
    use_toy_model(
        monkeypatch, toy_bundle(contract=contract("sigma0", crop=None, spacing_m=20.0))
    )
    path = write_geotiff(
        tmp_path / "s.tif", np.abs(DECIBELS), crs="EPSG:32633", transform=UTM
    )
    with pytest.raises(
        DataError,
        match=mentions("without a declared unit", "pixels of 10 m", "takes 20 m"),
    ) as error:
        predict("bundle", [path], tmp_path / "out.csv", PredictionRequest(query=query))
    assert "--unit" in error.value.hint and "--resample-to 20" in error.value.hint
    assert ("no fixed size" in error.value.message) is (side is not None)
    assert side is None or side in error.value.hint


@pytest.fixture
def safe(tmp_path):
    return write_product(tmp_path, {"vv": DN, "vh": DN})


@pytest.mark.parametrize(
    ("model_unit", "unit"), [("sigma0", "sigma0"), ("db", "sigma0")]
)
@pytest.mark.parametrize("form", ["folder", "manifest", "zip", "measurement"])
def test_calibrated_models_take_a_raw_product(safe, form, model_unit, unit):
    (measurement,) = (safe / "measurement").glob("*-vv-*")
    paths = {
        "folder": safe,
        "manifest": safe / "manifest.safe",
        "zip": zip_product(safe),
        "measurement": measurement,
    }
    expected = calibrate_pixel(safe, "vv", float(DN[7, 9]), 7, 9, unit, True)
    assert read(paths[form], contract(model_unit)) == (
        unit,
        "float32",
        pytest.approx(expected, rel=1e-5),
    )


def test_an_amplitude_model_takes_digital_numbers(safe):
    assert read(safe, contract("amplitude")) == ("amplitude", "uint16", DN[7, 9])
    assert read(safe, contract("uint16")) == (None, "uint16", DN[7, 9])


def test_a_model_of_digital_numbers_takes_those_of_its_sensor_alone(safe, tmp_path):
    model = contract("sentinel1_dn")
    expected = ("sentinel1_dn", "uint16", DN[7, 9])
    assert read(safe, model) == expected
    assert read(safe, contract("amplitude"), "sentinel1_dn") == expected
    raster = write_geotiff(tmp_path / "s.tif", DN, names=("VV",))
    with pytest.raises(DataError, match=mentions("amplitude", "takes sentinel1_dn")):
        read(raster, model, "amplitude")


def test_the_user_chooses_the_calibration(safe):
    unit, dtype, value = read(safe, contract("amplitude"), "sigma0")
    assert (unit, dtype) == ("sigma0", "float32") and value < 1
    kept = read(safe, contract("db"), options=ProductOptions(keep_noise=True))[2]
    assert kept == pytest.approx(
        calibrate_pixel(safe, "vv", float(DN[7, 9]), 7, 9, "sigma0", False), rel=1e-5
    )
    with pytest.raises(
        RequestError,
        match=mentions("--unit db", "amplitude", "sigma0", "gamma0", "beta0"),
    ):
        read(safe, contract("db"), "db")


STORED = np.round(DECIBELS * 100).astype(np.int16)
FACTOR = {"ICEYE_PROPERTIES": json.dumps({"iceye:calibration_factor": 1e-6})}
SQUARE = float(DN[7, 9]) ** 2


@pytest.mark.parametrize(
    ("pixels", "profile", "model", "unit", "factor", "expected"),
    [
        (
            DECIBELS.astype("float64"),
            {},
            "db",
            "db",
            None,
            ("db", "float32", DECIBELS[7, 9]),
        ),
        (DECIBELS, {}, "db", "db", None, ("db", "float32", DECIBELS[7, 9])),
        (
            STORED,
            {"scales": (0.01,), "offsets": (-1,)},
            "db",
            "db",
            None,
            ("db", "float32", STORED[7, 9] * 0.01 - 1),
        ),
        (DN, {"scales": (1e-4,)}, "uint16", None, None, (None, "uint16", DN[7, 9])),
        (DN, {}, "db", None, 2e-6, ("sigma0", "float32", 2e-6 * SQUARE)),
        (DN, {"tags": FACTOR}, "db", None, None, ("sigma0", "float32", 1e-6 * SQUARE)),
        (
            DN,
            {"tags": FACTOR},
            "amplitude",
            None,
            None,
            ("amplitude", "uint16", DN[7, 9]),
        ),
    ],
)
def test_units_of_files(tmp_path, pixels, profile, model, unit, factor, expected):
    path = write_geotiff(tmp_path / "s.tif", pixels, **profile)
    *kind, value = read(path, contract(model), unit, ProductOptions(factor=factor))
    assert (*kind, value) == (*expected[:2], pytest.approx(expected[2], rel=1e-6))
    if pixels is DN and not profile:
        with pytest.raises(DataError, match="uint16 pixels, but sigma0 is float32"):
            read(path, contract("db"), "sigma0")


def test_decibels_in_tags(tmp_path):
    path = write_geotiff(tmp_path / "s.tif", DECIBELS, units=("dB",), names=("VV",))
    assert read(path, contract("db")) == ("db", "float32", DECIBELS[7, 9])
    with pytest.raises(RequestError, match=mentions("--unit sigma0", "declares db")):
        read(path, contract("db"), "sigma0")


@pytest.mark.parametrize("dtype", ["complex64", "complex_int16"])
def test_complex_values(tmp_path, dtype):
    stored = (DN + 1j * DN[::-1]).astype(np.complex64)
    path = write_geotiff(tmp_path / "s.tif", stored, dtype=dtype)
    with pytest.raises(DataError, match=mentions("complex", f"({dtype})")) as caught:
        open_scene(path)
    assert "--read modulus" in caught.value.hint
    expected = np.hypot(*map(float, (DN[7, 9], DN[32, 9])))
    options = ProductOptions(modulus=True)
    assert read(path, contract("amplitude"), None, options) == (
        "amplitude",
        "float32",
        pytest.approx(expected),
    )
    factor = ProductOptions(modulus=True, factor=1e-6)
    assert read(path, contract("db"), None, factor)[2] == pytest.approx(
        1e-6 * expected**2, rel=1e-6
    )


def test_options_that_contradict_the_file(tmp_path, safe):
    plain = write_geotiff(tmp_path / "s.tif", DN)
    decibels = write_geotiff(tmp_path / "d.tif", DECIBELS, units=("dB",))
    for path, options, message in (
        (
            plain,
            ProductOptions(modulus=True),
            "--read modulus is for complex pixels, but these are uint16",
        ),
        (plain, ProductOptions(keep_noise=True), "--read keep-noise"),
        (decibels, ProductOptions(factor=1), "the file states db"),
        (
            safe,
            ProductOptions(factor=1),
            "the file states the tables of the product",
        ),
    ):
        with pytest.raises(RequestError, match=message):
            open_scene(path, options)
    for factor in (0, -1, np.nan, np.inf):
        with pytest.raises(RequestError, match="not a positive number"):
            ProductOptions(factor=factor)


SHAPE = 64, 96
NUMBERS = np.random.default_rng(0).gamma(4, 30, SHAPE).astype(np.uint16)
NAME = "S1A_IW_GRDH_1SDV_20210119T031653_20210119T031718_036201_043ED0_8255"


@pytest.fixture
def use_unit(monkeypatch):
    def use(unit):
        contract = toy_contract(
            units={unit: (Stretch(low=-30, high=0),) * 3},
            bands=("VV",),
            planes=("VV",) * 3,
        )
        use_toy_model(monkeypatch, toy_bundle(contract=contract))

    return use


@pytest.mark.slow
def test_a_job_tells_what_was_done(use_unit, tmp_path):
    use_unit("db")
    safe = write_product(tmp_path, {"vv": NUMBERS, "vh": NUMBERS})
    out = tmp_path / "out.gpkg"
    page = tmp_path / "page.html"
    request = PredictionRequest(
        Query(grid=32), html_path=page, chips_dir=tmp_path / "cut"
    )
    result = predict(tmp_path, [zip_product(safe)], out, request)
    start = f"{NAME}.zip: "
    notes = [
        note.removeprefix(start) for note in result.notes if note.startswith(start)
    ]
    assert notes == [
        "calibrated to sigma0 by the tables of the product; thermal noise removed",
    ]
    values = [
        [
            calibrate_pixel(safe, "vv", float(value), *pixel, "sigma0", noise)
            for noise in (True, False)
        ]
        for pixel, value in np.ndenumerate(NUMBERS)
        if value
    ]
    lowest = min(value for value, _ in values)
    assert lowest == pytest.approx(1 / 565**2, rel=0.3)
    (clipped,) = (note for note in result.notes if "below the thermal noise" in note)
    power = np.array(values)
    is_clipped = np.isclose(
        power[:, 0] * NUMBERS[NUMBERS > 0].astype(float) ** 2, power[:, 1], rtol=1e-9
    )
    assert f": {is_clipped.sum():,} values in chips" in clipped
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
    expected = [
        30 + 16 * col / 95 + 0.1 * row / 63 for row in (16, 48) for col in (16, 48, 80)
    ]
    assert table["incidence_deg"].tolist() == pytest.approx(expected, abs=0.01)
    assert "--root data/corrected<" in page.read_text()


def test_saved_chips_are_in_the_unit_of_the_scene_and_declare_their_nodata(
    use_unit, tmp_path
):
    use_unit("db")
    dn = NUMBERS.copy()
    dn[:, :5] = 0
    safe = write_product(tmp_path, {"vv": dn})
    predict(
        tmp_path,
        [safe],
        tmp_path / "out.csv",
        PredictionRequest(Query(grid=32), chips_dir=tmp_path / "cut"),
    )
    path = min((tmp_path / "cut").glob("*.tif"))
    chip = read_chip(path)
    assert np.isnan(chip[:, :5]).all() and np.isfinite(chip[:, 5:]).all()
    expected = calibrate_pixel(safe, "vv", float(dn[9, 20]), 9, 20, "sigma0", True)
    assert chip[9, 20, 0] == pytest.approx(expected, rel=1e-5)
    scene = open_scene(path)
    assert (scene.unit, scene.bands) == ("sigma0", ("VV",))


def test_an_amplitude_model_gets_digital_numbers(use_unit, tmp_path):
    use_unit("amplitude")
    safe = write_product(tmp_path, {"vv": NUMBERS, "vh": NUMBERS})
    result = predict(
        tmp_path, [safe], tmp_path / "out.csv", PredictionRequest(Query(grid=32))
    )
    assert f"unit of {safe.name}: amplitude, as the file declares" in result.notes
    assert not any("calibrated to" in note or "noise" in note for note in result.notes)


def test_a_raster_without_description(tmp_path):
    scene = open_scene(write_geotiff(tmp_path / "s.tif", NUMBERS))
    assert (
        scene.record() == {"scene": "s", "product": "raster"}
        and describe_scene(scene, None, None)[1:] == []
    )
    factor = open_scene(tmp_path / "s.tif", ProductOptions(factor=2e-6))
    assert describe_scene(factor, None, None)[1:] == [
        "s.tif: calibrated to sigma0 by factor 2e-06"
    ]


def test_bands_that_a_product_lacks_are_named(safe):
    spec = contract("sigma0").model_copy(update={"bands": ("HH",)})
    with pytest.raises(DataError, match=mentions("HH", "VH")):
        check_scene(open_scene(safe), spec, UNDECLARED)
