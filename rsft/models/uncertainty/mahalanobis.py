"""Mahalanobis distance of features from the features of the training chips."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsft.utils.array_namespace import array_namespace

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
    white = features.astype(np.float64) @ whitening
    distances: NDArray[np.float64] = nearest_distance(white, white_class_means(means, whitening))
    return distances


def white_class_means(means: NDArray[np.floating], whitening: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the class means in the space in which the covariance within classes is the identity.

    Args:
        means: (C, D); rows with NaN are left out.
        whitening: (D, D), from `fit_whitening`.

    Returns:
        (K, D) for K classes with a mean.
    """
    white: NDArray[np.float64] = means[~np.isnan(means).any(axis=1)].astype(np.float64) @ whitening
    return white


def nearest_distance(white: Any, white_means: Any) -> Any:
    """Return the Euclidean distance of each row to the nearest mean.

    Args:
        white: (N, D) whitened features, an array or a tensor.
        white_means: (K, D), from `white_class_means`.

    Returns:
        (N,).
    """
    namespace = array_namespace(white)
    squares = (white**2).sum(1)[:, None] - 2 * white @ white_means.T + (white_means**2).sum(1)
    return namespace.sqrt(namespace.clip(namespace.amin(squares, axis=1), 0, None))
