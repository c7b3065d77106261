import numpy as np
import pytest

from rsft.errors import DataError
from rsft.imagery.contract import Contract, centre_crop


def contract(**changes):
    settings = {"units": {"uint8": (0, 255), "uint16": (0, 1000)}, "bands": ("HH",), "crop": None, "size": 4}
    return Contract(**(settings | {"mean": (0.5,) * 3, "std": (0.25,) * 3} | changes))


def chip(value=100, side=4, bands=1, dtype=np.uint8):
    return np.full((side, side, bands), value, dtype)


def test_bytes_stay_as_they_are():
    pixels = np.arange(16, dtype=np.uint8).reshape(4, 4, 1)
    image = contract().to_image(pixels)
    assert image.shape == (4, 4, 3)
    assert all(np.array_equal(image[..., band], pixels[..., 0]) for band in range(3))


@pytest.mark.parametrize(("value", "byte"), [(0, 0), (500, 128), (1000, 255), (65535, 255)])
def test_uint16_is_stretched_to_the_stored_limits(value, byte):
    assert contract().to_image(chip(value, dtype=np.uint16)).max() == byte


def test_input_is_normalised():
    inputs = contract(size=2).to_input(chip(255))
    assert inputs.shape == (3, 2, 2) and inputs.dtype == np.float32
    assert inputs == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("pixels", "told"),
    [
        (chip(bands=3), "3 bands, but the model takes 1 (HH)"),
        (chip(dtype=np.float32), "float32 pixels, but the model takes uint8 or uint16"),
    ],
)
def test_a_broken_contract_names_both_sides(pixels, told):
    with pytest.raises(DataError) as caught:
        contract().check(pixels)
    assert caught.value.what == told


def test_uint16_is_refused_by_a_model_of_bytes():
    with pytest.raises(DataError, match="uint16"):
        contract(units={"uint8": (0, 255)}).to_input(chip(dtype=np.uint16))


def test_centre_crop():
    pixels = np.arange(25).reshape(5, 5, 1)
    assert centre_crop(pixels, 3)[..., 0].tolist() == [[6, 7, 8], [11, 12, 13], [16, 17, 18]]
    assert centre_crop(pixels, 9).shape == centre_crop(pixels, None).shape == (5, 5, 1)


def test_survives_json():
    assert Contract.model_validate_json(contract().model_dump_json()) == contract()


def test_a_single_band_is_resized_as_three():
    grey = np.random.default_rng(0).integers(0, 256, (51, 40, 1), np.uint8)
    three = contract(bands=("R", "G", "B"), size=16).to_image(np.repeat(grey, 3, axis=2))
    assert np.array_equal(contract(size=16).to_image(grey), three)


@pytest.mark.parametrize("unit", ["amplitude", "intensity", "sigma0", "db"])
def test_a_unit_without_a_stretch_is_named(unit):
    with pytest.raises(DataError, match=f"chips in {unit} cannot be given to a network yet"):
        contract(units={unit: (0, 1)}).check(chip(dtype=np.float32))
