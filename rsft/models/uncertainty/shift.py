"""Test whether new chips are like the validation chips, on which temperature and class sets were fitted.

The two-sample tests need NumPy alone, because importing SciPy takes longer than classifying a few chips.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_MAX_EXACT = 10_000_000  # product of the sizes up to which the exact distribution is computed, in about 0.1 s


def kolmogorov_smirnov(values: NDArray[np.floating], others: NDArray[np.floating]) -> tuple[float, float]:
    """Compare two samples by the Kolmogorov-Smirnov test.

    Args:
        values: (N,).
        others: (M,).

    Returns:
        The largest difference of the distribution functions, and the probability of at least such a difference if both
        samples have the same distribution. It is exact if N M is at most ten million. For larger samples it is the
        limit, with the correction of Stephens 1970 for finite samples.
    """
    points = np.concatenate([values, others])
    first, second = (np.searchsorted(np.sort(sample), points, "right") for sample in (values, others))
    n, m = len(values), len(others)
    distance = int(np.abs(first.astype(np.int64) * m - second.astype(np.int64) * n).max())  # times n m, so it is whole
    statistic = distance / (n * m)
    if n * m <= _MAX_EXACT:
        return statistic, _exact_probability(distance, *sorted((n, m)))
    root = math.sqrt(n * m / (n + m))
    return statistic, _limit_probability((root + 0.12 + 0.11 / root) * statistic)


def _exact_probability(distance: int, n: int, m: int) -> float:
    """Return the probability that samples of n and m values have at least `distance` / (n m).

    The order of both samples is a path from (0, 0) to (n, m), and all paths are equally probable. The share of those
    with |i m - j n| < distance everywhere is summed row by row (Kim and Jennrich 1973).
    """
    columns = np.arange(m + 1, dtype=np.int64) * n
    share = np.ones(m + 1)
    for i in range(n + 1):
        low, high = np.searchsorted(columns, [i * m - distance + 1, i * m + distance])
        inside = share[low:high] * (i / (i + m)) if i else share[low:high].copy()
        share[:] = 0
        share[low:high] = np.cumsum(inside) if i else inside
    return min(1.0, max(0.0, 1.0 - float(share[m])))


def _limit_probability(value: float) -> float:
    """Return the probability that Kolmogorov's distribution exceeds a value."""
    if value < 0.2:
        return 1.0
    total = 0.0
    term, k = 1.0, 0
    while term >= 1e-16:
        k += 1
        term = math.exp(-2 * (k * value) ** 2)
        total += term if k % 2 else -term
    return min(1.0, max(0.0, 2 * total))


def chi_squared(counts: NDArray[np.integer]) -> float:
    """Compare the shares of K classes in two samples by the chi-squared test, with Yates' correction for two classes.

    Args:
        counts: (2, K) counts, with K of at least 2 and no column of zeros.

    Returns:
        The probability of at least such a difference if both samples have the same shares.
    """
    expected = np.outer(counts.sum(axis=1), counts.sum(axis=0)) / counts.sum()
    difference = np.abs(counts - expected)
    if counts.shape[1] == 2:
        difference = np.maximum(difference - 0.5, 0)
    return chi_squared_tail(float((difference**2 / expected).sum()), counts.shape[1] - 1)


