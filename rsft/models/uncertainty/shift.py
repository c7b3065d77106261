"""Two-sample tests of new chips against the validation chips.

They need NumPy alone, because importing SciPy takes longer than classifying a few
chips.
"""

import math
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from rsft.types import Floats, Labels, Names, Reals


def kolmogorov_smirnov(values: Reals, others: Reals) -> tuple[float, float]:
    """Compare two samples by the Kolmogorov-Smirnov test.

    Args:
        values: (N,).
        others: (M,).

    Returns:
        The largest difference of the distribution functions, and the probability of at
        least such a difference if both samples have the same distribution: the limit of
        large samples, with the correction of Stephens 1970 for finite ones.
    """
    n = len(values)
    m = len(others)
    points = np.concatenate([values, others])
    first = np.searchsorted(np.sort(values), points, "right")
    second = np.searchsorted(np.sort(others), points, "right")
    statistic = float(np.abs(first / n - second / m).max())
    root = math.sqrt(n * m / (n + m))
    value = (root + 0.12 + 0.11 / root) * statistic  # of Kolmogorov's distribution
    if value < 0.2:
        return statistic, 1.0
    terms = np.exp(-2 * (np.arange(1, 32) * value) ** 2)  # the last is below 1e-33
    return statistic, min(1.0, 2 * float(terms[::2].sum() - terms[1::2].sum()))


def chi_squared(counts: Labels) -> float:
    """Compare the shares of K classes in two samples by the chi-squared test.

    Two classes have Yates' correction.

    Args:
        counts: (2, K) counts, with K of at least 2 and no column of zeros.

    Returns:
        The probability of at least such a difference if both samples have the same
        shares.
    """
    expected = np.outer(counts.sum(axis=1), counts.sum(axis=0)) / counts.sum()
    difference = np.abs(counts - expected)
    if counts.shape[1] == 2:
        difference = np.maximum(difference - 0.5, 0)
    value = float((difference**2 / expected).sum())
    return chi_squared_tail(value, counts.shape[1] - 1)


def chi_squared_tail(value: float, degrees: int) -> float:
    """Return the probability that a chi-squared variable exceeds a value.

    Args:
        value: at least 0.
        degrees: number of degrees of freedom.

    Returns:
        The probability, by the finite sum for whole degrees of freedom (Abramowitz and
        Stegun 26.4.4 and 26.4.5).
    """
    half = value / 2
    if half == 0:
        return 1.0
    is_odd = degrees % 2
    tail = math.erfc(math.sqrt(half)) if is_odd else 0.0
    for i in range(degrees // 2):
        power = i + is_odd / 2
        tail += math.exp(power * math.log(half) - half - math.lgamma(power + 1))
    return min(1.0, tail)


SHIFT_LEVEL = 0.01
"""Probability that chips like the validation chips fail the test by chance."""

MIN_CHIPS = 10
"""Smallest number of new chips, and of validation chips, that are compared."""

MIN_DIFFERENCE = 0.1
"""Largest difference that is tolerated even if it is significant, as it is with
thousands of chips.

It is a difference of distribution functions, or of class shares (total variation
distance)."""

# expected count of a class in the chi-squared test; rarer classes are pooled
_MIN_EXPECTED = 5

# the engines differ in later decimals, which must not make equal values different
_DECIMALS = 4


class ChipSummary(NamedTuple):
    """What is compared of N chips.

    Attributes:
        distances: (N,) distances from the training chips.
        probabilities: (N,) calibrated probability of the predicted class.
        predicted: (N,) index of the predicted class.
    """

    distances: Reals
    probabilities: Reals
    predicted: Labels


class Difference(NamedTuple):
    """Difference of new from validation chips: size 0 to 1, and its p-value.

    The size is a Kolmogorov-Smirnov statistic, or the total variation distance of class
    shares.
    """

    size: float
    p: float


@dataclass(frozen=True)
class ShiftTest:
    """Result of the comparison of new chips with the validation chips.

    Attributes:
        differences: the differences of "distance" (from the training chips),
            "probability" (of the predicted class) and "classes" (shares of the
            predicted classes); empty if nothing was compared.
        reason: why nothing was compared; "" if something was.
        is_nearer: whether the mean distance of the chips from the training chips is
            below that of the validation chips.
    """

    differences: dict[str, Difference] = field(default_factory=dict)
    reason: str = ""
    is_nearer: bool = False

    @property
    def shifted(self) -> Names:
        """Names of the significant differences that are larger than tolerated.

        They are significant at `SHIFT_LEVEL` together.
        """
        level = SHIFT_LEVEL / max(1, len(self.differences))  # Bonferroni
        return tuple(
            name
            for name, (size, p) in self.differences.items()
            if p < level and size >= MIN_DIFFERENCE
        )

    @property
    def warnings(self) -> Names:
        """Names of the differences that make predictions less reliable.

        A smaller distance does not.
        """
        return tuple(
            name for name in self.shifted if name != "distance" or not self.is_nearer
        )


def compare_chips(chips: ChipSummary, validation: ChipSummary) -> ShiftTest:
    """Compare new chips with the validation chips by two-sample tests.

    Distances and probabilities are compared by the Kolmogorov-Smirnov test, the shares
    of the predicted classes by the chi-squared test, in which rare classes are pooled.
    Chips without a distance (NaN) are left out.

    Args:
        chips: the new chips.
        validation: the validation chips.

    Returns:
        The differences, or the reason why the chips were not compared.
    """
    distances = _without_nan(chips.distances)
    validation_distances = _without_nan(validation.distances)
    if len(validation_distances) < MIN_CHIPS:
        return ShiftTest(
            reason=(
                f"the bundle has {len(validation_distances)} validation chips, fewer"
                f" than {MIN_CHIPS}"
            )
        )
    if len(distances) < MIN_CHIPS:
        return ShiftTest(reason=f"fewer than {MIN_CHIPS} chips with a distance")
    probabilities = _without_nan(chips.probabilities)
    validation_probabilities = _without_nan(validation.probabilities)
    differences = {
        "distance": Difference(*kolmogorov_smirnov(distances, validation_distances)),
        "probability": Difference(
            *kolmogorov_smirnov(probabilities, validation_probabilities)
        ),
        "classes": _compare_classes(chips.predicted, validation.predicted),
    }
    return ShiftTest(
        differences, is_nearer=bool(distances.mean() < validation_distances.mean())
    )


def _without_nan(values: Reals) -> Floats:
    return np.asarray(values, np.float64)[~np.isnan(values)].round(_DECIMALS)


def _compare_classes(predicted: Labels, others: Labels) -> Difference:
    n_classes = int(max(predicted.max(), others.max())) + 1
    counts = np.stack(
        [
            np.bincount(predicted, minlength=n_classes),
            np.bincount(others, minlength=n_classes),
        ]
    )
    shares = counts / counts.sum(axis=1, keepdims=True)
    size = float(np.abs(shares[0] - shares[1]).sum() / 2)
    expected = counts.sum(axis=0) * counts.sum(axis=1).min() / counts.sum()
    is_rare = expected < _MIN_EXPECTED
    pooled = counts[:, ~is_rare]
    if counts[:, is_rare].any():  # all rare classes together
        pooled = np.column_stack([pooled, counts[:, is_rare].sum(axis=1)])
    return Difference(size, chi_squared(pooled) if pooled.shape[1] > 1 else 1.0)
