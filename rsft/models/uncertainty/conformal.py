"""Class-conditional conformal sets: of the chips of every class, at least the wanted share has it in their set.

Split conformal prediction with the classes as Mondrian categories (Vovk et al. 2005; Sadinle et al. 2019,
https://arxiv.org/abs/1609.00451, whose least ambiguous sets these are).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray


def chips_needed(coverage: float) -> int:
    """The fewest calibration chips from which a class can be covered: 9 for 0.9, 19 for 0.95.

    Below that the largest score seen is not large enough, and a valid set always holds the class.
    """
    return next(n for n in range(1, 10**6) if _rank(n, coverage) <= n)


def limits(
    scores: NDArray[np.float64], labels: NDArray[np.integer], n_classes: int, coverage: float
) -> NDArray[np.float64]:
    """The largest score at which a class still belongs to a set, (C,); infinite where its chips are too few.

    Args:
        scores: (N,) of the true class of each calibration chip; larger is stranger.
        labels: (N,) class indices.
        n_classes: C.
        coverage: the wanted share, 0-1.
    """
    found = np.full(n_classes, np.inf)
    for index in range(n_classes):
        own = np.sort(scores[labels == index])
        rank = _rank(len(own), coverage)
        if rank <= len(own):
            found[index] = own[rank - 1]
    return found


def _rank(count: int, coverage: float) -> int:
    """ceil((n + 1) coverage), where 0.9 x 10 is 9 and not the next number."""
    return max(1, math.ceil(round((count + 1) * coverage, 9)))
