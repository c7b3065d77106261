"""Metrics of probabilities: top-k accuracy and log loss."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rsft.metrics.bootstrap import Interval, percentile_interval, resampled_means

MIN_PROBABILITY = float(np.finfo(np.float64).eps)
"""Lower limit of probabilities, which keeps the log loss finite, as in scikit-learn."""


def top_k_accuracy(
    probabilities: NDArray[np.floating], labels: NDArray[np.integer], k: int, rng: np.random.Generator, resamples: int
) -> Interval:
    """Return the share of chips with the true class among the k most probable; ties go to the lower index.

    Args:
        probabilities: (N, C).
        labels: (N,) class indices.
        k: number of classes.
        rng: random generator of the bootstrap.
        resamples: number of bootstrap resamples.

    Returns:
        The share with its interval.
    """
    true_probability = probabilities[np.arange(len(labels)), labels][:, None]
    is_lower_index = np.arange(probabilities.shape[1]) < labels[:, None]
    is_ranked_before = (probabilities > true_probability) | ((probabilities == true_probability) & is_lower_index)
    hits = (is_ranked_before.sum(axis=1) < k).astype(np.float64)
    means, resampled, counts = _class_means(hits, labels, rng, resamples)
    return percentile_interval(float(means @ counts / counts.sum()), resampled @ counts / counts.sum())


def balanced_log_loss(
    probabilities: NDArray[np.floating], labels: NDArray[np.integer], rng: np.random.Generator, resamples: int
) -> Interval:
    """Return the mean over the classes with chips of the class's mean -log p, in nats; p is that of the true class.

    Args:
        probabilities: (N, C).
        labels: (N,) class indices.
        rng: random generator of the bootstrap.
        resamples: number of bootstrap resamples.

    Returns:
        The loss with its interval.
    """
    true_probability = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    losses = -np.log(np.maximum(true_probability, MIN_PROBABILITY))
    means, resampled, _ = _class_means(losses, labels, rng, resamples)
    return percentile_interval(float(means.mean()), resampled.mean(axis=1))


def _class_means(
    values: NDArray[np.float64], labels: NDArray[np.integer], rng: np.random.Generator, resamples: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Return class means (K,), those of the resamples (R, K) and chip counts (K,) of the K classes with chips."""
    by_class = [values[labels == index] for index in np.unique(labels)]
    means = np.array([class_values.mean() for class_values in by_class])
    resampled = np.stack([resampled_means(class_values, resamples, rng) for class_values in by_class], axis=1)
    return means, resampled, np.array([len(class_values) for class_values in by_class])
