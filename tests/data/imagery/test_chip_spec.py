"""A chip that does not match is an error that names both sides."""

import numpy as np
import pytest

from rsft.data.imagery.chip_spec import ChipSpec
from rsft.errors import DataError
from tests.data.imagery.test_contract import DB, chip, contract
from tests.helpers.messages import mentions


@pytest.mark.parametrize("owner", ["the store", "the detection"])
def test_an_error_names_the_owner(owner):
    spec = ChipSpec(units=("sigma0",), bands=("VV", "VH"), spacing_m=10, owner=owner)
    assert spec.used_bands == ("VV", "VH")
    assert spec.check_header("float32", 2, "db") == ("db", "sigma0")
    with pytest.raises(DataError, match=f"HH, but {owner} takes VV, VH"):
        spec.band_indices(1, ("HH",))
    with pytest.raises(DataError, match=f"3 bands, but {owner} takes 2"):
        spec.check_header("float32", 3, "db")
    with pytest.raises(DataError, match=f"amplitude pixels, but {owner} takes sigma0"):
        spec.check_header("float32", 2, "amplitude")
    with pytest.raises(DataError, match=f"20 m, but {owner} takes 10 m"):
        spec.check_spacing((20, 20))


@pytest.mark.parametrize(
    ("pixels", "unit", "message"),
    [
        (chip(bands=3), None, "3 bands, but the model takes 1 (HH)"),
        (
            chip(dtype=np.float32),
            None,
            (
                "float32 pixels without a declared unit, but the model takes uint8 or"
                " uint16"
            ),
        ),
        (
            chip(dtype=np.float32),
            "Sigma0",
            "sigma0 pixels, but the model takes uint8 or uint16",
        ),
        (chip(), "uint16", "uint8 pixels, but uint16 is uint16"),
    ],
)
def test_mismatch_names_both_sides(pixels, unit, message):
    with pytest.raises(DataError) as caught:
        contract().check(pixels, unit)
    assert caught.value.message == message


def test_bands_by_name():
    dual_pol = contract(bands=("VV", "VH"), planes=("VV", "VH"))
    pixels = np.stack([chip(1)[..., 0], chip(2)[..., 0]], axis=2)
    assert dual_pol.select_bands(pixels, ("VH", "VV"))[0, 0].tolist() == [2, 1]
    assert (
        dual_pol.select_bands(pixels, None)
        is dual_pol.select_bands(pixels, ("VV", "VH"))
        is pixels
    )
    with pytest.raises(DataError, match=mentions("bands HH, HV", "takes VV, VH")):
        dual_pol.select_bands(pixels, ("HH", "HV"))
    with pytest.raises(DataError, match=mentions("2 bands", "names for 3")):
        dual_pol.select_bands(pixels, ("VV", "VH", "HH"))


@pytest.mark.parametrize(
    ("expected", "spacing", "message"),
    [
        (None, [3.0], None),
        (10, [9.5, 10.9], None),
        (10, [10, 11.5], "10 x 11.5 m"),
        (3, [40], "40 m"),
    ],
)
def test_check_spacing(expected, spacing, message):
    checked = contract(spacing_m=expected)
    if message is None:
        checked.check_spacing(spacing)
        return
    with pytest.raises(DataError, match=message) as caught:
        checked.check_spacing(spacing)
    assert caught.value.hint == f"resample them: --resample-to {expected}"


VV_ALONE = {"bands": ("VH", "VV"), "planes": ("VV",) * 3}


def test_a_chip_needs_only_the_bands_of_the_planes():
    pixels = np.stack([chip(1)[..., 0], chip(2)[..., 0]], axis=2)
    narrow = contract(**VV_ALONE)
    assert narrow.used_bands == ("VV",)
    assert narrow.select_bands(pixels, ("VV", "VH"))[0, 0].tolist() == [1]
    assert narrow.select_bands(pixels, ("VH", "VV"))[0, 0].tolist() == [2]
    # as many bands as the training chips: their order
    assert narrow.select_bands(pixels, None)[0, 0].tolist() == [2]
    assert narrow.select_bands(pixels[:, :, 1:], ("VV",))[0, 0].tolist() == [2]
    assert narrow.select_bands(pixels[:, :, 1:], None)[0, 0].tolist() == [2]
    assert np.array_equal(narrow.to_image(pixels), narrow.to_image(pixels[:, :, 1:]))
    with pytest.raises(DataError, match=mentions("bands VH", "takes VV")):
        narrow.select_bands(pixels[:, :, :1], ("VH",))
    with pytest.raises(DataError, match=mentions("3 bands", "takes 1 (VV)")):
        narrow.check(chip(bands=3))


def test_expressions_use_their_bands_in_the_order_of_the_files():
    wide = contract(bands=("VH", "HH", "VV"), planes=("VV / VH", "VV", "2"))
    assert wide.used_bands == ("VH", "VV")
    assert wide.band_indices(3, ("VV", "VH", "HH")) == [1, 0]
    assert wide.band_indices(3, None) == [0, 2] and wide.band_indices(2, None) == [0, 1]


def test_a_model_of_gray_chips_takes_one_band_of_any_name():
    gray = contract(bands=("gray",), planes=("gray",) * 3)
    assert gray.band_indices(1, ("HH",)) == [0]
    with pytest.raises(DataError, match=mentions("bands HH, HV", "takes gray")):
        gray.band_indices(2, ("HH", "HV"))


def test_header_refuses_a_data_type_that_cannot_carry_the_unit():
    db_contract = contract(units={"db": (DB,) * 3})
    with pytest.raises(DataError, match=mentions("uint16 pixels", "sigma0 is float32")):
        db_contract.check_header("uint16", 1, "sigma0")
    assert db_contract.check_header("float64", 1, "dB") == ("db", "db")
    with pytest.raises(
        DataError, match=mentions("gamma0_db pixels", "takes db")
    ) as caught:
        db_contract.check_header("float32", 1, "gamma0_db")
    assert "process the scene to sigma0, not to gamma0" in caught.value.hint


@pytest.mark.parametrize(
    ("bands", "planes", "count", "names", "assumed"),
    [
        (("VV", "VH"), ("VV",), 2, None, ("VV", "VH")),
        (("VV", "VH"), ("VV",), 1, None, ()),
        (("VV", "VH", "HH"), ("VV", "VH"), 2, None, ("VV", "VH")),
        (("VV", "VH"), ("VV",), 2, ("a", "b"), ()),
        (("VV", "VH"), ("VV",), 3, None, ()),
        (("R", "G", "B"), ("R", "G", "B"), 3, None, ()),
    ],
)
def test_unnamed_bands_are_those_of_the_model(bands, planes, count, names, assumed):
    spec = contract(bands=bands, planes=planes)
    assert spec.assumed_bands(count, names) == assumed
