"""Class-conditional conformal sets: for every class, a given share of its chips have sets that contain it.

This is split conformal prediction with the classes as Mondrian categories (Vovk et al. 2005). The sets are the least
ambiguous ones of Sadinle et al. 2019, https://arxiv.org/abs/1609.00451.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray


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
