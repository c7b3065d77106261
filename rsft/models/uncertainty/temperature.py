"""The temperature that calibrates probabilities."""

import math
from typing import Any

import numpy as np

from rsft.types import Floats, Labels, Reals
from rsft.utils.array_namespace import log_sum_exp, to_float

TEMPERATURE_RANGE = (0.05, 20.0)
"""Smallest and largest temperature: for chips that are all wrong, the best temperature
would be infinite."""


def fit_temperature(logits: Reals, labels: Labels) -> float:
    """Return the T that minimizes the log loss of softmax(logits / T).

    Source: Guo et al. 2017, https://arxiv.org/abs/1706.04599.

    The target probability of the true class is (N + 1) / (N + 2), the rule of
    succession, instead of 1 (Platt 1999, section 2.2): a small number of correct chips
    does not prove that the next one is correct. Logits are (N, C).
    """
    from scipy.optimize import minimize_scalar

    low, high = np.log(TEMPERATURE_RANGE)
    count, classes = logits.shape
    other_weight = 1 / (count + 2) / max(1, classes - 1)
    true_weight = (count + 1) / (count + 2) - other_weight

    def loss(log_temperature: float) -> float:
        logs = log_softmax(logits, float(np.exp(log_temperature)))
        true_logs = logs[np.arange(count), labels]
        return -float(
            true_weight * true_logs.mean() + other_weight * logs.sum(axis=1).mean()
        )

    return float(np.exp(minimize_scalar(loss, bounds=(low, high), method="bounded").x))


def log_softmax(logits: Any, temperature: float = 1.0) -> Any:
    """Return the logarithm of softmax(logits / temperature).

    Args:
        logits: (N, C), an array or a tensor.
        temperature: divisor.

    Returns:
        (N, C), in double precision.
    """
    scaled = to_float(logits, 64) / temperature
    return scaled - log_sum_exp(scaled, 1)


def lower_probabilities(probabilities: Reals, accuracy: float) -> Floats:
    """Lower probabilities until their mean for the predicted class is an accuracy.

    All logits are divided by one temperature of at least 1.

    Args:
        probabilities: (N, C).
        accuracy: the mean, between 0 and 1; a smaller mean stays as it is.

    Example:
        >>> lower_probabilities(np.array([[0.9, 0.1], [0.8, 0.2]]), 0.6).round(2)
        array([[0.62, 0.38],
               [0.58, 0.42]])
    """
    logs = np.log(np.maximum(probabilities, _SMALLEST_PROBABILITY))
    sample = logs[:: math.ceil(len(logs) / _MAX_FIT_CHIPS)]

    def mean(temperature: float) -> float:
        return float(np.exp(log_softmax(sample, temperature).max(axis=1)).mean())

    low = 1.0
    high = TEMPERATURE_RANGE[1]
    while high - low > _TEMPERATURE_STEP and mean(low) > accuracy:
        middle = math.sqrt(low * high)
        if mean(middle) > accuracy:
            low = middle
        else:
            high = middle
    return np.asarray(np.exp(log_softmax(logs, low)))


_SMALLEST_PROBABILITY = 1e-9
_TEMPERATURE_STEP = 1e-6
_MAX_FIT_CHIPS = 2000  # on which the temperature is fitted
