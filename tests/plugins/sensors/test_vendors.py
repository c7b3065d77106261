"""Products of Capella, ICEYE and NISAR, recognized by their tags; tables in line and
pixel."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from rsft.data.imagery.products.options import DEFAULT_OPTIONS, ProductOptions
from rsft.data.imagery.products.product import read_product
from rsft.errors import DataError
from tests.helpers.messages import mentions

DN = np.float32([[0, 100]])


def dataset(dtype="uint16", name="x.tif", **tags):
    return SimpleNamespace(
        name=name,
        count=1,
        height=4,
        width=4,
        dtypes=(dtype,),
        units=(None,),
        tags=lambda: tags,
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
