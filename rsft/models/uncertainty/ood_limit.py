"""Limit of the distance from the training chips, and how many chips are above it by chance.

The limit is an order statistic of the distances of N validation chips, as in split conformal prediction. The share of
new chips above it is then beta-distributed, if they are like the validation chips (Vovk 2012). With few validation
chips, it varies much: with 60 chips, between 1 % and 11 % for a target of 5 %.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray


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
    """Return the expected share of chips above `ood_limit`.

    Args:
        validation_chips: number of validation chips.
        rate: the rate of `ood_limit`.

    Returns:
        The share: at most `rate`, or 1 / (N + 1) if N validation chips are too few for it.
    """
    return 1 - _rank(validation_chips, rate) / (validation_chips + 1)


def chance_of_unlike_chips(unlike: int, chips: int, validation_chips: int, rate: float) -> float:
    """Return the probability that at least `unlike` of the chips are above the limit by chance.

    The number is beta-binomial, because the limit itself is estimated.

    Args:
        unlike: number of chips above `ood_limit`.
        chips: number of chips.
        validation_chips: number of validation chips.
        rate: the rate of `ood_limit`.

    Returns:
        The probability.
    """
    if unlike <= 0:
        return 1.0
    rank = _rank(validation_chips, rate)
    above = validation_chips + 1 - rank
    numbers = np.arange(
        chips, dtype=float
    )  # p(k + 1) / p(k) = (chips - k)(k + above) / ((k + 1)(chips - k - 1 + rank))
    ratios = (chips - numbers) * (numbers + above) / ((numbers + 1) * (chips - numbers - 1 + rank))
    parts = (chips + rank, above + rank), (rank, chips + above + rank)
    start = sum(map(math.lgamma, parts[0])) - sum(map(math.lgamma, parts[1]))
    logs = start + np.concatenate([[0.0], np.cumsum(np.log(ratios))])
    return min(1.0, float(np.exp(logs[unlike:]).sum()))


def _rank(count: int, rate: float) -> int:
    """Return ceil((N + 1) (1 - rate)), at most N; rounded first so that 0.95 x 20 is 19."""
    return min(count, math.ceil(round((count + 1) * (1 - rate), 9)))
