"""Statistics: temperature, conformal sets, distances, two-sample tests.

Sets are those of split conformal prediction with the classes as Mondrian categories
(Vovk et al. 2005): for every class, a given share of its chips have sets that contain
it. They are the least ambiguous ones of Sadinle et al. 2019,
https://arxiv.org/abs/1609.00451.

If new chips have another distribution than the validation chips, sets keep their
coverage if every validation chip has the likelihood ratio of both distributions as its
weight (Tibshirani et al. 2019, https://arxiv.org/abs/1904.06019). The ratio is
estimated by a logistic regression that separates new chips from validation chips. It
also contains the ratio of the class shares, which is no reason for another threshold of
a class. Therefore `Calibrator.widened_sets` only uses the weights to make sets larger.

The limit of distances is an order statistic of the Mahalanobis distances of N
validation chips. The share of new chips above it is then beta-distributed, if they are
like the validation chips (Vovk 2012). With few validation chips, it varies much: with
60 chips, between 1 % and 11 % for a target of 5 %.

The two-sample tests need NumPy alone, because importing SciPy takes longer than
classifying a few chips.
"""

import math
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rsft.types import Floats, Labels, Names, Reals
from rsft.utils.array_namespace import array_namespace, log_sum_exp, to_float


def min_calibration_chips(coverage: float) -> int:
    """Return the smallest number of calibration chips for a coverage of a class.

    It is 9 for 0.9, and 19 for 0.95.

    With fewer chips even the largest observed score is too low a threshold, so every
    set contains the class.
    """
    # rounded, so that 0.9 / 0.1 is 9
    return max(1, math.ceil(round(coverage / (1 - coverage), 9)))


def class_thresholds(
    scores: Floats, labels: Labels, n_classes: int, coverage: float
) -> Floats:
    """Return the largest score at which a class still belongs to a set.

    Args:
        scores: (N,) scores of the true class of each calibration chip; larger means
            less probable.
        labels: (N,) class indices.
        n_classes: C.
        coverage: share of the chips of each class with a set that contains it, above 0
            and below 1.

    Returns:
        (C,), infinite for a class with too few chips.
    """
    weights = np.ones(len(scores))
    thresholds = weighted_thresholds(
        scores, labels, weights, np.ones(1), n_classes, coverage
    )
    return np.asarray(thresholds[0])


_MAX_FIT_CHIPS = 2000  # of each side, evenly spaced, on which the regression is fitted
# strong: with few chips, weights shrink to 1. 0.03 to 1 gave nearly the same coverage
_INVERSE_PENALTY = 0.1
_MAX_STEPS = 50
_MIN_STEP = 1e-9  # of Newton's method, which takes about 6 steps


def likelihood_ratios(validation: Reals, new: Reals) -> tuple[Floats, Floats]:
    """Estimate how much more frequent each chip is among new chips.

    The comparison is with the validation chips.

    Args:
        validation: (N, F) features of the validation chips.
        new: (M, F) features of the new chips; a constant feature has no influence.

    Returns:
        Ratios (N,) of the validation chips and (M,) of the new chips; 1 for equal
        distributions.
    """
    first = _sample(validation)
    second = _sample(new)
    rows = np.concatenate([first, second]).astype(np.float64)
    mean = rows.mean(axis=0)
    std = rows.std(axis=0)
    scale = np.divide(1.0, std, out=np.zeros_like(std), where=std > 1e-9)
    is_new = np.repeat([0.0, 1.0], [len(first), len(second)])
    weights, intercept = _fit_logistic_regression((rows - mean) * scale, is_new)
    # the ratio does not depend on the numbers of chips
    intercept += np.log(len(first) / len(second))
    return (
        np.exp((validation - mean) * scale @ weights + intercept),
        np.exp((new - mean) * scale @ weights + intercept),
    )


