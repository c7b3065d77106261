"""The functions for arrays and tensors give the same values for both."""

import numpy as np
import pytest
import torch

from rsft.utils.array_namespace import (
    array_namespace,
    fill_missing,
    log_sum_exp,
    to_float,
)

VALUES = np.array([[0.5, 1.5, -2.5, 700.2], [-3, 2, 0, 1e3]], np.float32)


def test_the_namespace_is_that_of_the_array():
    assert array_namespace(VALUES) is np is array_namespace(VALUES[0, 0])
    assert (
        array_namespace(torch.ones(1))
        is torch
        is array_namespace(torch.nn.Parameter(torch.ones(1)))
    )


@pytest.mark.parametrize("bits", [32, 64])
def test_conversion_to_float(bits):
    integers = np.arange(3)
    array = to_float(integers, bits)
    tensor = to_float(torch.from_numpy(integers), bits)
    assert array.dtype == tensor.numpy().dtype == f"float{bits}"
    assert np.array_equal(array, tensor.numpy())
    assert to_float(integers).dtype == "float32"


@pytest.mark.parametrize(
    "function",
    [
        lambda x: log_sum_exp(x, 1),
        lambda x: fill_missing(1 / x, -7),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_functions(function):
    array = function(VALUES.copy())
    tensor = function(torch.from_numpy(VALUES.copy()))
    assert array.dtype == np.float32
    np.testing.assert_allclose(array, tensor.numpy(), rtol=1e-6)
    assert np.isfinite(array).all()
