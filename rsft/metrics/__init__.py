"""Measure predictions on long-tailed data.

Accuracy, calibration, sets of classes, and distances between classes.

Intervals are percentile bootstraps. Two classifiers are compared on the same chips,
with McNemar's test.

The distances compare methods as Table 5 of MetaPEFT does. They do not tell whether
fine-tuning separates the classes better, because they ignore the spread within the
classes. In the quick start, accuracy rises while the distance falls from 0.140 to
0.110: the spread (mean cosine distance of a chip from the mean of its class) falls
more, from 0.231 to 0.147.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from operator import itemgetter
from statistics import harmonic_mean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsft.types import GROUPS, Floats, Indices, Labels, Reals

Groups = Mapping[str, Sequence[int]]
"""Class indices of head, medium and tail; a group may be empty or missing."""

_Counts = NDArray[np.int64]

CONFIDENCE_LEVEL = 0.95
"""Confidence level of all intervals."""

NORMAL_APPROXIMATION_MIN = 1000
"""Means of more values than this are drawn from a normal approximation, which takes a
hundredth of the time."""


@dataclass(frozen=True)
class Interval:
    """A value with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float


def percentile_interval(value: float, resampled: Floats) -> Interval:
    """Return a value with the percentile interval of its resamples (R,)."""
    low, high = np.quantile(
        resampled, [(1 - CONFIDENCE_LEVEL) / 2, (1 + CONFIDENCE_LEVEL) / 2]
    )
    return Interval(float(value), float(low), float(high))


def resample_confusion(
    confusion: _Counts, resamples: int, rng: np.random.Generator
) -> tuple[_Counts, _Counts]:
    """Draw bootstrap test sets from a confusion matrix, stratified by class.

    To draw the n chips of a class with replacement is to draw its row from a
    multinomial distribution. Every class keeps its number of chips, so no resample
    loses a tail class.

    Args:
        confusion: (C, C), rows are the true classes.
        resamples: R.
        rng: random generator.

    Returns:
        Correct chips by true class (R, C), and chips by predicted class (R, C).
    """
    hits = np.zeros((resamples, len(confusion)), np.int64)
    predicted = np.zeros_like(hits)
    for truth, row in enumerate(confusion):
        columns = np.flatnonzero(row)
        if not len(columns):
            continue
        draws = rng.multinomial(row.sum(), row[columns] / row.sum(), size=resamples)
        predicted[:, columns] += draws
        hits[:, truth] = draws[:, columns == truth].sum(axis=1)
    return hits, predicted


def resampled_means(values: Floats, resamples: int, rng: np.random.Generator) -> Floats:
    """Return the means (R,) of R bootstrap resamples of values (n,).

    Each resample draws n times with replacement.
    """
    count = len(values)
    if count > NORMAL_APPROXIMATION_MIN:
        return rng.normal(values.mean(), values.std() / np.sqrt(count), resamples)
    return np.asarray(values[rng.integers(count, size=(resamples, count))].mean(axis=1))


Hits = NDArray[np.bool_]


@dataclass(frozen=True)
class McNemarTest:
    """McNemar's exact test (1947) with its two-sided p-value.

    The counts are of chips that only one of two classifiers gets right.
    """

    first: int
    second: int
    p: float


@dataclass(frozen=True)
class PairedDifferences:
    """Accuracy of the first classifier minus that of the second, in 0-1.

    Attributes:
        differences: name -> difference: micro and macro accuracy, each group with
            chips, and `avg`, the groups' mean.
        mcnemar: name -> test, for all chips ("all") and for the chips of each group
            with chips.
    """

    differences: dict[str, Interval]
    mcnemar: dict[str, McNemarTest]


