import numpy as np
import pytest
import torch

from rsft.data.imagery.bands import (
    check_bands,
    check_planes,
    compute_planes,
    required_bands,
)
from rsft.errors import RequestError
from tests.helpers.messages import mentions

PIXELS = np.array([[[4, 2], [6, 0]]], np.uint8)  # (1, 2, 2): VV, VH


def plane(expression):
    (values,) = compute_planes(PIXELS, ("VV", "VH"), [expression])
    return values.tolist()[0]


@pytest.mark.parametrize(
    ("expression", "values"),
    [
        ("VV", [4, 6]),
        ("VH", [2, 0]),
        ("VV - VH", [2, 6]),
        ("VH - VV", [-2, -6]),  # bytes would overflow
        ("-VV", [-4, -6]),
        ("VV * VH", [8, 0]),
        ("(VV + VH) / 2", [3, 3]),
        ("VV / VH", [2, np.inf]),
        ("0.5 * VV", [2, 3]),
        ("2", [2, 2]),
        ("-(1 + 2)", [-3, -3]),
    ],
)
def test_planes(expression, values):
    assert plane(expression) == values


def test_plane_of_one_band_is_a_view_with_its_dtype():
    (values,) = compute_planes(PIXELS, ("VV", "VH"), ["VH"])
    assert values.dtype == np.uint8 and np.shares_memory(values, PIXELS)


def test_a_plane_of_one_number_has_the_shape_of_the_chips():
    for chips in (
        np.zeros((3, 4, 5, 2), np.uint8),
        torch.zeros(3, 4, 5, 2, dtype=torch.uint8),
    ):
        (values,) = compute_planes(chips, ("VV", "VH"), ["0.5"])
        assert (
            values.shape == (3, 4, 5)
            and str(values.dtype).endswith("float32")
            and bool((values == 0.5).all())
        )


def test_required_bands():
    assert required_bands("(B08 - B04) / (B08 + B04)") == {"B04", "B08"}


@pytest.mark.parametrize(
    "text",
    ["", "VV -", "VV ** 2", "VV.real", "f(VV)", "__import__('os')", "VV if VH else 1", "'VV'", "VV, VH", "[VV]",
     "True", "9" * 99, "1e999"],
)  # fmt: skip
def test_other_syntax_is_an_error(text):
    with pytest.raises(RequestError, match=mentions("expression", "bands")):
        required_bands(text)


def test_missing_bands():
    with pytest.raises(RequestError, match="no band HH, HV") as caught:
        check_planes(["VV", "HH - HV"], ("VV", "VH"))
    assert caught.value.hint == "they have VV, VH"


def test_check_bands():
    check_bands(("VH", "VV"))
    for names, message in [
        (("VV", "XX"), "XX is not a band"),
        (("VV", "VV"), "VV occurs twice"),
    ]:
        with pytest.raises(RequestError, match=message):
            check_bands(names)
