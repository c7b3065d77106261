"""Calibration error: the gap between confidence and accuracy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def expected_calibration_error(
    probabilities: NDArray[np.floating], labels: NDArray[np.integer], bins: int = 15
) -> float:
    """Return the mean gap between confidence and accuracy, weighted by bin size (Guo et al. 2017, eq. 3).

    Args:
        probabilities: (N, C), rows sum to 1.
        labels: (N,) class indices.
        bins: number of bins of equal width over the confidence of the predicted class, closed at the upper end.
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    hit = probabilities.argmax(axis=1) == labels
    bin_index = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gaps = np.bincount(bin_index, weights=hit - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(labels))