def compare_predictions(
    first: Labels,
    second: Labels,
    labels: Labels,
    groups: Groups,
    seed: int = 0,
    resamples: int = 1000,
) -> PairedDifferences:
    """Compare two classifiers by a paired bootstrap, stratified by class.

    Each resample draws the same chips for both, so chips that are hard for both do not
    widen the interval. A class for which the classifiers agree on all chips does not
    vary between resamples (see `summarize_accuracy`).

    Args:
        first: (N,) predicted class indices.
        second: (N,) predicted class indices.
        labels: (N,) class indices.
        groups: class indices of head, medium and tail; a group may be empty or missing.
        seed: seed of the bootstrap.
        resamples: number of bootstrap resamples.

    Returns:
        Differences with intervals, and tests.

    Raises:
        ValueError: no chips, or arrays of different lengths.
    """
    if not len(labels) or not len(first) == len(second) == len(labels):
        raise ValueError(
            "first, second and labels must belong to the same chips, at least one"
        )
    present = np.unique(labels)
    first_hits = first == labels
    second_hits = second == labels
    gains = first_hits.astype(int) - second_hits
    class_gains = [gains[labels == index] for index in present]
    counts = np.array([len(values) for values in class_gains])
    cells = np.array(
        [[(values == gain).sum() for gain in (1, 0, -1)] for values in class_gains]
    )
    rng = np.random.default_rng(seed)
    drawn = np.stack(
        [rng.multinomial(row.sum(), row / row.sum(), resamples) for row in cells],
        axis=1,
    )

    members = {
        name: np.flatnonzero(np.isin(present, groups.get(name, ()))) for name in GROUPS
    }
    members = {name: positions for name, positions in members.items() if len(positions)}
    differences = _means((cells[:, 0] - cells[:, 2]) / counts, counts, members)
    resampled = _means((drawn[..., 0] - drawn[..., 2]) / counts, counts, members)
    masks = {"all": np.ones(len(labels), bool)}
    masks |= {
        name: np.isin(labels, present[positions]) for name, positions in members.items()
    }
    return PairedDifferences(
        differences={
            name: percentile_interval(float(value), resampled[name])
            for name, value in differences.items()
        },
        mcnemar={
            name: exact_mcnemar(first_hits[mask], second_hits[mask])
            for name, mask in masks.items()
        },
    )


def _means(
    gains: Floats, counts: _Counts, members: Mapping[str, Indices]
) -> dict[str, Floats]:
    """Return means over classes, () or (R,), of gains (K,) or (R, K)."""
    means = {"micro": gains @ counts / counts.sum(), "macro": gains.mean(axis=-1)}
    return _add_groups(
        means,
        {
            name: gains[..., positions].mean(axis=-1)
            for name, positions in members.items()
        },
    )


def _add_groups(means: dict[str, Any], by_group: dict[str, Any]) -> dict[str, Any]:
    """Add the means of groups, and their mean "avg", to the means over all classes."""
    return (
        means
        | ({"avg": np.mean(list(by_group.values()), axis=0)} if by_group else {})
        | by_group
    )


def exact_mcnemar(first: Hits, second: Hits) -> McNemarTest:
    """Test whether two classifiers have the same accuracy.

    It takes the chips (N,) that exactly one gets right.

    Returns:
        The counts and the two-sided p-value.
    """
    from scipy.stats import binomtest

    only_first = int((first & ~second).sum())
    only_second = int((second & ~first).sum())
    count = only_first + only_second
    return McNemarTest(
        only_first,
        only_second,
        float(binomtest(only_first, count).pvalue) if count else 1.0,
    )


