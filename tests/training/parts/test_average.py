"""The exponential mean of the weights."""

import pytest
import torch

from rsft.training.parts.average import WeightAverage


class Weights:
    """Stands for a classifier with one learned tensor."""

    def __init__(self, bias):
        self.bias = torch.tensor([bias])

    def learned_state(self):
        return {"bias": self.bias}

    def load_learned_state(self, state):
        self.bias.copy_(state["bias"])


def test_the_mean_of_the_weights_follows_the_recursion():
    classifier = Weights(1.0)
    average = WeightAverage(classifier, 0.3)
    expected = 1.0
    for step, value in enumerate([2.0, 5.0, -1.0, 4.0, 8.0]):
        classifier.bias.fill_(value)
        average.after_step(step)
        decay = min(0.3, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
        assert average.state["bias"].item() == pytest.approx(expected)
        assert classifier.bias.item() == value
    first = [(1 + step) / (10 + step) for step in range(3)]
    assert first == [1 / 10, 2 / 11, 3 / 12] and 0.3 < 4 / 13


def test_the_mean_is_in_the_classifier_for_a_block():
    classifier = Weights(1.0)
    average = WeightAverage(classifier, 0.0)
    classifier.bias.fill_(3.0)
    with pytest.raises(ValueError, match="stop"), average.use_weights():
        assert classifier.bias.item() == 1
        raise ValueError("stop")
    assert classifier.bias.item() == 3


def test_a_pruned_site_stays_pruned():
    classifier = Weights(float("-inf"))
    average = WeightAverage(classifier, 0.9)
    average.after_step(0)
    assert average.state["bias"].item() == float("-inf")
