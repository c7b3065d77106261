"""Products of Capella, ICEYE and NISAR, recognized by their tags; tables in line and
pixel."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from rsft.data.imagery.products.line_table import LineTable
from rsft.data.imagery.products.options import DEFAULT_OPTIONS, ProductOptions
from rsft.data.imagery.products.product import read_product
from rsft.errors import DataError
from tests.helpers.messages import mentions

DN = np.float32([[0, 100]])


def dataset(dtype="uint16", name="x.tif", **tags):
    return SimpleNamespace(
        name=name, count=1, dtypes=(dtype,), units=(None,), tags=lambda: tags
    )


def capella(**image):
    fields = {
        "scale_factor": 2e-4,
        "radiometry": "sigma_nought",
        "center_pixel": {"incidence_angle": 38.2},
    }
    times = {
        "start_timestamp": "2024-07-09T04:03:29.010Z",
        "stop_timestamp": "2024-07-09T04:03:33Z",
    }
    collect = times | {"image": fields | image}
    return dataset(
        TIFFTAG_IMAGEDESCRIPTION=json.dumps({"product_type": "GEO", "collect": collect})
    )


def iceye(dtype="uint16", **properties):
    fields = {
        "iceye:calibration_factor": 2.37e-5,
        "start_datetime": "2025-06-27T11:24:05.785Z",
        "end_datetime": "2025-06-27T11:24:11Z",
        "sat:orbit_state": "descending",
        "view:incidence_angle": 31.94,
    }
    return dataset(dtype, ICEYE_PROPERTIES=json.dumps(fields | properties))


def read(handles):
    is_complex = handles[0].dtypes[0].startswith("complex")
    return read_product(
        "x.tif",
        handles,
        None,
        ProductOptions(modulus=True) if is_complex else DEFAULT_OPTIONS,
    )


def calibrated(product, unit):
    return product.calibrations[unit][0](DN, 5, 7).values


def test_capella():
    product = read([capella()])
    assert (product.kind, product.unit, list(product.calibrations)) == (
        "Capella",
        "amplitude",
        ["sigma0"],
    )
    values = calibrated(product, "sigma0")
    assert np.isnan(values[0, 0]) and values[0, 1] == pytest.approx(
        (2e-4 * 100) ** 2, rel=1e-6
    )
    assert product.incidence(np.zeros(1), np.ones(1)).tolist() == [38.2]
    assert (product.acquired, product.finished) == (
        "2024-07-09T04:03:29.010Z",
        "2024-07-09T04:03:33Z",
    )
    assert list(read([capella(radiometry="beta_nought")]).calibrations) == ["beta0"]
    assert not read([capella(radiometry="none")]).calibrations


def test_iceye():
    product = read([iceye()])
    assert (product.kind, product.unit, product.pass_direction) == (
        "ICEYE",
        "amplitude",
        "descending",
    )
    assert product.finished == "2025-06-27T11:24:11Z" and product.motion is None
    assert calibrated(product, "sigma0")[0, 1] == pytest.approx(
        2.37e-5 * 100**2, rel=1e-6
    )
    assert list(read([iceye("complex_int16")]).calibrations) == ["beta0"]
    old = read([dataset(CALIBRATION_FACTOR="1e-6")])
    assert calibrated(old, "sigma0")[0, 1] == pytest.approx(1e-2, rel=1e-6)


@pytest.mark.parametrize("product_type", ["SLC", "SLC-COG", "slc"])
def test_amplitude_and_phase_of_iceye(product_type):
    with pytest.raises(
        DataError, match=mentions("ICEYE", "complex", product_type, "phase", "GRD")
    ):
        read([iceye("float32", **{"sar:product_type": product_type})])
    product = read([iceye("complex_int16", **{"sar:product_type": product_type})])
    assert list(product.calibrations) == ["beta0"]
    assert list(read([iceye(**{"sar:product_type": "GRD-COG"})]).calibrations) == [
        "sigma0"
    ]


def test_nisar():
    product = read(
        [dataset("float32", "HDF5:a.h5://science/LSAR/GCOV/grids/frequencyA/HHHH")]
    )
    assert (product.kind, product.unit) == ("NISAR GCOV", "gamma0")


@pytest.mark.parametrize(
    "text", ["a free description", "{broken", "[1]", '{"collect": 3}', "{" * 100_000]
)
def test_other_descriptions(text):
    assert read([dataset(TIFFTAG_IMAGEDESCRIPTION=text)]).kind == "raster"


@pytest.mark.parametrize("factor", [0, -1, "x", float("inf")])
def test_factors_that_are_not_positive(factor):
    for file in (
        capella(scale_factor=factor),
        iceye(**{"iceye:calibration_factor": factor}),
    ):
        with pytest.raises(DataError, match="cannot be used"):
            read([file])


def make(lines, pixels, values):
    return LineTable(
        np.array(lines, float),
        [np.array(row, float) for row in pixels],
        [np.array(v) for v in values],
    )


def test_lines_with_different_pixels():
    table = make([0, 10], [[0, 4], [0, 2, 4]], [[0.0, 4.0], [10.0, 20.0, 30.0]])
    assert table.window(5, 6, 0, 5).tolist() == [[5.0, 8.0, 11.0, 14.0, 17.0]]
    assert table(np.array([5.0, 2.5]), np.array([4.0, 0.0])).tolist() == [17.0, 2.5]


def test_values_are_constant_beyond_the_table():
    table = make([2, 4], [[1, 3]] * 2, [[1.0, 3.0], [5.0, 7.0]])
    window = table.window(0, 8, 0, 6)
    assert window[0].tolist() == window[2].tolist() == [1.0, 1.0, 2.0, 3.0, 3.0, 3.0]
    assert window[7].tolist() == window[4].tolist() == [5.0, 5.0, 6.0, 7.0, 7.0, 7.0]
    assert window[3, 1] == 3


def test_one_line():
    assert (
        make([0], [[0, 9]], [[1.0, 10.0]]).window(3, 5, 0, 2).tolist()
        == [[1.0, 2.0]] * 2
    )


def test_a_window_is_part_of_the_whole():
    rng = np.random.default_rng(0)
    lines = [0, 7, 13, 40]
    pixels = np.unique(rng.integers(0, 60, 12))
    table = make(lines, [pixels] * 4, rng.random((4, len(pixels))))
    whole = table.window(0, 50, 0, 64)
    np.testing.assert_allclose(
        table.window(5, 30, 11, 40), whole[5:30, 11:40], rtol=1e-12
    )
    single = table.window(5, 30, 11, 40, np.float32)
    assert (
        single.dtype == np.float32
        and np.abs(single / whole[5:30, 11:40] - 1).max() < 1e-6
    )
    rows, cols = np.mgrid[0:50, 0:64].reshape(2, -1).astype(float)
    np.testing.assert_allclose(table(rows, cols), whole.ravel(), rtol=1e-12)


@pytest.mark.parametrize(
    ("lines", "pixels", "values", "message"),
    [([], [], [], "no lines"), ([3, 3], [[0, 1]] * 2, [[1.0, 1.0]] * 2, "do not increase"),
     ([0], [[1, 0]], [[1.0, 1.0]], "do not increase"), ([0], [[0, 1]], [[1.0]], "without values"),
     ([0], [[0, 1]], [[1.0, np.nan]], "not finite")],
)  # fmt: skip
def test_damaged_tables(lines, pixels, values, message):
    with pytest.raises(ValueError, match=message):
        make(lines, pixels, values)