def chi_squared_tail(value: float, degrees: int) -> float:
    """Return the probability that a chi-squared variable exceeds a value.

    Args:
        value: at least 0.
        degrees: number of degrees of freedom.

    Returns:
        The probability, by the finite sum for whole degrees of freedom (Abramowitz and Stegun 26.4.4 and 26.4.5).
    """
    half = value / 2
    if half == 0:
        return 1.0
    start = 0.0 if degrees % 2 == 0 else 0.5
    terms = (math.exp((start + i) * math.log(half) - half - math.lgamma(start + i + 1)) for i in range(degrees // 2))
    return min(1.0, (math.erfc(math.sqrt(half)) if degrees % 2 else 0.0) + math.fsum(terms))


SHIFT_LEVEL = 0.01
"""Probability that chips like the validation chips fail the test by chance."""

MIN_CHIPS = 10
"""Smallest number of new chips, and of validation chips, that are compared."""

MIN_DIFFERENCE = 0.1
"""Largest difference that is tolerated even if it is significant, as it is with thousands of chips.

It is a difference of distribution functions, or of class shares (total variation distance)."""

_MIN_EXPECTED = 5  # expected count of a class in the chi-squared test; rarer classes are pooled
_DECIMALS = 4  # the engines differ in later decimals, which must not make equal values different


class ChipSummary(NamedTuple):
    """What is compared of N chips.

    Attributes:
        distances: (N,) distances from the training chips.
        probabilities: (N,) calibrated probability of the predicted class.
        predicted: (N,) index of the predicted class.
    """

    distances: NDArray[np.floating]
    probabilities: NDArray[np.floating]
    predicted: NDArray[np.integer]


class Difference(NamedTuple):
    """Difference between new chips and validation chips.

    Attributes:
        size: Kolmogorov-Smirnov statistic, or total variation distance of class shares; 0 to 1.
        p: probability of such a difference by chance, for one test.
    """

    size: float
    p: float


@dataclass(frozen=True)
class ShiftTest:
    """Result of the comparison of new chips with the validation chips.

    Attributes:
        distance: difference of the distances from the training chips; None if they were not compared.
        probability: difference of the probabilities of the predicted class; None if they were not compared.
        classes: difference of the shares of the predicted classes; None if they were not compared.
        reason: why nothing was compared; "" if something was.
    """

    distance: Difference | None = None
    probability: Difference | None = None
    classes: Difference | None = None
    reason: str = ""

    @property
    def differences(self) -> dict[str, Difference]:
        """The differences that were measured, by name."""
        values = {"distance": self.distance, "probability": self.probability, "classes": self.classes}
        return {name: value for name, value in values.items() if value is not None}

    @property
    def shifted(self) -> tuple[str, ...]:
        """Names of the differences that are significant at `SHIFT_LEVEL` together, and larger than tolerated."""
        level = SHIFT_LEVEL / max(1, len(self.differences))  # Bonferroni
        return tuple(name for name, (size, p) in self.differences.items() if p < level and size >= MIN_DIFFERENCE)


def compare_chips(chips: ChipSummary, validation: ChipSummary) -> ShiftTest:
    """Compare new chips with the validation chips by two-sample tests.

    Distances and probabilities are compared by the Kolmogorov-Smirnov test, the shares of the predicted classes by the
    chi-squared test, in which rare classes are pooled. Chips without a distance (NaN) are left out.

    Args:
        chips: the new chips.
        validation: the validation chips.

    Returns:
        The differences, or the reason why the chips were not compared.
    """
    distances, validation_distances = _without_nan(chips.distances), _without_nan(validation.distances)
    if len(validation_distances) < MIN_CHIPS:
        return ShiftTest(reason=f"the bundle has {len(validation_distances)} validation chips, fewer than {MIN_CHIPS}")
    if len(distances) < MIN_CHIPS:
        return ShiftTest(reason=f"fewer than {MIN_CHIPS} chips with a distance")
    samples = _without_nan(chips.probabilities), _without_nan(validation.probabilities)
    return ShiftTest(
        Difference(*kolmogorov_smirnov(distances, validation_distances)),
        Difference(*kolmogorov_smirnov(*samples)),
        _compare_classes(chips.predicted, validation.predicted),
    )


def _without_nan(values: NDArray[np.floating]) -> NDArray[np.float64]:
    finite: NDArray[np.float64] = np.asarray(values, np.float64)[~np.isnan(values)].round(_DECIMALS)
    return finite


def _compare_classes(predicted: NDArray[np.integer], others: NDArray[np.integer]) -> Difference:
    n_classes = int(max(predicted.max(), others.max())) + 1
    counts = np.array([np.bincount(labels, minlength=n_classes) for labels in (predicted, others)])
    shares = counts / counts.sum(axis=1, keepdims=True)
    size = float(np.abs(shares[0] - shares[1]).sum() / 2)
    expected = counts.sum(axis=0) * counts.sum(axis=1).min() / counts.sum()
    is_rare = expected < _MIN_EXPECTED
    pooled = counts[:, ~is_rare]
    if counts[:, is_rare].any():  # all rare classes together
        pooled = np.column_stack([pooled, counts[:, is_rare].sum(axis=1)])
    return Difference(size, chi_squared(pooled) if pooled.shape[1] > 1 else 1.0)
