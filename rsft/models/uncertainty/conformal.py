"""Temperature scaling, and conformal sets: for every class, a given share of its chips have sets that contain it.

This is split conformal prediction with the classes as Mondrian categories (Vovk et al. 2005). The sets are the least
ambiguous ones of Sadinle et al. 2019, https://arxiv.org/abs/1609.00451.

If new chips have another distribution than the validation chips, sets keep their coverage if every validation chip has
the likelihood ratio of both distributions as its weight (Tibshirani et al. 2019, https://arxiv.org/abs/1904.06019). The
ratio is estimated by a logistic regression that separates new chips from validation chips. It also contains the ratio
of the class shares, which is no reason for another threshold of a class. Therefore `Calibrator.widened_sets` only uses
the weights to make sets larger.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsft.utils.array_namespace import log_sum_exp, to_float


def min_calibration_chips(coverage: float) -> int:
    """Return the smallest number of calibration chips with which a class can have the coverage: 9 for 0.9, 19 for 0.95.

    With fewer chips even the largest observed score is too low a threshold, so every set contains the class.

    Args:
        coverage: share of the chips of each class with a set that contains it, above 0 and below 1.
    """
    return next(n for n in range(1, 10**6) if _rank(n, coverage) <= n)


def class_thresholds(
    scores: NDArray[np.float64], labels: NDArray[np.integer], n_classes: int, coverage: float
) -> NDArray[np.float64]:
    """Return the largest score at which a class still belongs to a set.

    Args:
        scores: (N,) scores of the true class of each calibration chip; larger means less probable.
        labels: (N,) class indices.
        n_classes: C.
        coverage: share of the chips of each class with a set that contains it, above 0 and below 1.

    Returns:
        (C,), infinite for a class with too few chips.
    """
    thresholds = np.full(n_classes, np.inf)
    for index in range(n_classes):
        class_scores = np.sort(scores[labels == index])
        rank = _rank(len(class_scores), coverage)
        if rank <= len(class_scores):
            thresholds[index] = class_scores[rank - 1]
    return thresholds


def _rank(count: int, coverage: float) -> int:
    """Return ceil((n + 1) coverage), rounded first so that 0.9 x 10 is 9."""
    return max(1, math.ceil(round((count + 1) * coverage, 9)))


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
    """Return weights (F,) and intercept of a logistic regression with an L2 penalty on its weights, by Newton's method.

    Args:
        rows: (N, F), with mean 0 and standard deviation 1.
        targets: (N,) 0 or 1.
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


TEMPERATURE_RANGE = (0.05, 20.0)
"""Smallest and largest temperature: for chips that are all wrong, the best temperature would be infinite."""


def fit_temperature(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
    """Return the T that minimizes the log loss of softmax(logits / T) (Guo et al. 2017, https://arxiv.org/abs/1706.04599).

    The target probability of the true class is (N + 1) / (N + 2), the rule of succession, instead of 1 (Platt 1999,
    section 2.2): a small number of correct chips does not prove that the next one is correct.

    Args:
        logits: (N, C).
        labels: (N,) class indices.
    """
    from scipy.optimize import minimize_scalar

    low, high = np.log(TEMPERATURE_RANGE)
    count, classes = logits.shape
    other_weight = 1 / (count + 2) / max(1, classes - 1)
    true_weight = (count + 1) / (count + 2) - other_weight

    def loss(log_temperature: float) -> float:
        logs = log_softmax(logits, float(np.exp(log_temperature)))
        true_logs = logs[np.arange(count), labels]
        return -float(true_weight * true_logs.mean() + other_weight * logs.sum(axis=1).mean())

    return float(np.exp(minimize_scalar(loss, bounds=(low, high), method="bounded").x))


def log_softmax(logits: Any, temperature: float = 1.0) -> Any:
    """Return the logarithm of softmax(logits / temperature).

    Args:
        logits: (N, C), an array or a tensor.
        temperature: divisor.

    Returns:
        (N, C), in double precision.
    """
    scaled = to_float(logits, 64) / temperature
    return scaled - log_sum_exp(scaled, 1)
