"""Weighted conformal sets: validation chips that are like the new chips count more.

If new chips have another distribution than the validation chips, sets keep their coverage if every validation chip has
the likelihood ratio of both distributions as its weight (Tibshirani et al. 2019, https://arxiv.org/abs/1904.06019). The
ratio is estimated by a logistic regression that separates new chips from validation chips. It also contains the ratio
of the class shares, which is no reason for another threshold of a class. Therefore `Calibrator.widened_sets` only uses
the weights to make sets larger.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_MAX_FIT_CHIPS = 2000  # chips of each side on which the regression is fitted, evenly spaced
_INVERSE_PENALTY = 0.1  # strong: with few chips, weights shrink to 1. 0.03 to 1 gave nearly the same coverage
_MAX_STEPS, _MIN_STEP = 50, 1e-9  # of Newton's method, which takes about 6 steps

_Features = NDArray[np.floating]


def likelihood_ratios(validation: _Features, new: _Features) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Estimate by how much every chip is more frequent among the new chips than among the validation chips.

    Args:
        validation: (N, F) features of the validation chips.
        new: (M, F) features of the new chips; a constant feature has no influence.

    Returns:
        Ratios (N,) of the validation chips and (M,) of the new chips; 1 for equal distributions.
    """
    samples = [_sample(features) for features in (validation, new)]
    rows = np.concatenate(samples).astype(np.float64)
    mean, std = rows.mean(axis=0), rows.std(axis=0)
    scale = np.divide(1.0, std, out=np.zeros_like(std), where=std > 1e-9)
    is_new = np.repeat([0.0, 1.0], [len(sample) for sample in samples])
    weights, intercept = _fit_logistic_regression((rows - mean) * scale, is_new)
    intercept += np.log(len(samples[0]) / len(samples[1]))  # the ratio does not depend on the numbers of chips
    ratios = [np.exp((features - mean) * scale @ weights + intercept) for features in (validation, new)]
    return ratios[0], ratios[1]


def _fit_logistic_regression(
    rows: NDArray[np.float64], targets: NDArray[np.float64]
) -> tuple[NDArray[np.float64], float]:
    """Fit a logistic regression with an L2 penalty on its weights by Newton's method.

    Args:
        rows: (N, F), with mean 0 and standard deviation 1.
        targets: (N,) 0 or 1.

    Returns:
        Weights (F,) and intercept.
    """
    design = np.column_stack([rows, np.ones(len(rows))])
    penalty = np.r_[np.ones(rows.shape[1]), 0.0] / _INVERSE_PENALTY

    def loss(weights: NDArray[np.float64]) -> float:
        scores = design @ weights
        return float(np.logaddexp(0, scores).sum() - targets @ scores + (penalty * weights**2).sum() / 2)

    weights = np.zeros(design.shape[1])
    for _ in range(_MAX_STEPS):
        probabilities = 1 / (1 + np.exp(-design @ weights))
        gradient = design.T @ (probabilities - targets) + penalty * weights
        curvature = (design * (probabilities * (1 - probabilities))[:, None]).T @ design + np.diag(penalty)
        step = np.linalg.solve(curvature, gradient)
        size, before = 1.0, loss(weights)
        while loss(weights - size * step) > before and size > _MIN_STEP:
            size /= 2
        weights = weights - size * step
        if np.abs(step).max() < _MIN_STEP:
            break
    return weights[:-1], float(weights[-1])


def _sample(features: _Features) -> _Features:
    count = min(len(features), _MAX_FIT_CHIPS)
    sample: _Features = features[np.linspace(0, len(features) - 1, count).astype(int)]
    return sample


def weighted_thresholds(
    scores: NDArray[np.float64],
    labels: NDArray[np.integer],
    weights: NDArray[np.float64],
    new_weights: NDArray[np.float64],
    n_classes: int,
    coverage: float,
) -> NDArray[np.float64]:
    """Return for every new chip the largest score at which a class still belongs to its set.

    Args:
        scores: (N,) scores of the true class of each validation chip; larger means less probable.
        labels: (N,) class indices.
        weights: (N,) weights of the validation chips.
        new_weights: (M,) weights of the new chips.
        n_classes: C.
        coverage: share of the chips of each class with a set that contains it, above 0 and below 1.

    Returns:
        (M, C), infinite for a class whose validation chips weigh too little. With equal weights, all rows are those of
        `class_thresholds`.
    """
    thresholds = np.full((len(new_weights), n_classes), np.inf)
    for index in range(n_classes):
        members = np.flatnonzero(labels == index)
        members = members[np.argsort(scores[members], kind="stable")]
        cumulative = np.concatenate([np.cumsum(weights[members]), [np.inf]])
        total = weights[members].sum()
        # The tolerance lets 9 of 10 equal weights reach 0.9 of their sum in spite of rounding.
        rank = np.searchsorted(cumulative, coverage * (total + new_weights) * (1 - 1e-9))
        thresholds[:, index] = np.append(scores[members], np.inf)[rank]
    return thresholds
