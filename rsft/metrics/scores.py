"""What is read from probabilities beside the class: the second guess and the log-loss."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rsft.metrics.bootstrap import Interval, interval, resampled_means

LEAST = float(np.finfo(np.float64).eps)
"""A probability of 0 for the true class would cost infinitely much; it is taken for this (scikit-learn's choice)."""


def top_k(
    probabilities: NDArray[np.floating], labels: NDArray[np.integer], k: int, rng: np.random.Generator, resamples: int
) -> Interval:
    """Share of the chips whose class is among the k most probable; equal ones go to the lower index."""
    own = probabilities[np.arange(len(labels)), labels][:, None]
    lower = np.arange(probabilities.shape[1]) < labels[:, None]
    rank = ((probabilities > own) | ((probabilities == own) & lower)).sum(axis=1)
    found, drawn, counts = _by_class((rank < k).astype(np.float64), labels, rng, resamples)
    return interval(float(found @ counts / counts.sum()), drawn @ counts / counts.sum())


def balanced_log_loss(
    probabilities: NDArray[np.floating], labels: NDArray[np.integer], rng: np.random.Generator, resamples: int
) -> Interval:
    """Mean over the classes that have chips of their mean -log p of the true class, in nats."""
    own = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    found, drawn, _ = _by_class(-np.log(np.maximum(own, LEAST)), labels, rng, resamples)
    return interval(float(found.mean()), drawn.mean(axis=1))


def _by_class(
    values: NDArray[np.float64], labels: NDArray[np.integer], rng: np.random.Generator, resamples: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Means of the K classes that have chips (K,), of their resamples (R, K), and their numbers of chips (K,)."""
    own = [values[labels == index] for index in np.unique(labels)]
    means = np.array([part.mean() for part in own])
    drawn = np.stack([resampled_means(part, resamples, rng) for part in own], axis=1)
    return means, drawn, np.array([len(part) for part in own])
