import numpy as np
import torch
from torch import nn

from rsft.models.outputs import collect_outputs


class Doubling(nn.Linear):
    """Features are the inputs, logits their doubles."""

    def predict(self, x):
        return 2 * x, x


def test_batches_are_joined_in_order_and_counted():
    inputs = torch.arange(12.0).reshape(6, 2)
    counts = []
    batches = [(part, torch.zeros(len(part))) for part in inputs.split(4)]
    outputs = collect_outputs(Doubling(1, 1), batches, counts.append)
    np.testing.assert_array_equal(outputs.features, inputs.numpy())
    np.testing.assert_array_equal(outputs.logits, 2 * inputs.numpy())
    assert counts == [4, 6] and outputs.logits.dtype == np.float32
