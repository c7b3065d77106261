"""Select uncertain, rare and different chips."""

from collections.abc import Sequence

import numpy as np

from rsft.types import Floats, Labels, Reals


def uncertainty(probabilities: Floats, set_sizes: Labels | None = None) -> Floats:
    """Return how uncertain the class of each chip is.

    It is the mean of two numbers: 1 minus the margin between the two most probable
    classes (Scheffer et al. 2001, https://doi.org/10.1007/3-540-44816-0_31), and the
    share of the classes in the class set.

    Args:
        probabilities: (N, C).
        set_sizes: number of classes in each class set (N,), 0 if the set was withheld,
            which counts as all classes; None takes the margin alone.

    Returns:
        (N,), from 0 to 1.
    """
    classes = probabilities.shape[1]
    if classes == 1:
        return np.ones(len(probabilities))
    second, first = np.sort(probabilities, axis=1)[:, -2:].T
    margins: Floats = 1 - (first - second)
    if set_sizes is None:
        return margins
    shares = np.where(set_sizes == 0, classes, set_sizes) / classes
    return np.asarray((margins + shares) / 2, np.float64)


def rarity_weights(chips_by_class: Reals) -> Floats:
    """Return the weight of each class (C,): 1 / (chips + 1).

    Args:
        chips_by_class: number of labeled chips of each class (C,); expected numbers
            need not be whole.
    """
    return 1.0 / (np.asarray(chips_by_class, np.float64) + 1.0)


def select_chips(
    probabilities: Floats,
    scores: Floats,
    chips_by_class: Reals,
    count: int,
) -> list[int]:
    """Select chips one by one.

    Each one has the largest product of score, rarity and difference.

    Rarity is the weight of its classes (`rarity_weights`), averaged over its
    probabilities. After each selection, the probabilities of the selected chip are
    added to the numbers of labeled chips, so that no single rare class fills the list.
    Difference is the Hellinger distance of its probabilities to those of the nearest
    selected chip: the greedy k-center method (Sener and Savarese 2018,
    https://arxiv.org/abs/1708.00489) with a weight for each chip. Chips with equal
    probabilities are only selected if nothing else is left.

    Args:
        probabilities: (N, C).
        scores: a positive score of each chip (N,).
        chips_by_class: number of training chips of each class (C,).
        count: number of chips to select.

    Returns:
        Indices of min(count, N) chips, the best first.

    Example:
        >>> probabilities = np.array([[0.5, 0.5], [0.5, 0.5], [0.9, 0.1]])
        >>> select_chips(probabilities, np.array([1.0, 1.0, 0.2]), np.array([9, 9]), 2)
        [0, 2]
    """
    chips_by_class = np.array(chips_by_class, float)
    roots = np.sqrt(probabilities)
    nearest = np.ones(len(probabilities))
    remaining = np.ones(len(probabilities), bool)
    selected = []
    for _ in range(min(count, len(probabilities))):
        gains = scores * (probabilities @ rarity_weights(chips_by_class))
        products = np.where(remaining, gains * nearest, -1.0)
        if products.max() <= 0:
            products = np.where(remaining, gains, -1.0)
        best = int(np.argmax(products))
        selected.append(best)
        remaining[best] = False
        chips_by_class += probabilities[best]
        # at most 1, the distance to no chip
        distances = np.sqrt(((roots - roots[best]) ** 2).sum(axis=1) / 2)
        nearest = np.minimum(nearest, distances)
    return selected


def describe_reason(
    probabilities: Floats, classes: Sequence[str], distance: float
) -> str:
    """Return in words why a chip was selected.

    Args:
        probabilities: (C,).
        classes: names of the classes.
        distance: distance from the training chips as a multiple of the limit; NaN if
            unknown.

    Returns:
        The two most probable classes, such as "T72 41 %, BMP2 38 %", and the distance
        beyond the limit.
    """
    order = np.argsort(-probabilities, kind="stable")[:2]
    shares = [f"{classes[index]} {100 * probabilities[index]:.0f} %" for index in order]
    reason = ", ".join(shares)
    if distance > 1:
        reason += f"; unlike the training chips ({distance:.1f} times the limit)"
    return reason