def _fit_logistic_regression(rows: Floats, targets: Floats) -> tuple[Floats, float]:
    """Fit a logistic regression by Newton's method.

    Returns weights (F,) and intercept; the weights have an L2 penalty.

    The rows (N, F) have mean 0 and standard deviation 1; the targets (N,) are 0 or 1.
    """
    design = np.column_stack([rows, np.ones(len(rows))])
    penalty = np.r_[np.ones(rows.shape[1]), 0.0] / _INVERSE_PENALTY

    def loss(weights: Floats) -> float:
        scores = design @ weights
        fit = np.logaddexp(0, scores).sum() - targets @ scores
        return float(fit + (penalty * weights**2).sum() / 2)

    weights = np.zeros(design.shape[1])
    step = np.ones(1)
    for _ in range(_MAX_STEPS):
        if np.abs(step).max() < _MIN_STEP:
            break
        p = 1 / (1 + np.exp(-design @ weights))
        gradient = design.T @ (p - targets) + penalty * weights
        spread = (design * (p * (1 - p))[:, None]).T
        curvature = spread @ design + np.diag(penalty)
        step = np.linalg.solve(curvature, gradient)
        size = 1.0
        before = loss(weights)
        while loss(weights - size * step) > before and size > _MIN_STEP:
            size /= 2
        weights = weights - size * step
    return weights[:-1], float(weights[-1])


def _sample(features: Reals) -> Reals:
    count = min(len(features), _MAX_FIT_CHIPS)
    return np.asarray(features[np.linspace(0, len(features) - 1, count).astype(int)])


def weighted_thresholds(
    scores: Floats,
    labels: Labels,
    weights: Floats,
    new_weights: Floats,
    n_classes: int,
    coverage: float,
) -> Floats:
    """Return for every new chip the largest score of a class in its set.

    Args:
        scores: (N,) scores of the true class of each validation chip; larger means less
            probable.
        labels: (N,) class indices.
        weights: (N,) weights of the validation chips.
        new_weights: (M,) weights of the new chips.
        n_classes: C.
        coverage: share of the chips of each class with a set that contains it, above 0
            and below 1.

    Returns:
        (M, C), infinite for a class whose validation chips weigh too little. With equal
        weights, all rows are those of `class_thresholds`.
    """
    thresholds = np.full((len(new_weights), n_classes), np.inf)
    for index in range(n_classes):
        members = np.flatnonzero(labels == index)
        members = members[np.argsort(scores[members], kind="stable")]
        cumulative = np.concatenate([np.cumsum(weights[members]), [np.inf]])
        total = weights[members].sum()
        # the tolerance lets 9 of 10 equal weights reach 0.9 of their sum
        needed = coverage * (total + new_weights) * (1 - 1e-9)
        rank = np.searchsorted(cumulative, needed)
        thresholds[:, index] = np.append(scores[members], np.inf)[rank]
    return thresholds


TEMPERATURE_RANGE = (0.05, 20.0)
"""Smallest and largest temperature: for chips that are all wrong, the best temperature
would be infinite."""


def fit_temperature(logits: Reals, labels: Labels) -> float:
    """Return the T that minimizes the log loss of softmax(logits / T).

    Source: Guo et al. 2017, https://arxiv.org/abs/1706.04599.

    The target probability of the true class is (N + 1) / (N + 2), the rule of
    succession, instead of 1 (Platt 1999, section 2.2): a small number of correct chips
    does not prove that the next one is correct. Logits are (N, C).
    """
    from scipy.optimize import minimize_scalar

    low, high = np.log(TEMPERATURE_RANGE)
    count, classes = logits.shape
    other_weight = 1 / (count + 2) / max(1, classes - 1)
    true_weight = (count + 1) / (count + 2) - other_weight

    def loss(log_temperature: float) -> float:
        logs = log_softmax(logits, float(np.exp(log_temperature)))
        true_logs = logs[np.arange(count), labels]
        return -float(
            true_weight * true_logs.mean() + other_weight * logs.sum(axis=1).mean()
        )

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