def holm_adjust(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values of several tests (Holm 1979).

    Any false alarm becomes as rare as in a single test.

    Returns:
        Adjusted p-values, in the same order.

    Example:
        >>> holm_adjust([0.01, 0.5, 0.03])
        [0.03, 0.5, 0.06]
    """
    order = np.argsort(p_values, kind="stable")
    steps = np.asarray(p_values)[order] * np.arange(len(order), 0, -1)
    adjusted = np.empty(len(order))
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return [float(p) for p in adjusted]


MIN_PROBABILITY = float(np.finfo(np.float64).eps)
"""Lower limit of probabilities, which keeps the log loss finite, as in scikit-learn."""


def _top2_and_log_loss(
    probabilities: Reals, labels: Labels, rng: np.random.Generator, resamples: int
) -> tuple[Interval, Interval]:
    """Return the share of chips in the top two, and the class mean of -log p.

    Ties go to the lower index. p is the probability of the true class, -log p its mean
    over the chips of a class, in nats.
    """
    true_probability = probabilities[np.arange(len(labels)), labels][:, None]
    is_lower_index = np.arange(probabilities.shape[1]) < labels[:, None]
    is_ranked_before = (probabilities > true_probability) | (
        (probabilities == true_probability) & is_lower_index
    )
    hits = (is_ranked_before.sum(axis=1) < 2).astype(np.float64)
    means, resampled, counts = _class_means(hits, labels, rng, resamples)
    top2 = percentile_interval(
        float(means @ counts / counts.sum()), resampled @ counts / counts.sum()
    )
    losses = -np.log(
        np.maximum(true_probability[:, 0].astype(np.float64), MIN_PROBABILITY)
    )
    means, resampled, _ = _class_means(losses, labels, rng, resamples)
    return top2, percentile_interval(float(means.mean()), resampled.mean(axis=1))


def _class_means(
    values: Floats, labels: Labels, rng: np.random.Generator, resamples: int
) -> tuple[Floats, Floats, _Counts]:
    """Return class means (K,), their resamples (R, K) and chip counts (K,).

    The K classes are those with chips.
    """
    by_class = [values[labels == index] for index in np.unique(labels)]
    resampled = np.stack(
        [resampled_means(class_values, resamples, rng) for class_values in by_class],
        axis=1,
    )
    return (
        np.array(list(map(np.mean, by_class))),
        resampled,
        np.array(list(map(len, by_class))),
    )


_ECE_BINS = 15


def expected_calibration_error(probabilities: Reals, labels: Labels) -> float:
    """Return the mean gap between confidence and accuracy, by bin size.

    Source: Guo et al. 2017, eq. 3.

    The 15 bins over the confidence of the predicted class have equal width and are
    closed at the upper end. The rows of the probabilities (N, C) sum to 1.
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    hit = probabilities.argmax(axis=1) == labels
    bin_index = np.clip(
        np.ceil(confidence * _ECE_BINS).astype(int) - 1, 0, _ECE_BINS - 1
    )
    gaps = np.bincount(bin_index, weights=hit - confidence, minlength=_ECE_BINS)
    return float(np.abs(gaps).sum() / len(labels))


@dataclass(frozen=True)
class AccuracySummary:
    """All metrics of one method on one test set.

    Accuracies are 0-1, and classes are indices.

    Attributes:
        micro: share of correctly classified chips.
        macro: mean recall of the classes that have test chips; the same of head, medium
            and tail, None without chips.
        macro_f1: mean F1 of the classes in labels or predictions (scikit-learn's
            convention).
        avg: mean of head, medium and tail, as far as they have test chips; None if none
            has.
        harmonic: harmonic mean of per-class recall; 0 if one class is never predicted
            correctly.
        ece: expected calibration error, 15 bins; None without probabilities.
        recall: recall by class; None for a class without test chips.
        precision: precision by class; None for a class that was never predicted.
        top2: share of chips for which the true class is one of the two most probable;
            None without probabilities.
        log_loss: mean over the classes with test chips of the class's mean -log p, in
            nats, where p is that of the true class; None without probabilities.
    """

    micro: Interval
    macro: Interval
    macro_f1: Interval
    avg: Interval | None
    head: Interval | None
    medium: Interval | None
    tail: Interval | None
    harmonic: float
    ece: float | None
    recall: list[float | None]
    precision: list[float | None]
    top2: Interval | None = None
    log_loss: Interval | None = None

    @property
    def worst(self) -> tuple[int, float]:
        """The class with the lowest recall, and its recall."""
        return min(
            (
                (index, value)
                for index, value in enumerate(self.recall)
                if value is not None
            ),
            key=itemgetter(1),
        )

    @property
    def absent(self) -> list[int]:
        """The classes without test chips, which all means of recall exclude."""
        return [index for index, value in enumerate(self.recall) if value is None]

    @property
    def only_answer(self) -> int | None:
        """The class that the method predicts for all chips; None if it has several.

        The chips are of several classes.
        """
        predicted = [
            index for index, value in enumerate(self.precision) if value is not None
        ]
        has_classes = len(self.recall) - len(self.absent) > 1
        if has_classes and len(predicted) == 1:
            return predicted[0]
        return None

    def to_dict(self, classes: Sequence[str]) -> dict[str, Any]:
        """Return the metrics as data for metrics.json, with names of classes."""
        worst = {"class": classes[self.worst[0]], "value": self.worst[1]}
        return {
            **asdict(self),
            "worst": worst,
            "absent": [classes[index] for index in self.absent],
        }


def summarize_accuracy(
    outputs: NDArray[Any],
    labels: Labels,
    n_classes: int,
    groups: Groups,
    seed: int = 0,
    resamples: int = 1000,
) -> AccuracySummary:
    """Compute all metrics of one method on a test set.

    The 95 % bootstrap intervals are stratified by class.

    The recall of a class does not vary between resamples if all its chips are correct,
    or all are wrong. Intervals of groups with few chips are therefore rather narrow.

    Args:
        outputs: probabilities (N, C) or predicted class indices (N,).
        labels: (N,) class indices.
        n_classes: C, including classes without test chips.
        groups: class indices of head, medium and tail; a group may be empty or missing.
        seed: the seed of the bootstrap.
        resamples: number of bootstrap resamples.

    Returns:
        The metrics.

    Raises:
        ValueError: no chips, a wrong shape, a class index out of range, or
            probabilities that do not sum to 1.
    """
    _validate(outputs, labels, n_classes, groups)
    if outputs.ndim == 2:
        predictions = outputs.argmax(axis=1)
    else:
        predictions = outputs
    confusion = confusion_matrix(labels, predictions, n_classes)
    truth = confusion.sum(axis=1)
    predicted = confusion.sum(axis=0)
    hits = confusion.diagonal()

    values = _accuracies(hits, predicted, truth, groups)
    rng = np.random.default_rng(seed)
    resampled = _accuracies(
        *resample_confusion(confusion, resamples, rng), truth, groups
    )
    intervals = {
        name: percentile_interval(float(value), resampled[name])
        for name, value in values.items()
    }

    recall = _ratio(hits, truth)
    precision = _ratio(hits, predicted)
    is_probability = outputs.ndim == 2
    top2, log_loss = (
        _top2_and_log_loss(outputs, labels, rng, resamples)
        if is_probability
        else (None, None)
    )
    return AccuracySummary(
        micro=intervals["micro"],
        macro=intervals["macro"],
        macro_f1=intervals["macro_f1"],
        **{name: intervals.get(name) for name in ("avg", *GROUPS)},
        harmonic=harmonic_mean(recall[truth > 0].tolist()),
        top2=top2,
        log_loss=log_loss,
        ece=expected_calibration_error(outputs, labels) if is_probability else None,
        recall=_without_nan(recall),
        precision=_without_nan(precision),
    )


def confusion_matrix(labels: Labels, predictions: Labels, n_classes: int) -> _Counts:
    """Count chips (C, C) by class (row) and predicted class.

    Both are class indices (N,).
    """
    cells = labels.astype(np.int64) * n_classes + predictions
    return np.bincount(cells, minlength=n_classes**2).reshape(n_classes, n_classes)


def _accuracies(
    hits: _Counts, predicted: _Counts, truth: _Counts, groups: Groups
) -> dict[str, Floats]:
    """Return means over classes, () or (R,), from hits, predicted and truth.

    Hits and predicted are (C,) or (R, C), truth is (C,).
    """
    recall = _ratio(hits, truth)
    means = {
        "micro": hits.sum(axis=-1) / truth.sum(),
        "macro": np.nanmean(recall, axis=-1),
        "macro_f1": np.nanmean(_ratio(2 * hits, truth + predicted), axis=-1),
    }
    # members are class indices, not positions among the present classes: an absent
    # class must not shift other groups
    members = {
        name: [index for index in groups.get(name, ()) if truth[index]]
        for name in GROUPS
    }
    return _add_groups(
        means, {name: recall[..., x].mean(axis=-1) for name, x in members.items() if x}
    )


def _ratio(numerator: _Counts, denominator: _Counts) -> Floats:
    """Return numerator / denominator, NaN where the denominator is 0."""
    numerator, denominator = np.broadcast_arrays(numerator, denominator)
    return np.asarray(
        np.divide(
            numerator,
            denominator,
            np.full(numerator.shape, np.nan),
            where=denominator > 0,
        )
    )


def _without_nan(values: Floats) -> list[float | None]:
    return [None if math.isnan(value) else value for value in values.tolist()]


def _validate(
    outputs: NDArray[Any], labels: NDArray[Any], n_classes: int, groups: Groups
) -> None:
    if labels.ndim != 1 or not len(labels):
        raise ValueError(f"labels must be (N,) with N > 0, not {labels.shape}")
    if outputs.shape not in {labels.shape, (len(labels), n_classes)}:
        raise ValueError(
            f"outputs of shape {outputs.shape} for {len(labels)} labels and {n_classes}"
            " classes"
        )
    if outputs.ndim == 2 and not np.allclose(outputs.sum(axis=1), 1, atol=1e-2):
        raise ValueError("probabilities must be numbers whose rows sum to 1")
    unknown = set(groups) - set(GROUPS)
    if unknown:
        raise ValueError(f"unknown groups {sorted(unknown)}; use {', '.join(GROUPS)}")
    indices = np.concatenate(
        [labels, outputs if outputs.ndim == 1 else [], *groups.values()]
    )
    if indices.min() < 0 or indices.max() >= n_classes:
        raise ValueError(f"class indices must lie in 0-{n_classes - 1}")
    if sum(map(len, groups.values())) != len(set().union(*groups.values())):
        raise ValueError("a class is in two groups")


@dataclass(frozen=True)
class SetCoverage:
    """Coverage and size of the sets of some chips.

    Attributes:
        value: share of chips with a set that contains the true class; from `low` to
            `high` is its exact 95 % interval (Clopper and Pearson 1934).
        size: mean number of classes in a set.
        single: share of sets with exactly one class.
    """

    value: float
    low: float
    high: float
    size: float
    single: float
    chips: int


def coverage_by_group(
    sets: NDArray[np.bool_], labels: Labels, groups: Groups
) -> dict[str, SetCoverage | None]:
    """Return the coverage of all chips and of the chips of each group.

    Args:
        sets: (N, C), the classes that each chip may have.
        labels: (N,) class indices.
        groups: class indices of head, medium and tail; a group may be empty or missing.

    Returns:
        "all", "head", "medium" and "tail" -> coverage; None for a group without chips.
    """
    masks = {
        name: np.isin(labels, indices)
        for name, indices in _members(sets.shape[1], groups).items()
    }
    return {
        name: measure_coverage(sets[x], labels[x]) if x.any() else None
        for name, x in masks.items()
    }


def _members(n_classes: int, groups: Groups) -> dict[str, Indices]:
    """Return the class indices of "all", "head", "medium" and "tail"."""
    return {"all": np.arange(n_classes)} | {
        name: np.array(groups.get(name, ()), int) for name in GROUPS
    }


def coverage_by_class(sets: NDArray[np.bool_], labels: Labels) -> list[float | None]:
    """Return the coverage 0-1 of each class by sets (N, C).

    A class without chips has None.
    """
    is_covered = (sets[labels == index, index] for index in range(sets.shape[1]))
    return [float(covered.mean()) if len(covered) else None for covered in is_covered]


def measure_coverage(sets: NDArray[np.bool_], labels: Labels) -> SetCoverage:
    """Return the coverage of N > 0 chips by sets (N, C) of classes."""
    from scipy.stats import binomtest

    covered = sets[np.arange(len(labels)), labels]
    sizes = sets.sum(axis=1)
    interval = binomtest(int(covered.sum()), len(covered)).proportion_ci(
        CONFIDENCE_LEVEL
    )
    value = float(covered.mean())
    size = float(sizes.mean())
    single = float((sizes == 1).mean())
    return SetCoverage(
        value, float(interval.low), float(interval.high), size, single, len(covered)
    )


def class_mean_distances(features: Reals, labels: Labels, n_classes: int) -> Floats:
    """Return the mean cosine distance of every class to the other classes, 0-2.

    The direction of a class is the mean of its features, each scaled to length 1. The
    distance of two classes is the cosine distance of their directions.

    Args:
        features: (N, D).
        labels: (N,) class indices.
        n_classes: C.

    Returns:
        (C,), NaN for a class without chips, and for the only class with chips.
    """
    present = np.unique(labels)
    distances = np.full(n_classes, np.nan)
    if len(present) < 2:
        return distances
    directions = _unit(features.astype(np.float64))
    means = _unit(
        np.stack([directions[labels == index].mean(axis=0) for index in present])
    )
    pairwise = 1 - means @ means.T
    np.fill_diagonal(pairwise, 0)
    distances[present] = pairwise.sum(axis=1) / (len(present) - 1)
    return distances


def distance_by_group(distances: Floats, groups: Groups) -> dict[str, float | None]:
    """Average distances (C,) of `class_mean_distances` over all and by group.

    Returns:
        Means under "all", "head", "medium" and "tail"; None if no class has a distance.
    """
    members = {
        name: distances[indices]
        for name, indices in _members(len(distances), groups).items()
    }
    finite = {name: values[~np.isnan(values)] for name, values in members.items()}
    return {
        name: float(values.mean()) if len(values) else None
        for name, values in finite.items()
    }


def _unit(rows: Floats) -> Floats:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.maximum(lengths, 1e-12))
