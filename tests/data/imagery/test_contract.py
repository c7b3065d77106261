"""A chip becomes the network's input, or does not match the contract; images with any
number of bands are resized."""

import numpy as np
import pytest
import torch

from rsft.data.imagery.contract import Contract
from rsft.data.imagery.input_transform import standardize_chips
from rsft.data.imagery.resize import center_crop, resize_image
from rsft.data.imagery.stretch import CHIP_MAX, IDENTITY_STRETCH, Stretch
from rsft.errors import DataError
from tests.helpers.messages import mentions

UINT16 = Stretch(low=0, high=1000)
DB = Stretch(low=-25, high=0)


def contract(**changes):
    planes = changes.get("planes", ("HH",) * 3)
    units = {
        "uint8": (IDENTITY_STRETCH,) * len(planes),
        "uint16": (UINT16,) * len(planes),
    }
    settings = {
        "units": units,
        "bands": ("HH",),
        "planes": planes,
        "crop": None,
        "size": 4,
    }
    return Contract(
        **(
            settings
            | {"mean": (0.5,) * len(planes), "std": (0.25,) * len(planes)}
            | changes
        )
    )


def chip(value=100, side=4, bands=1, dtype=np.uint8):
    return np.full((side, side, bands), value, dtype)


def test_bytes_are_not_changed():
    pixels = np.arange(16, dtype=np.uint8).reshape(4, 4, 1)
    image = contract().to_image(pixels)
    assert image.shape == (4, 4, 3)
    assert all(np.array_equal(image[..., band], pixels[..., 0]) for band in range(3))


@pytest.mark.parametrize(
    ("value", "byte"), [(0, 0), (500, 128), (1000, 255), (65535, 255)]
)
def test_uint16_is_stretched_to_the_stored_limits(value, byte):
    assert contract().to_image(chip(value, dtype=np.uint16)).max() == byte


def test_input_is_normalized():
    inputs = contract(size=2).to_input(chip(255))
    assert inputs.shape == (3, 2, 2) and inputs.dtype == np.float32
    assert inputs == pytest.approx(2.0)


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


def test_model_of_bytes_does_not_take_uint16():
    with pytest.raises(DataError, match="uint16"):
        contract(units={"uint8": (IDENTITY_STRETCH,) * 3}).to_input(
            chip(dtype=np.uint16)
        )


def test_unit_is_converted_to_that_of_the_contract():
    db_contract = contract(units={"db": (DB,) * 3})
    sigma0 = chip(0.05, dtype=np.float32)
    image = db_contract.to_image(sigma0, "sigma0")
    assert image.max() == round((10 * np.log10(0.05) + 25) / 25 * 255)
    assert np.array_equal(image, db_contract.to_image(10 * np.log10(sigma0), "db"))
    with pytest.raises(DataError, match="never below 0"):
        db_contract.to_image(10 * np.log10(sigma0), "sigma0")


def test_digital_numbers_that_mean_amplitude():
    relative = contract(units={"amplitude": (CHIP_MAX,) * 3}, digital="amplitude")
    amplitude = np.arange(1, 17, dtype=np.uint8).reshape(4, 4, 1) * 10
    sigma0 = (amplitude / np.float32(400)) ** 2
    assert np.array_equal(
        relative.to_image(amplitude), relative.to_image(sigma0, "sigma0")
    )


def test_chip_maximum_is_that_of_the_whole_chip():
    pixels = chip(100, side=8)
    pixels[0, 0] = 200
    relative = contract(
        units={"amplitude": (CHIP_MAX,) * 3}, digital="amplitude", crop=4
    )
    assert relative.to_image(pixels).max() == 128


def test_planes():
    pixels = np.float32([-10, -15]) + np.zeros((4, 4, 2), np.float32)
    units = {"db": (DB, DB, Stretch(low=0, high=10))}
    two = contract(
        units=units, bands=("VV", "VH"), planes=("VV", "VH", "VV - VH"), size=4
    )
    assert two.to_image(pixels, "db")[0, 0].tolist() == [153, 102, 128]


