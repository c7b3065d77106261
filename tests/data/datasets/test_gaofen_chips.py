"""Gray chips, and crops of ships of SRSDD."""

import os

import numpy as np
import pytest
from PIL import Image

from rsft.data.datasets import gaofen_chips
from rsft.data.datasets.gaofen_chips import crop_srsdd_ship, read_gray_chip
from rsft.data.datasets.srsdd import SRSDD
from rsft.data.imagery.reader import read_chip
from rsft.errors import DataError
from tests.data.datasets.srsdd.data import write_srsdd


@pytest.fixture
def ships(tmp_path):
    return SRSDD(
        write_srsdd(tmp_path, {7: ["Fishing", "Dredger", "ore-oil"]}), split="all"
    ).ships


def test_ships_of_one_image_have_it_decoded_once_unless_it_changes(ships, monkeypatch):
    decoded = []
    monkeypatch.setattr(
        gaofen_chips,
        "read_chip",
        lambda path: (decoded.append(path), read_chip(path))[1],
    )
    first = [crop_srsdd_ship(ship) for ship in ships]
    assert decoded == [ships[0].image] and first[0].shape == (64, 64, 1)
    Image.fromarray(255 - np.asarray(Image.open(ships[0].image))).save(ships[0].image)
    os.utime(ships[0].image, ns=(0, 1))
    np.testing.assert_array_equal(crop_srsdd_ship(ships[0]), 255 - first[0])


def test_a_box_outside_the_image_is_an_error(ships):
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(ships[0].image)
    os.utime(ships[0].image, ns=(0, 2))
    with pytest.raises(DataError, match="outside the image"):
        crop_srsdd_ship(ships[0])


def test_three_equal_bands_are_one_and_others_are_refused(tmp_path):
    path = tmp_path / "chip.png"
    pixels = np.repeat(np.arange(64, dtype=np.uint8).reshape(8, 8, 1), 3, axis=2)
    Image.fromarray(pixels).save(path)
    np.testing.assert_array_equal(read_gray_chip(path), pixels[..., :1])
    pixels[0, 0] = (1, 2, 3)
    Image.fromarray(pixels).save(path)
    with pytest.raises(DataError, match="the 3 bands differ"):
        read_gray_chip(path)
