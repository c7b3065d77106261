"""Values of a raster: no data, scale and offset, and what is no value."""

from pathlib import Path

import numpy as np
import pytest

from rsft.data.imagery.raster_values import (
    IDENTITY_SCALING,
    Scaling,
    mask_nodata,
    read_dtype,
    to_float32,
)
from rsft.errors import DataError
from tests.helpers.messages import mentions

FILE = Path("x.tif")


@pytest.mark.parametrize(
    ("values", "nodata", "scaling", "expected"),
    [
        (np.int16([[-1700, -32768]]), -32768, Scaling(0.01, 0), [-17.0, np.nan]),
        (np.uint16([[0, 10]]), None, Scaling(0.5, -1), [-1.0, 4.0]),
        (np.float64([[-9999, 0.1]]), -9999.0, IDENTITY_SCALING, [np.nan, 0.1]),
        (
            np.float64([[-1.7976931348623157e308, 2]]),
            -1.7976931348623157e308,
            IDENTITY_SCALING,
            [np.nan, 2],
        ),
        (np.complex64([[3 + 4j, 0]]), None, IDENTITY_SCALING, [5.0, 0.0]),
        (np.int32([[7, 8]]), 8, IDENTITY_SCALING, [7.0, np.nan]),
    ],
)
def test_values(values, nodata, scaling, expected):
    result = to_float32(values, nodata, scaling, FILE)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result[0], np.float32(expected), rtol=1e-6)


def test_undeclared_nan():
    for dtype in (np.float64, np.complex64):
        with pytest.raises(DataError, match=mentions("1 of 2", "NaN")):
            to_float32(np.array([[np.nan, 1]], dtype), None, IDENTITY_SCALING, FILE)


def test_values_beyond_float32():
    with pytest.raises(DataError, match=mentions("not fit", "float32")) as caught:
        to_float32(np.array([[1e300, 1]]), None, IDENTITY_SCALING, FILE)
    assert caught.value.location == "x.tif"


@pytest.mark.parametrize(
    ("dtype", "scaling", "expected"),
    [("uint8", IDENTITY_SCALING, "uint8"), ("uint16", Scaling(1.0, 0.0), "uint16"),
     ("uint16", Scaling(0.1, 0.0), "float32"), ("int16", IDENTITY_SCALING, "float32"),
     ("complex_int16", IDENTITY_SCALING, "float32")],
)  # fmt: skip
def test_data_types(dtype, scaling, expected):
    assert read_dtype(dtype, [scaling]) == expected


def test_pixels_without_data_become_nan_or_zero():
    valid = np.array([[True, True, False]])
    floats = np.array([[1.0, -9.0, 3.0]], np.float32)
    mask_nodata(floats, -9.0, FILE, valid)
    np.testing.assert_array_equal(floats, [[1.0, np.nan, np.nan]])
    integers = np.array([[1, 9, 3]], np.uint16)
    mask_nodata(integers, 9.0, FILE, valid)
    assert integers.tolist() == [[1, 0, 0]]
    for nodata in (None, 0.0):
        plain = np.array([[1, 9, 3]], np.uint16)
        mask_nodata(plain, nodata, FILE)
        assert plain.tolist() == [[1, 9, 3]]