def test_one_band_with_two_stretches():
    stretches = contract(
        units={"uint8": (IDENTITY_STRETCH, Stretch(low=0, high=100))},
        planes=("HH", "HH"),
    )
    assert stretches.to_image(chip(50))[0, 0].tolist() == [50, 128]


def test_thirteen_planes():
    many = contract(bands=tuple("abcdefghijklm"), planes=tuple("abcdefghijklm"), size=3)
    assert many.to_input(chip(bands=13, side=9)).shape == (13, 3, 3)


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
    with pytest.raises(DataError, match=mentions("2 bands", "3 names")):
        dual_pol.select_bands(pixels, ("VV", "VH", "HH"))


def test_center_crop():
    pixels = np.arange(25).reshape(5, 5, 1)
    assert center_crop(pixels, 3)[..., 0].tolist() == [
        [6, 7, 8],
        [11, 12, 13],
        [16, 17, 18],
    ]
    assert center_crop(pixels, 9).shape == center_crop(pixels, None).shape == (5, 5, 1)


def test_json_round_trip():
    assert Contract.model_validate_json(contract().model_dump_json()) == contract()


def test_one_band_is_resized_like_three():
    gray = np.random.default_rng(0).integers(0, 256, (51, 40, 1), np.uint8)
    color = contract(bands=("R", "G", "B"), planes=("R", "G", "B"), size=16)
    assert np.array_equal(
        contract(size=16).to_image(gray), color.to_image(np.repeat(gray, 3, axis=2))
    )


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
    assert narrow.select_bands(pixels, None)[0, 0].tolist() == [
        2
    ]  # as many bands as the training chips: their order
    assert narrow.select_bands(pixels[:, :, 1:], ("VV",))[0, 0].tolist() == [2]
    assert narrow.select_bands(pixels[:, :, 1:], None)[0, 0].tolist() == [2]
    assert np.array_equal(narrow.to_image(pixels), narrow.to_image(pixels[:, :, 1:]))
    with pytest.raises(DataError, match=mentions("bands VH", "takes VV")):
        narrow.select_bands(pixels[:, :, :1], ("VH",))
    with pytest.raises(DataError, match=mentions("3 bands", "takes 1 (VV)")):
        narrow.check(chip(bands=3))


def test_an_unused_band_may_be_damaged():
    pixels = np.stack(
        [np.full((4, 4), np.nan, np.float32), np.full((4, 4), -5, np.float32)], axis=2
    )
    narrow = contract(units={"db": (DB,) * 3}, **VV_ALONE)
    assert narrow.to_image(pixels, "db").min() == round(20 / 25 * 255)


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


def test_doubles_give_the_same_image_as_floats():
    decibels = (np.arange(64).reshape(8, 8, 1) / 2 - 30).astype(np.float64)
    db_contract = contract(units={"db": (DB,) * 3})
    assert (
        db_contract.to_image(decibels, "db")
        == db_contract.to_image(np.float32(decibels), "db")
    ).all()


@pytest.mark.parametrize("side", [6, 8, 3])
def test_six_planes_are_resized_like_each_of_them(side):
    bands = ("B02", "B03", "B04", "B08", "B11", "B12")
    pixels = np.random.default_rng(0).integers(0, 255, (side, side, 6), np.uint8)
    image = contract(bands=bands, planes=bands).to_image(pixels)
    for index, band in enumerate(bands):
        single = contract(bands=(band,), planes=(band,)).to_image(
            pixels[:, :, index : index + 1]
        )
        assert np.abs(image[..., index].astype(int) - single[..., 0]).max() <= (
            side == 8
        )  # OpenCV rounds up half


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("bands", [1, 2, 4, 5, 13])
@pytest.mark.parametrize("by_area", [True, False])
def test_bands_are_resized_independently(dtype, bands, by_area):
    image = np.random.default_rng(0).integers(0, 255, (9, 12, bands)).astype(dtype)
    resized = resize_image(image, (6, 8) if by_area else (11, 13), by_area=by_area)
    assert resized.dtype == dtype and resized.shape == (
        (6, 8, bands) if by_area else (11, 13, bands)
    )
    for band in range(bands):
        single = resize_image(
            image[:, :, band : band + 1], resized.shape[:2], by_area=by_area
        )
        np.testing.assert_allclose(
            resized[:, :, band], single[:, :, 0], rtol=1e-5, atol=dtype != "float32"
        )