def ood_limit(distances: Reals, rate: float) -> float:
    """Return the limit that a share `rate` of new chips exceeds on average.

    The new chips are like the validation chips.

    With fewer than 1 / rate - 1 validation chips, it is their largest distance, which
    more chips exceed.

    Args:
        distances: (N,) distances of the validation chips.
        rate: share of chips, between 0 and 1.

    Returns:
        The limit, above 0.
    """
    return max(float(np.sort(distances)[_ood_rank(len(distances), rate) - 1]), 1e-12)


def expected_share(validation_chips: int, rate: float) -> float:
    """Return the expected share of chips above `ood_limit`.

    It is `rate`, or 1 / (N + 1) if N chips are too few for it.
    """
    return 1 - _ood_rank(validation_chips, rate) / (validation_chips + 1)


def chance_of_ood_chips(
    ood_chips: int, chips: int, validation_chips: int, rate: float
) -> float:
    """Return the probability of `ood_chips` or more above the limit by chance.

    The number is beta-binomial, because the limit itself is estimated.

    Args:
        ood_chips: number of chips above `ood_limit`.
        chips: number of chips.
        validation_chips: number of validation chips.
        rate: the rate of `ood_limit`.
    """
    return float(_chances(chips, validation_chips, rate)[max(0, ood_chips)])


def largest_chance_share(
    chips: int, validation_chips: int, rate: float, level: float
) -> float:
    """Return the largest share of chips above the limit that chance explains.

    Args:
        chips: number of chips.
        validation_chips: number of validation chips.
        rate: the rate of `ood_limit`.
        level: a share is explained if its probability (`chance_of_ood_chips`) is at
            least this large.

    Returns:
        The share.
    """
    chances = _chances(chips, validation_chips, rate)
    return int(np.flatnonzero(chances >= level)[-1]) / max(1, chips)


def _chances(chips: int, validation_chips: int, rate: float) -> Floats:
    """Return the probability (chips + 1,) of at least 0, 1, ... chips above it.

    The limit is that of OOD chips.
    """
    rank = _ood_rank(validation_chips, rate)
    above = validation_chips + 1 - rank
    numbers = np.arange(chips, dtype=float)
    # p(k + 1) / p(k) = (chips - k)(k + above) / ((k + 1)(chips - k - 1 + rank))
    ratios = (chips - numbers) * (numbers + above)
    ratios /= (numbers + 1) * (chips - numbers - 1 + rank)
    logs = np.concatenate([[0.0], np.cumsum(np.log(ratios))])
    chances: Floats = np.exp(logs - logs.max())[::-1].cumsum()[::-1]
    return np.asarray(chances / chances[0])


def _ood_rank(count: int, rate: float) -> int:
    """Return ceil((N + 1) (1 - rate)), at most N.

    It is rounded first so that 0.95 x 20 is 19.
    """
    return min(count, math.ceil(round((count + 1) * (1 - rate), 9)))


def fit_distance(
    features: Reals, labels: Labels, n_classes: int
) -> tuple[Floats, Floats]:
    """Fit class means, and the matrix that whitens the covariance within classes.

    The covariance is common to all classes.

    The covariance is shrunk (Ledoit and Wolf 2004), because it may be estimated from
    fewer chips than features.

    Args:
        features: (N, D).
        labels: (N,) class indices.
        n_classes: C.

    Returns:
        Means (C, D), NaN for a class without chips, and the matrix (D, D).
    """
    from sklearn.covariance import ledoit_wolf

    sums = np.zeros((n_classes, features.shape[1]))
    np.add.at(sums, labels, features)
    counts = np.bincount(labels, minlength=n_classes)[:, None]
    means: Floats = np.divide(
        sums, counts, out=np.full_like(sums, np.nan), where=counts > 0
    )
    covariance, _ = ledoit_wolf(features - means[labels], assume_centered=True)
    values, vectors = np.linalg.eigh(covariance)
    return means, vectors / np.sqrt(np.maximum(values, values.max() * 1e-9))


