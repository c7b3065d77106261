"""Distances from the training chips, and the limit above which a chip is foreign.

The limit of distances is an order statistic of the Mahalanobis distances of N
validation chips from the nearest training chip. The share of new chips above it is then
beta-distributed, if they are like the validation chips (Vovk 2012). With few validation
chips, it varies much: with 60 chips, between 1 % and 11 % for a target of 5 %.
"""

import math
from typing import Any

import numpy as np

from rsft.types import Floats, Labels, Reals
from rsft.utils.array_namespace import array_namespace


def ood_limit(distances: Reals, rate: float) -> float:
    """Return the limit that a share `rate` of new chips exceeds on average.

    The new chips are like the validation chips.

    With fewer than 1 / rate - 1 validation chips, it is their largest distance, which
    more chips exceed.

    Args:
        distances: (N,) distances of the validation chips.
        rate: share of chips, between 0 and 1.

    Returns:
        The limit, above 0.
    """
    return max(float(np.sort(distances)[_ood_rank(len(distances), rate) - 1]), 1e-12)


def expected_share(validation_chips: int, rate: float) -> float:
    """Return the expected share of chips above `ood_limit`.

    It is `rate`, or 1 / (N + 1) if N chips are too few for it.
    """
    return 1 - _ood_rank(validation_chips, rate) / (validation_chips + 1)


def largest_chance_count(
    chips: int, validation_chips: int, rate: float, level: float
) -> int:
    """Return the largest number of chips above `ood_limit` that chance explains.

    The number is beta-binomial, because the limit itself is estimated.

    Args:
        chips: number of chips.
        validation_chips: number of validation chips.
        rate: the rate of `ood_limit`.
        level: a number is explained if it or more has at least this probability.
    """
    rank = _ood_rank(validation_chips, rate)
    above = validation_chips + 1 - rank
    numbers = np.arange(chips, dtype=float)
    # p(k + 1) / p(k) = (chips - k)(k + above) / ((k + 1)(chips - k - 1 + rank))
    ratios = (chips - numbers) * (numbers + above)
    ratios /= (numbers + 1) * (chips - numbers - 1 + rank)
    logs = np.concatenate([[0.0], np.cumsum(np.log(ratios))])
    chances = np.exp(logs - logs.max())[::-1].cumsum()[::-1]
    return int(np.flatnonzero(chances >= level * chances[0])[-1])


def _ood_rank(count: int, rate: float) -> int:
    """Return ceil((N + 1) (1 - rate)), at most N.

    It is rounded first so that 0.95 x 20 is 19.
    """
    return min(count, math.ceil(round((count + 1) * (1 - rate), 9)))


def fit_distance(
    features: Reals, labels: Labels, n_classes: int
) -> tuple[Floats, Floats]:
    """Fit class means, and the matrix that whitens the covariance within classes.

    The covariance is common to all classes.

    The covariance is shrunk (Ledoit and Wolf 2004), because it may be estimated from
    fewer chips than features.

    Args:
        features: (N, D).
        labels: (N,) class indices.
        n_classes: C.

    Returns:
        Means (C, D), NaN for a class without chips, and the matrix (D, D).
    """
    from sklearn.covariance import ledoit_wolf

    sums = np.zeros((n_classes, features.shape[1]))
    np.add.at(sums, labels, features)
    counts = np.bincount(labels, minlength=n_classes)[:, None]
    means = np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)
    covariance, _ = ledoit_wolf(features - means[labels], assume_centered=True)
    values, vectors = np.linalg.eigh(covariance)
    return means, vectors / np.sqrt(np.maximum(values, values.max() * 1e-9))


_ROWS = 4096  # chips whose features are in memory as float64


def mahalanobis_distance(
    features: Reals, references: Reals, whitening: Reals
) -> Floats:
    """Return the Mahalanobis distance of each chip to the nearest reference.

    Sources: Lee et al. 2018, eq. 2, for class means; Sun et al. 2022, for the nearest
    training chip.

    Args:
        features: (N, D).
        references: (K, D) features of training chips, or class means; rows with NaN
            are ignored.
        whitening: (D, D), from `fit_distance`.

    Returns:
        (N,).
    """
    white_references = whiten_references(references, whitening)
    starts = range(0, max(1, len(features)), _ROWS)
    parts = (
        features[start : start + _ROWS].astype(np.float64) @ whitening
        for start in starts
    )
    return np.concatenate([nearest_distance(part, white_references) for part in parts])


def whiten_references(references: Reals, whitening: Reals) -> Floats:
    """Return references in the whitened space.

    There, the covariance within classes is the identity.

    Args:
        references: (K, D); rows with NaN are left out.
        whitening: (D, D), from `fit_distance`.

    Returns:
        (L, D) for L references without NaN.
    """
    return references[~np.isnan(references).any(axis=1)].astype(np.float64) @ whitening


def nearest_distance(white: Any, white_references: Any) -> Any:
    """Return the Euclidean distance of each row to the nearest reference.

    Args:
        white: (N, D) whitened features, an array or a tensor.
        white_references: (K, D), from `whiten_references`.

    Returns:
        (N,).
    """
    namespace = array_namespace(white)
    squares = (
        (white**2).sum(1)[:, None]
        - 2 * white @ white_references.T
        + (white_references**2).sum(1)
    )
    return namespace.sqrt(namespace.clip(namespace.amin(squares, axis=1), 0, None))
