"""What a raster says about its pixels, with the options of a user."""

from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import rasterio

from rsft.data.imagery.products.calibration import CosineCalibration, FactorCalibration
from rsft.data.imagery.products.line_table import LineTable
from rsft.data.imagery.products.options import DEFAULT_OPTIONS, ProductOptions
from rsft.data.imagery.products.product import (
    Product,
    SensorProduct,
    find_product,
    read_product,
)
from rsft.errors import DataError, RequestError
from tests.helpers.messages import mentions
from tests.helpers.scenes import write_geotiff


class Owner(SensorProduct):
    """A product with the description that a test gives it."""

    def __init__(self, product):
        self.product = product

    def read(self, handles, keep_noise):
        return self.product


ANGLES = LineTable.along_range(np.arange(4.0), np.array([30.0, 31, 32, 33]))
GAMMA = Product(unit="gamma0", bands=("VV",), incidence=ANGLES)


@contextmanager
def opened(folder, dtype="uint16", **profile):
    path = write_geotiff(folder / "a.tif", np.ones((4, 4), dtype), **profile)
    with rasterio.open(path) as file:
        yield path, [file]


def read(folder, options=DEFAULT_OPTIONS, product=None, **profile):
    with opened(folder, **profile) as (path, handles):
        owner = None if product is None else Owner(product)
        return read_product(path, handles, owner, options)


def test_a_raster_without_product(tmp_path):
    product = read(tmp_path)
    assert (product.kind, product.unit, dict(product.calibrations)) == (
        "raster",
        None,
        {},
    )
    assert read(tmp_path, units=("sigma0",)).unit == "sigma0"
    assert find_product(tmp_path / "a.tif") is None
    assert find_product(Path("missing")) is None


def test_the_unit_of_the_file_counts_before_that_of_its_product(tmp_path):
    product = Product(unit="amplitude")
    assert read(tmp_path, product=product).unit == "amplitude"
    assert read(tmp_path, product=product, units=("db",)).unit == "db"


def test_empty_texts_are_no_values():
    product = Product(acquired="", finished="2026", pass_direction="")
    assert (product.acquired, product.finished, product.pass_direction) == (
        None,
        "2026",
        None,
    )


def test_a_factor_calibrates_digital_numbers(tmp_path):
    product = read(tmp_path, ProductOptions(factor=0.25))
    assert product.unit == "amplitude"
    assert product.calibrations == {"sigma0": (FactorCalibration(0.25),)}
    calibrated = Product(calibrations={"sigma0": ()}, calibration_source="a table")
    with pytest.raises(RequestError, match=mentions("a table", "--read calibrate")):
        read(tmp_path, ProductOptions(factor=1.0), calibrated)
    with pytest.raises(RequestError, match=mentions("states db")):
        read(tmp_path, ProductOptions(factor=1.0), units=("db",))


def test_gamma0_becomes_sigma0_by_the_angles_of_the_product(tmp_path):
    options = ProductOptions(gamma0_to_sigma0=True)
    product = read(tmp_path, options, GAMMA)
    ((unit, (step,)),) = product.calibrations.items()
    assert isinstance(step, CosineCalibration) and unit == "sigma0"
    assert step.incidence is ANGLES and step.calibration is None
    assert not step.is_decibel
    assert "cos" in product.calibration_source
    with pytest.raises(RequestError, match=mentions("products of gamma0")):
        read(tmp_path, options)
    with pytest.raises(RequestError, match=mentions("incidence", "angles")):
        read(tmp_path, options, Product(unit="gamma0"))
    both = Product(calibrations={"gamma0": (None,), "sigma0": (None,)})
    with pytest.raises(RequestError, match=mentions("no calibration to sigma0")):
        read(tmp_path, options, both)


def test_complex_pixels_need_their_modulus(tmp_path):
    with pytest.raises(DataError, match=mentions("complex64", "--read modulus")):
        read(tmp_path, dtype="complex64")
    modulus = ProductOptions(modulus=True)
    assert read(tmp_path, modulus, dtype="complex64").unit == "amplitude"
    with pytest.raises(RequestError, match=mentions("uint16", "leave out")):
        read(tmp_path, modulus)


def test_only_products_with_noise_can_keep_it(tmp_path):
    options = ProductOptions(keep_noise=True)
    with pytest.raises(RequestError, match=mentions("keep-noise")):
        read(tmp_path, options)
    assert read(tmp_path, options, Product(noise="kept")).noise == "kept"


@pytest.mark.parametrize("angle", [0.61, -35.0, 90.0, 123.4])
def test_an_angle_that_no_radar_has_is_named(angle):
    """0.61 are the radians of 35 degrees; sigma0 of them would be wrong by 20 dB."""

    file = SimpleNamespace(height=10, width=11, count=1, dtypes=("uint8",), units=[""])
    cols = np.array([0.0, 10.0])
    for last, is_right in ((angle, False), (46.0, True)):
        angles = LineTable.along_range(cols, np.array([35.0, last]))
        owner = Owner(Product(incidence=angles))
        if is_right:
            assert read_product("a.tif", [file], owner, DEFAULT_OPTIONS).incidence
            continue
        with pytest.raises(DataError, match=mentions(f"{angle:g} degrees")) as caught:
            read_product("a.tif", [file], owner, DEFAULT_OPTIONS)
        assert caught.value.location == "a.tif"
