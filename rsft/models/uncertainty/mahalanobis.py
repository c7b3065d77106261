"""Mahalanobis distance of features from the features of the training chips."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_Features = NDArray[np.floating]


def fit_class_means(features: _Features, labels: NDArray[np.integer], n_classes: int) -> NDArray[np.float64]:
    """Return the mean features of every class.

    Args:
        features: (N, D).
        labels: (N,) class indices.
        n_classes: C.

    Returns:
        (C, D), NaN for a class without chips.
    """
    sums = np.zeros((n_classes, features.shape[1]))
    np.add.at(sums, labels, features)
    counts = np.bincount(labels, minlength=n_classes)[:, None]
    means: NDArray[np.float64] = np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)
    return means


def fit_whitening(features: _Features, labels: NDArray[np.integer], means: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the matrix that transforms the covariance within classes, common to all classes, to the identity.

    The covariance is shrunk (Ledoit and Wolf 2004), because it may be estimated from fewer chips than features.

    Args:
        features: (N, D).
        labels: (N,) class indices.
        means: (C, D), from `fit_class_means`.

    Returns:
        (D, D).
    """
    from sklearn.covariance import ledoit_wolf

    covariance, _ = ledoit_wolf(features - means[labels], assume_centered=True)
    values, vectors = np.linalg.eigh(covariance)
    whitening: NDArray[np.float64] = vectors / np.sqrt(np.maximum(values, values.max() * 1e-9))
    return whitening


def mahalanobis_distance(
    features: _Features, means: NDArray[np.floating], whitening: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Return the Mahalanobis distance of each chip to the nearest class mean (Lee et al. 2018, eq. 2).

    Args:
        features: (N, D).
        means: (C, D); rows with NaN are ignored.
        whitening: (D, D), from `fit_whitening`.

    Returns:
        (N,).
    """
    white_means = means[~np.isnan(means).any(axis=1)].astype(np.float64) @ whitening
    white = features.astype(np.float64) @ whitening
    squares = (white**2).sum(1)[:, None] - 2 * white @ white_means.T + (white_means**2).sum(1)
    distances: NDArray[np.float64] = np.sqrt(np.maximum(squares.min(axis=1), 0))
    return distances
