"""Mahalanobis distance of features from those of the training chips, its limit, and how many chips exceed it by chance.

The limit is an order statistic of the distances of N validation chips, as in split conformal prediction. The share of
new chips above it is then beta-distributed, if they are like the validation chips (Vovk 2012). With few validation
chips, it varies much: with 60 chips, between 1 % and 11 % for a target of 5 %.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsft.utils.array_namespace import array_namespace


def ood_limit(distances: NDArray[np.floating], rate: float) -> float:
    """Return the limit that a share `rate` of new chips exceeds on average, if they are like the validation chips.

    With fewer than 1 / rate - 1 validation chips, it is their largest distance, which more chips exceed.

    Args:
        distances: (N,) distances of the validation chips.
        rate: share of chips, between 0 and 1.

    Returns:
        The limit, above 0.
    """
    return max(float(np.sort(distances)[_rank(len(distances), rate) - 1]), 1e-12)


def expected_share(validation_chips: int, rate: float) -> float:
    """Return the expected share of chips above `ood_limit`: `rate`, or 1 / (N + 1) if N chips are too few for it."""
    return 1 - _rank(validation_chips, rate) / (validation_chips + 1)


def chance_of_ood_chips(ood_chips: int, chips: int, validation_chips: int, rate: float) -> float:
    """Return the probability that at least `ood_chips` of the chips are above the limit by chance.

    The number is beta-binomial, because the limit itself is estimated.

    Args:
        ood_chips: number of chips above `ood_limit`.
        chips: number of chips.
        validation_chips: number of validation chips.
        rate: the rate of `ood_limit`.
    """
    return float(_chances(chips, validation_chips, rate)[max(0, ood_chips)])


def largest_chance_share(chips: int, validation_chips: int, rate: float, level: float) -> float:
    """Return the largest share of chips above the limit that chance explains.

    Args:
        chips: number of chips.
        validation_chips: number of validation chips.
        rate: the rate of `ood_limit`.
        level: a share is explained if its probability (`chance_of_ood_chips`) is at least this large.

    Returns:
        The share.
    """
    return int(np.flatnonzero(_chances(chips, validation_chips, rate) >= level)[-1]) / max(1, chips)


def _chances(chips: int, validation_chips: int, rate: float) -> NDArray[np.float64]:
    """Return the probability (chips + 1,) of at least 0, 1, ... chips above the limit."""
    rank = _rank(validation_chips, rate)
    above = validation_chips + 1 - rank
    numbers = np.arange(chips, dtype=float)
    # p(k + 1) / p(k) = (chips - k)(k + above) / ((k + 1)(chips - k - 1 + rank))
    ratios = (chips - numbers) * (numbers + above) / ((numbers + 1) * (chips - numbers - 1 + rank))
    parts = (chips + rank, above + rank), (rank, chips + above + rank)
    start = sum(map(math.lgamma, parts[0])) - sum(map(math.lgamma, parts[1]))
    logs = start + np.concatenate([[0.0], np.cumsum(np.log(ratios))])
    chances: NDArray[np.float64] = np.minimum(np.exp(logs)[::-1].cumsum()[::-1], 1.0)
    chances[0] = 1.0
    return chances


def _rank(count: int, rate: float) -> int:
    """Return ceil((N + 1) (1 - rate)), at most N; rounded first so that 0.95 x 20 is 19."""
    return min(count, math.ceil(round((count + 1) * (1 - rate), 9)))


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
