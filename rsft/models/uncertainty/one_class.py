"""Compare predictions with one class as the answer for every chip."""

import math
from dataclasses import dataclass

import numpy as np

from rsft.types import Labels


@dataclass(frozen=True)
class OneClass:
    """The largest class as the answer for every chip, beside predictions.

    Attributes:
        index: the class.
        share: share of the chips that have this class.
        accuracy: share of the chips whose predicted class is right.
        p: probability of at least this advantage of the predictions by chance.
    """

    index: int
    share: float
    accuracy: float
    p: float

    @property
    def is_beaten(self) -> bool:
        """Whether chance does not explain that the predictions are better."""
        return self.p < _ADVANTAGE_LEVEL


_ADVANTAGE_LEVEL = 0.05


def compare_with_one_class(predicted: Labels, labels: Labels) -> OneClass:
    """Compare predictions with one class for all chips by the sign test.

    It counts the chips for which exactly one of both answers is right. The tail of the
    binomial distribution is that of the normal distribution with a continuity
    correction.

    Args:
        predicted: (N,) predicted class indices, N of at least 1.
        labels: (N,) class indices.

    Example:
        >>> compare_with_one_class(np.array([0, 0, 1, 1]), np.array([0, 0, 0, 1]))
        OneClass(index=0, share=0.75, accuracy=0.75, p=0.76...)
    """
    index = int(np.bincount(labels).argmax())
    is_right = predicted == labels
    is_largest = labels == index
    gained = int((is_right & ~is_largest).sum())
    lost = int((is_largest & ~is_right).sum())
    advantage = (gained - lost - 1) / math.sqrt(2 * max(1, gained + lost))
    p = math.erfc(advantage) / 2
    return OneClass(index, float(is_largest.mean()), float(is_right.mean()), p)