def standard(**keys):
    return contract(
        chip_standard=True, mean=(0.0,) * 3, std=(1.0,) * 3, size=16, **keys
    )


def noise(seed, level=60, side=16):
    return (
        np.random.default_rng(seed)
        .integers(level, level + 90, (side, side, 3))
        .astype(np.uint8)
    )


def test_each_chip_is_normalized_by_its_own_moments():
    images = [noise(0), noise(1, 150), noise(2, 5)]
    inputs = standard().normalize(images)
    assert inputs.dtype == np.float32 and inputs.shape == (3, 3, 16, 16)
    np.testing.assert_allclose(inputs.mean((1, 2, 3)), 0, atol=1e-5)
    for image, chip_inputs in zip(images, inputs, strict=True):
        values = image.transpose(2, 0, 1) / 255
        expected = (values - values.mean()) / (
            values.std() + 5 / 255
        )  # the floor keeps speckle of an empty chip small
        np.testing.assert_allclose(chip_inputs, expected, atol=1e-5)
        assert 0.8 < chip_inputs.std() < 1
    np.testing.assert_array_equal(
        inputs[1], standard().normalize([images[1]])[0]
    )  # whatever the batch


def test_planes_keep_their_differences():
    image = np.stack(
        [np.full((16, 16), level, np.uint8) for level in (50, 100, 150)], 2
    )
    planes = standard().normalize([image])[0].mean((1, 2))
    assert planes[0] < planes[1] < planes[2] and abs(planes[1]) < 1e-5


def test_one_plane_stands_for_all_if_they_have_the_same_bytes():
    image = noise(3)[:, :, :1]
    inputs = standard().normalize([image])
    np.testing.assert_array_equal(
        inputs, standard().normalize([np.repeat(image, 3, axis=2)])
    )
    assert contract().has_equal_planes
    assert not contract(
        units={"uint8": (UINT16, UINT16, IDENTITY_STRETCH)}
    ).has_equal_planes
    assert not contract(bands=("HH", "HV"), planes=("HH", "HV", "HH")).has_equal_planes


@pytest.mark.parametrize("level", [0, 7, 255])
def test_a_constant_chip_becomes_zeros(level):
    inputs = standard().normalize([np.full((16, 16, 3), level, np.uint8)])
    np.testing.assert_allclose(inputs, 0, atol=1e-5)


def test_arrays_and_tensors_are_normalized_alike():
    inputs = np.random.default_rng(0).random((2, 3, 5, 5), np.float32)
    expected = standardize_chips(inputs)
    np.testing.assert_allclose(
        standardize_chips(torch.from_numpy(inputs)).numpy(), expected, atol=1e-6
    )


def test_a_contract_of_rsft_0_2_is_written_as_before():
    content = contract().model_dump(mode="json")
    names = [
        "units",
        "digital",
        "bands",
        "planes",
        "crop",
        "size",
        "mean",
        "std",
        "statistics",
        "spacing_m",
    ]
    assert (
        list(content) == names and "chip_standard" not in contract().model_dump_json()
    )
    assert Contract.model_validate(content) == contract()
    content = standard().model_dump(mode="json")
    assert (
        content["chip_standard"] is True
        and Contract.model_validate(content) == standard()
    )
