"""Which unit a scene is read in: declared, stored, or calibrated."""

from __future__ import annotations

import json

import numpy as np
import pytest

from rsft.data.imagery.contract import Stretch
from rsft.data.imagery.products.options import DEFAULT_OPTIONS, ProductOptions
from rsft.errors import DataError, RequestError
from rsft.inference.inputs.scene_chips import check_scene_bands
from rsft.inference.options import UNDECLARED
from rsft.inference.predict.scene_plan import select_scene_unit
from rsft.inference.scenes.raster import PixelWindow, SceneReader, open_scene
from tests.helpers.messages import mentions
from tests.helpers.scenes import toy_contract, write_geotiff
from tests.helpers.sentinel1 import calibrate_pixel, write_product, zip_product

DN = np.random.default_rng(0).gamma(2, 60, (40, 50)).astype(np.uint16) + 40
DECIBELS = np.linspace(-25, 5, 40 * 50, dtype=np.float32).reshape(40, 50)
PIXEL = PixelWindow(7, 9, 8, 10)


def contract(unit, **fields):
    return toy_contract(units={unit: (Stretch(low=-30, high=3000),) * 3}, bands=("VV",), planes=("VV",) * 3, **fields)


def read(path, model, unit=None, options=DEFAULT_OPTIONS):
    """Return unit, data type and value of a pixel, as a job reads them."""
    scene = select_scene_unit(open_scene(path, options), model, unit)
    indices = check_scene_bands(scene, model, UNDECLARED)
    reader = SceneReader(scene, indices)
    value = reader(PIXEL)[0, 0, 0]
    reader.close()
    return scene.unit, scene.dtype, value


@pytest.fixture
def safe(tmp_path):
    return write_product(tmp_path, {"vv": DN, "vh": DN})


@pytest.mark.parametrize(("model_unit", "unit"), [("sigma0", "sigma0"), ("db", "sigma0")])
@pytest.mark.parametrize("form", ["folder", "manifest", "zip", "measurement"])
def test_calibrated_models_take_a_raw_product(safe, form, model_unit, unit):
    (measurement,) = (safe / "measurement").glob("*-vv-*")
    paths = {"folder": safe, "manifest": safe / "manifest.safe", "zip": zip_product(safe), "measurement": measurement}
    expected = calibrate_pixel(safe, "vv", float(DN[7, 9]), 7, 9, unit, True)
    assert read(paths[form], contract(model_unit)) == (unit, "float32", pytest.approx(expected, rel=1e-5))


def test_an_amplitude_model_takes_digital_numbers(safe):
    assert read(safe, contract("amplitude")) == ("amplitude", "uint16", DN[7, 9])
    assert read(safe, contract("uint16")) == (None, "uint16", DN[7, 9])


def test_the_user_chooses_the_calibration(safe):
    unit, dtype, value = read(safe, contract("amplitude"), "sigma0")
    assert (unit, dtype) == ("sigma0", "float32") and value < 1
    kept = read(safe, contract("db"), options=ProductOptions(keep_noise=True))[2]
    assert kept == pytest.approx(calibrate_pixel(safe, "vv", float(DN[7, 9]), 7, 9, "sigma0", False), rel=1e-5)
    with pytest.raises(RequestError, match=mentions("--unit db", "amplitude", "sigma0", "gamma0", "beta0")):
        read(safe, contract("db"), "db")


def test_decibels_in_tags(tmp_path):
    path = write_geotiff(tmp_path / "s.tif", DECIBELS, units=("dB",), names=("VV",))
    assert read(path, contract("db")) == ("db", "float32", DECIBELS[7, 9])
    with pytest.raises(RequestError, match=mentions("--unit sigma0", "declares db")):
        read(path, contract("db"), "sigma0")


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_declared_decibels(tmp_path, dtype):
    path = write_geotiff(tmp_path / "s.tif", DECIBELS.astype(dtype))
    assert read(path, contract("db"), "db") == ("db", "float32", DECIBELS[7, 9])


def test_scale_and_offset(tmp_path):
    stored = np.round(DECIBELS * 100).astype(np.int16)
    path = write_geotiff(tmp_path / "s.tif", stored, scales=(0.01,), offsets=(-1.0,))
    assert read(path, contract("db"), "db") == ("db", "float32", pytest.approx(stored[7, 9] * 0.01 - 1, rel=1e-6))


def test_a_model_of_digital_numbers_takes_them_without_scale(tmp_path):
    path = write_geotiff(tmp_path / "s.tif", DN, scales=(1e-4,))
    assert read(path, contract("uint16"))[1:] == ("uint16", DN[7, 9])


@pytest.mark.parametrize("dtype", ["complex64", "complex_int16"])
def test_complex_values(tmp_path, dtype):
    stored = (DN + 1j * DN[::-1]).astype(np.complex64)
    path = write_geotiff(tmp_path / "s.tif", stored, dtype=dtype)
    with pytest.raises(DataError, match=mentions("complex", f"({dtype})")) as caught:
        open_scene(path)
    assert "--modulus" in caught.value.hint
    expected = np.hypot(*map(float, (DN[7, 9], DN[32, 9])))
    options = ProductOptions(modulus=True)
    assert read(path, contract("amplitude"), None, options) == ("amplitude", "float32", pytest.approx(expected))
    factor = ProductOptions(modulus=True, factor=1e-6)
    assert read(path, contract("db"), None, factor)[2] == pytest.approx(1e-6 * expected**2, rel=1e-6)


def test_a_calibration_factor(tmp_path):
    path = write_geotiff(tmp_path / "s.tif", DN)
    result = read(path, contract("db"), None, ProductOptions(factor=2e-6))
    assert result == ("sigma0", "float32", pytest.approx(2e-6 * float(DN[7, 9]) ** 2, rel=1e-6))


def test_a_factor_in_tags(tmp_path):
    path = write_geotiff(
        tmp_path / "s.tif", DN, tags={"ICEYE_PROPERTIES": json.dumps({"iceye:calibration_factor": 1e-6})}
    )
    assert read(path, contract("db"))[2] == pytest.approx(1e-6 * float(DN[7, 9]) ** 2, rel=1e-6)
    assert read(path, contract("amplitude")) == ("amplitude", "uint16", DN[7, 9])


def test_options_that_contradict_the_file(tmp_path, safe):
    plain = write_geotiff(tmp_path / "s.tif", DN)
    decibels = write_geotiff(tmp_path / "d.tif", DECIBELS, units=("dB",))
    for path, options, message in (
        (plain, ProductOptions(modulus=True), "--modulus is for complex pixels, but these are uint16"),
        (plain, ProductOptions(keep_noise=True), "--keep-noise"),
        (decibels, ProductOptions(factor=1), "the file declares db"),
        (safe, ProductOptions(factor=1), "the file has a calibration: the tables of the product"),
    ):
        with pytest.raises(RequestError, match=message):
            open_scene(path, options)
    for factor in (0, -1, np.nan, np.inf):
        with pytest.raises(RequestError, match="not a positive number"):
            ProductOptions(factor=factor)


def test_digital_numbers_cannot_be_backscatter(tmp_path):
    path = write_geotiff(tmp_path / "s.tif", DN)
    with pytest.raises(DataError, match=mentions("uint16 pixels", "sigma0 is float32")):
        read(path, contract("db"), "sigma0")
