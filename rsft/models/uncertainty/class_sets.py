"""Thresholds of class sets.

Sets are those of split conformal prediction with the classes as Mondrian categories
(Vovk et al. 2005): for every class, a given share of its chips have sets that contain
it. They are the least ambiguous ones of Sadinle et al. 2019,
https://arxiv.org/abs/1609.00451.

If new chips have another distribution than the validation chips, sets keep their
coverage if every validation chip has the likelihood ratio of both distributions as its
weight (Tibshirani et al. 2019, https://arxiv.org/abs/1904.06019). The ratio is
estimated by a logistic regression that separates new chips from validation chips. It
also contains the ratio of the class shares, which is no reason for another threshold of
a class. Therefore `Calibrator.widened_sets` only uses the weights to make sets larger.
"""

import math

import numpy as np

from rsft.types import Floats, Labels, Reals


def min_calibration_chips(coverage: float) -> int:
    """Return the smallest number of calibration chips for a coverage of a class.

    It is 9 for 0.9, and 19 for 0.95.

    With fewer chips even the largest observed score is too low a threshold, so every
    set contains the class.
    """
    # rounded, so that 0.9 / 0.1 is 9
    return max(1, math.ceil(round(coverage / (1 - coverage), 9)))


def class_thresholds(
    scores: Floats, labels: Labels, n_classes: int, coverage: float
) -> Floats:
    """Return the largest score at which a class still belongs to a set.

    Args:
        scores: (N,) scores of the true class of each calibration chip; larger means
            less probable.
        labels: (N,) class indices.
        n_classes: C.
        coverage: share of the chips of each class with a set that contains it, above 0
            and below 1.

    Returns:
        (C,), infinite for a class with too few chips.
    """
    weights = np.ones(len(scores))
    thresholds = weighted_thresholds(
        scores, labels, weights, np.ones(1), n_classes, coverage
    )
    return np.asarray(thresholds[0])


_MAX_FIT_CHIPS = 2000  # of each side, evenly spaced, on which the regression is fitted

# strong: with few chips, weights shrink to 1. 0.03 to 1 gave nearly the same coverage
_INVERSE_PENALTY = 0.1
_MAX_STEPS = 50
_MIN_STEP = 1e-9  # of Newton's method, which takes about 6 steps


def likelihood_ratios(validation: Reals, new: Reals) -> tuple[Floats, Floats]:
    """Estimate how much more frequent each chip is among new chips.

    The comparison is with the validation chips.

    Args:
        validation: (N, F) features of the validation chips.
        new: (M, F) features of the new chips; a constant feature has no influence.

    Returns:
        Ratios (N,) of the validation chips and (M,) of the new chips; 1 for equal
        distributions.
    """
    first = _sample(validation)
    second = _sample(new)
    rows = np.concatenate([first, second]).astype(np.float64)
    mean = rows.mean(axis=0)
    std = rows.std(axis=0)
    scale = np.divide(1.0, std, out=np.zeros_like(std), where=std > 1e-9)
    is_new = np.repeat([0.0, 1.0], [len(first), len(second)])
    weights, intercept = _fit_logistic_regression((rows - mean) * scale, is_new)
    # the ratio does not depend on the numbers of chips
    intercept += np.log(len(first) / len(second))
    return (
        np.exp((validation - mean) * scale @ weights + intercept),
        np.exp((new - mean) * scale @ weights + intercept),
    )


def _fit_logistic_regression(rows: Floats, targets: Floats) -> tuple[Floats, float]:
    """Fit a logistic regression by Newton's method.

    Returns weights (F,) and intercept; the weights have an L2 penalty.

    The rows (N, F) have mean 0 and standard deviation 1; the targets (N,) are 0 or 1.
    """
    design = np.column_stack([rows, np.ones(len(rows))])
    penalty = np.r_[np.ones(rows.shape[1]), 0.0] / _INVERSE_PENALTY

    def loss(weights: Floats) -> float:
        scores = design @ weights
        fit = np.logaddexp(0, scores).sum() - targets @ scores
        return float(fit + (penalty * weights**2).sum() / 2)

    weights = np.zeros(design.shape[1])
    step = np.ones(1)
    for _ in range(_MAX_STEPS):
        if np.abs(step).max() < _MIN_STEP:
            break
        p = 1 / (1 + np.exp(-design @ weights))
        gradient = design.T @ (p - targets) + penalty * weights
        spread = (design * (p * (1 - p))[:, None]).T
        curvature = spread @ design + np.diag(penalty)
        step = np.linalg.solve(curvature, gradient)
        size = 1.0
        before = loss(weights)
        while loss(weights - size * step) > before and size > _MIN_STEP:
            size /= 2
        weights = weights - size * step
    return weights[:-1], float(weights[-1])


def _sample(features: Reals) -> Reals:
    count = min(len(features), _MAX_FIT_CHIPS)
    return np.asarray(features[np.linspace(0, len(features) - 1, count).astype(int)])


def weighted_thresholds(
    scores: Floats,
    labels: Labels,
    weights: Floats,
    new_weights: Floats,
    n_classes: int,
    coverage: float,
) -> Floats:
    """Return for every new chip the largest score of a class in its set.

    Args:
        scores: (N,) scores of the true class of each validation chip; larger means less
            probable.
        labels: (N,) class indices.
        weights: (N,) weights of the validation chips.
        new_weights: (M,) weights of the new chips.
        n_classes: C.
        coverage: share of the chips of each class with a set that contains it, above 0
            and below 1.

    Returns:
        (M, C), infinite for a class whose validation chips weigh too little. With equal
        weights, all rows are those of `class_thresholds`.
    """
    thresholds = np.full((len(new_weights), n_classes), np.inf)
    for index in range(n_classes):
        members = np.flatnonzero(labels == index)
        members = members[np.argsort(scores[members], kind="stable")]
        cumulative = np.concatenate([np.cumsum(weights[members]), [np.inf]])
        total = weights[members].sum()
        # the tolerance lets 9 of 10 equal weights reach 0.9 of their sum
        needed = coverage * (total + new_weights) * (1 - 1e-9)
        rank = np.searchsorted(cumulative, needed)
        thresholds[:, index] = np.append(scores[members], np.inf)[rank]
    return thresholds
