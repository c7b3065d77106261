"""A chip becomes the network's input, or does not match the contract; images with any
number of bands are resized."""

import numpy as np
import pytest

from rsft.data.imagery.contract import Contract
from rsft.data.imagery.stretch import CHIP_MAX, IDENTITY_STRETCH, Statistics, Stretch
from rsft.errors import DataError

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


def test_json_round_trip():
    assert Contract.model_validate_json(contract().model_dump_json()) == contract()


def test_one_band_is_resized_like_three():
    gray = np.random.default_rng(0).integers(0, 256, (51, 40, 1), np.uint8)
    color = contract(bands=("R", "G", "B"), planes=("R", "G", "B"), size=16)
    assert np.array_equal(
        contract(size=16).to_image(gray), color.to_image(np.repeat(gray, 3, axis=2))
    )


def test_an_unused_band_may_be_damaged():
    pixels = np.stack(
        [np.full((4, 4), np.nan, np.float32), np.full((4, 4), -5, np.float32)], axis=2
    )
    narrow = contract(units={"db": (DB,) * 3}, bands=("VH", "VV"), planes=("VV",) * 3)
    assert narrow.to_image(pixels, "db").min() == round(20 / 25 * 255)


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
        # OpenCV rounds up half
        assert np.abs(image[..., index].astype(int) - single[..., 0]).max() <= (
            side == 8
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
    standard = contract(chip_standard=True, mean=(0.0,) * 3, std=(1.0,) * 3)
    content = standard.model_dump(mode="json")
    assert (
        content["chip_standard"] is True
        and Contract.model_validate(content) == standard
    )


def test_planes_whose_brightest_pixels_are_cut_are_named():
    shares = (0.125, 0.0, None)
    planes = [
        Statistics(low=0, high=1, mean=0, std=1, masked=0, clipped=share)
        for share in shares
    ]
    text = contract(statistics={"uint8": tuple(planes)}).clipping_note
    assert "12.5% (plane HH); see" in text and text.count("plane") == 1
    without = contract(statistics={"uint8": (planes[1],) * 3})
    assert without.clipping_note == contract().clipping_note == ""