_ROWS = 4096  # chips whose features are in memory as float64


def mahalanobis_distance(features: Reals, means: Reals, whitening: Reals) -> Floats:
    """Return the Mahalanobis distance of each chip to the nearest class mean.

    Source: Lee et al. 2018, eq. 2.

    Args:
        features: (N, D).
        means: (C, D); rows with NaN are ignored.
        whitening: (D, D), from `fit_distance`.

    Returns:
        (N,).
    """
    white_means = white_class_means(means, whitening)
    starts = range(0, max(1, len(features)), _ROWS)
    parts = (
        features[start : start + _ROWS].astype(np.float64) @ whitening
        for start in starts
    )
    return np.concatenate([nearest_distance(part, white_means) for part in parts])


def white_class_means(means: Reals, whitening: Reals) -> Floats:
    """Return the class means in the whitened space.

    There, the covariance within classes is the identity.

    Args:
        means: (C, D); rows with NaN are left out.
        whitening: (D, D), from `fit_distance`.

    Returns:
        (K, D) for K classes with a mean.
    """
    return means[~np.isnan(means).any(axis=1)].astype(np.float64) @ whitening


def nearest_distance(white: Any, white_means: Any) -> Any:
    """Return the Euclidean distance of each row to the nearest mean.

    Args:
        white: (N, D) whitened features, an array or a tensor.
        white_means: (K, D), from `white_class_means`.

    Returns:
        (N,).
    """
    namespace = array_namespace(white)
    squares = (
        (white**2).sum(1)[:, None] - 2 * white @ white_means.T + (white_means**2).sum(1)
    )
    return namespace.sqrt(namespace.clip(namespace.amin(squares, axis=1), 0, None))


# product of the sizes up to which the exact distribution is computed, in about 0.1 s
_MAX_EXACT = 10_000_000


def kolmogorov_smirnov(values: Reals, others: Reals) -> tuple[float, float]:
    """Compare two samples by the Kolmogorov-Smirnov test.

    Args:
        values: (N,).
        others: (M,).

    Returns:
        The largest difference of the distribution functions, and the probability of at
        least such a difference if both samples have the same distribution. It is exact
        if N M is at most ten million. For larger samples it is the limit, with the
        correction of Stephens 1970 for finite samples.
    """
    n = len(values)
    m = len(others)
    points = np.concatenate([values, others])
    first = np.searchsorted(np.sort(values), points, "right")
    second = np.searchsorted(np.sort(others), points, "right")
    distance = int(np.abs(first * m - second * n).max())  # times n m, so it is whole
    statistic = distance / (n * m)
    if n * m <= _MAX_EXACT:
        return statistic, _exact_probability(distance, *sorted((n, m)))
    root = math.sqrt(n * m / (n + m))
    value = (root + 0.12 + 0.11 / root) * statistic  # of Kolmogorov's distribution
    if value < 0.2:
        return statistic, 1.0
    terms = np.exp(-2 * (np.arange(1, 32) * value) ** 2)  # the last is below 1e-33
    return statistic, min(1.0, 2 * float(terms[::2].sum() - terms[1::2].sum()))


def _exact_probability(distance: int, n: int, m: int) -> float:
    """Return the probability of a distance of `distance` / (n m) or more.

    The samples have n and m values.

    The order of both samples is a path from (0, 0) to (n, m), and all paths are equally
    probable. The share of those with |i m - j n| < distance everywhere is summed row by
    row (Kim and Jennrich 1973).
    """
    columns = np.arange(m + 1) * n
    share = np.ones(m + 1)
    for i in range(n + 1):
        is_near = np.abs(columns - i * m) < distance
        if i:
            share = np.cumsum(share * (i / (i + m)) * is_near)
        share = share * is_near
    return min(1.0, max(0.0, 1.0 - float(share[m])))


def chi_squared(counts: NDArray[np.integer]) -> float:
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
