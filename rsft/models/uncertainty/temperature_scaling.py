"""Temperature scaling: one number that makes probabilities as sure as they are right."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LIMITS = (0.05, 20.0)
"""Beyond them a temperature no longer says anything: chips that are all wrong ask for infinity."""


def fit_temperature(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
    """The T that minimises the log-loss of softmax(logits / T) (Guo et al. 2017, https://arxiv.org/abs/1706.04599).

    The true class is asked to have p = (N + 1) / (N + 2), the rule of succession, and not 1 (Platt 1999, section 2.2):
    of 20 chips that are all right nobody learns that the next one is right for certain.

    Args:
        logits: (N, C).
        labels: (N,) class indices.
    """
    from scipy.optimize import minimize_scalar

    low, high = np.log(LIMITS)
    count, classes = logits.shape
    others = 1 / (count + 2) / max(1, classes - 1)
    own = (count + 1) / (count + 2) - others

    def loss(log_temperature: float) -> float:
        logs = log_softmax(logits, float(np.exp(log_temperature)))
        return -float(own * logs[np.arange(count), labels].mean() + others * logs.sum(axis=1).mean())

    return float(np.exp(minimize_scalar(loss, bounds=(low, high), method="bounded").x))


def log_softmax(logits: NDArray[np.floating], temperature: float = 1.0) -> NDArray[np.float64]:
    """Logarithms of softmax(logits / temperature), (N, C)."""
    scaled = logits.astype(np.float64) / temperature
    scaled -= scaled.max(axis=1, keepdims=True)
    logs: NDArray[np.float64] = scaled - np.log(np.exp(scaled).sum(axis=1, keepdims=True))
    return logs
