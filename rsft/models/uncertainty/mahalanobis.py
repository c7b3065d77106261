"""How far features lie from those of the training chips."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Features = NDArray[np.floating]


def fit_means(features: Features, labels: NDArray[np.integer], n_classes: int) -> NDArray[np.float64]:
    """Mean features of every class (C, D); NaN for a class without chips."""
    sums = np.zeros((n_classes, features.shape[1]))
    np.add.at(sums, labels, features)
    counts = np.bincount(labels, minlength=n_classes)[:, None]
    means: NDArray[np.float64] = np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)
    return means


def fit_whitening(features: Features, labels: NDArray[np.integer], means: NDArray[np.float64]) -> NDArray[np.float64]:
    """(D, D) that makes the covariance within the classes, which they share, the identity.

    The covariance is shrunk after Ledoit and Wolf (2004): there may be fewer chips than features.
    """
    from sklearn.covariance import ledoit_wolf

    covariance, _ = ledoit_wolf(features - means[labels], assume_centered=True)
    values, vectors = np.linalg.eigh(covariance)
    whitening: NDArray[np.float64] = vectors / np.sqrt(np.maximum(values, values.max() * 1e-9))
    return whitening


def nearest(features: Features, means: NDArray[np.floating], whitening: NDArray[np.floating]) -> NDArray[np.float64]:
    """Mahalanobis distance (N,) of each row to the nearest class mean (Lee et al. 2018, eq. 2)."""
    there = means[~np.isnan(means).any(axis=1)].astype(np.float64) @ whitening
    places = features.astype(np.float64) @ whitening
    squares = (places**2).sum(1)[:, None] - 2 * places @ there.T + (there**2).sum(1)
    distances: NDArray[np.float64] = np.sqrt(np.maximum(squares.min(axis=1), 0))
    return distances
