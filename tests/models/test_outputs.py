"""Views and averages are the same for arrays of NumPy and tensors of PyTorch."""

import numpy as np
import pytest
import torch
from torch import nn

from rsft.models.classifier import collect_outputs
from rsft.models.outputs import VIEWS, average_outputs


class Doubling(nn.Linear):
    """Features are the inputs, logits their doubles."""

    def predict(self, x):
        return 2 * x, x


class Batches(list):
    count = 6


def test_batches_are_joined_in_order_and_counted():
    inputs = torch.arange(12.0).reshape(6, 2)
    counts = []

    def report(done, total, task):
        counts.append((done, total))

    outputs = collect_outputs(
        Doubling(1, 1), Batches((part, None) for part in inputs.split(4)), report
    )
    np.testing.assert_array_equal(outputs.features, inputs.numpy())
    np.testing.assert_array_equal(outputs.logits, 2 * inputs.numpy())
    assert counts == [(0, 6), (4, 6), (6, 6)] and outputs.logits.dtype == np.float32


IMAGES = np.arange(2 * 3 * 6 * 6, dtype=np.float32).reshape(2, 3, 6, 6)


@pytest.mark.parametrize("name", VIEWS)
def test_views_of_arrays_are_those_of_tensors(name):
    size = 4 if "crop" in name else 6
    arrays = VIEWS[name](IMAGES, size)
    tensors = VIEWS[name](torch.from_numpy(IMAGES), size)
    assert len(arrays) == len(tensors) and all(
        np.array_equal(a, b) for a, b in zip(arrays, tensors, strict=True)
    )


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
