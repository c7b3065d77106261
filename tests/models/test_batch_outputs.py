"""Outputs of a classifier for the chips of many batches."""

import numpy as np
import torch
from torch import nn

from rsft.models.batch_outputs import collect_outputs, join_rows


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


def test_rows_of_batches_are_joined():
    inputs = torch.arange(12.0).reshape(6, 2)
    parts = Batches((part, None) for part in inputs.split(4))
    doubled, first = join_rows(lambda x: (2 * x, x[:, :1]), parts, None, "")
    assert torch.equal(doubled, 2 * inputs) and torch.equal(first, inputs[:, :1])
