"""Views and averages are the same for arrays of NumPy and tensors of PyTorch."""

import numpy as np
import pytest
import torch

from rsft.models.outputs import VIEWS, average_outputs, rotate_images

IMAGES = np.arange(2 * 3 * 6 * 6, dtype=np.float32).reshape(2, 3, 6, 6)


@pytest.mark.parametrize("name", VIEWS)
def test_views_of_arrays_are_those_of_tensors(name):
    size = 4 if "crop" in name else 6
    arrays = VIEWS[name](IMAGES, size)
    tensors = VIEWS[name](torch.from_numpy(IMAGES), size)
    assert len(arrays) == len(tensors) and all(
        np.array_equal(a, b) for a, b in zip(arrays, tensors, strict=True)
    )


def test_rotation_of_an_image():
    np.testing.assert_allclose(
        rotate_images(IMAGES, 90), np.rot90(IMAGES, 1, (2, 3)), atol=1e-4
    )
    down, right = np.mgrid[:9, :9].astype("f4") - 4
    rotated = rotate_images(down[None, None], 15)[0, 0]
    expected = 0.965926 * down + 0.258819 * right
    np.testing.assert_allclose(rotated[2:-2, 2:-2], expected[2:-2, 2:-2], atol=1e-5)
    # 0.9 pixels beyond the border as 0.9 pixels before it
    assert rotated[0, 0] == pytest.approx(-4 + abs(expected[0, 0] + 4), abs=1e-5)


def test_averages_are_the_mean_of_probabilities_and_features():
    rng = np.random.default_rng(0)
    logits = 80 * rng.normal(size=(3, 5, 4)).astype("f4")
    features = rng.normal(size=(3, 5, 2)).astype("f4")
    tensors = (
        [torch.from_numpy(array) for array in logits],
        [torch.from_numpy(array) for array in features],
    )
    mean_logits, mean_features = average_outputs(list(logits), list(features))
    expected = (
        torch.stack([member.double().softmax(1) for member in tensors[0]])
        .mean(0)
        .numpy()
    )
    np.testing.assert_allclose(np.exp(mean_logits), expected, atol=1e-6)
    np.testing.assert_allclose(mean_features, features.mean(0), atol=1e-6)
    for array, tensor in zip(
        (mean_logits, mean_features), average_outputs(*tensors), strict=True
    ):
        assert array.dtype == np.float32 and tensor.dtype == torch.float32
        np.testing.assert_allclose(array, tensor.numpy(), rtol=1e-5, atol=1e-6)
