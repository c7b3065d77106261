"""Which training chips an epoch takes, and in which order."""

from __future__ import annotations

from typing import Literal

import numpy as np

from rsft.types import Indices

Sampler = Literal["natural", "class-balanced", "square-root"]

_POWER = {"natural": 1.0, "square-root": 0.5, "class-balanced": 0.0}


def order(labels: Indices, members: Indices, sampler: Sampler, seed: int, epoch: int) -> Indices:
    """The chips of an epoch in order, as many as it has members; a function of its arguments alone.

    "natural" is a permutation of the members. The others draw with replacement, a class of n members with probability
    n^q / sum n^q, at q = 0 ("class-balanced") and q = 1/2 ("square-root"): Kang et al. 2020, equation 1,
    https://arxiv.org/abs/1910.09217.

    Args:
        labels: class of every training chip (N,).
        members: indices of the chips that the epoch may use (M,).

    Returns:
        Indices into the training chips (M,).
    """
    rng = np.random.default_rng((seed, epoch))
    if sampler == "natural":
        return rng.permutation(members)
    own = labels[members]
    weights = np.bincount(own)[own] ** (_POWER[sampler] - 1)
    return rng.choice(members, len(members), p=weights / weights.sum())
