"""Images of bytes become normalized inputs."""

import numpy as np
import pytest
import torch

from rsft.data.imagery.input_transform import standardize_chips
from rsft.data.imagery.stretch import IDENTITY_STRETCH
from tests.data.imagery.test_contract import UINT16, contract


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
        # the floor keeps speckle of an empty chip small
        expected = (values - values.mean()) / (values.std() + 5 / 255)
        np.testing.assert_allclose(chip_inputs, expected, atol=1e-5)
        assert 0.8 < chip_inputs.std() < 1
    # whatever the batch
    np.testing.assert_array_equal(inputs[1], standard().normalize([images[1]])[0])


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
