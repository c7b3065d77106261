"""Measure the accuracy and the calibration of predictions on long-tailed data."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import harmonic_mean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsft.metrics.intervals import (
    Counts,
    Interval,
    add_group_means,
    percentile_interval,
    percentile_intervals,
    resample_confusion,
    resampled_means,
)
from rsft.types import GROUPS, Floats, JsonObject, Labels, Reals

MIN_PROBABILITY = float(np.finfo(np.float64).eps)
"""Lower limit of probabilities, which keeps the log loss finite, as in scikit-learn."""

_ECE_BINS = 15


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
        recall = _defined(self.recall)
        index = min(recall, key=recall.__getitem__)
        return index, recall[index]

    @property
    def absent(self) -> list[int]:
        """The classes without test chips, which all means of recall exclude."""
        return [index for index, value in enumerate(self.recall) if value is None]

    @property
    def only_answer(self) -> int | None:
        """The class that the method predicts for all chips; None if it has several.

        The chips are of several classes.
        """
        predicted = list(_defined(self.precision))
        if len(predicted) == 1 and len(_defined(self.recall)) > 1:
            return predicted[0]
        return None

    def to_dict(self, classes: Sequence[str]) -> JsonObject:
        """Return the metrics as data for metrics.json, with names of classes."""
        index, recall = self.worst
        return {
            **asdict(self),
            "worst": {"class": classes[index], "value": recall},
            "absent": [classes[index] for index in self.absent],
        }


def _defined(values: Sequence[float | None]) -> dict[int, float]:
    return {index: value for index, value in enumerate(values) if value is not None}


def summarize_accuracy(
    outputs: NDArray[Any],
    labels: Labels,
    n_classes: int,
    groups: Mapping[str, Sequence[int]],
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
        ValueError: no chips, a wrong shape, or probabilities that do not sum to 1.

    Example:
        >>> labels = np.array([0, 0, 0, 1, 1, 2])
        >>> predicted = np.array([0, 0, 0, 1, 0, 0])
        >>> groups = {"head": [0], "medium": [1], "tail": [2]}
        >>> summary = summarize_accuracy(predicted, labels, 3, groups)
        >>> summary.macro.value, summary.head.value, summary.tail.value
        (0.5, 1.0, 0.0)
    """
    if not len(labels):
        raise ValueError("labels must be (N,) with N > 0")
    if outputs.shape not in {(len(labels),), (len(labels), n_classes)}:
        raise ValueError(
            f"outputs of shape {outputs.shape} for {len(labels)} labels and {n_classes}"
            " classes"
        )
    predictions = outputs
    if outputs.ndim == 2:
        if not np.allclose(outputs.sum(axis=1), 1, atol=1e-2):
            raise ValueError("probabilities must be numbers whose rows sum to 1")
        predictions = outputs.argmax(axis=1)
    confusion = confusion_matrix(labels, predictions, n_classes)
    truth = confusion.sum(axis=1)
    predicted = confusion.sum(axis=0)
    hits = confusion.diagonal()
    rng = np.random.default_rng(seed)
    resampled = resample_confusion(confusion, resamples, rng)
    intervals = percentile_intervals(
        _accuracies(hits, predicted, truth, groups),
        _accuracies(*resampled, truth, groups),
    )
    recall = _ratio(hits, truth)
    scores: JsonObject = {"ece": None}
    scores |= {name: intervals.get(name) for name in ("avg", *GROUPS)}
    if outputs.ndim == 2:
        scores |= _probability_scores(outputs, labels, rng, resamples)
    return AccuracySummary(
        micro=intervals["micro"],
        macro=intervals["macro"],
        macro_f1=intervals["macro_f1"],
        harmonic=harmonic_mean(recall[truth > 0].tolist()),
        recall=_without_nan(recall),
        precision=_without_nan(_ratio(hits, predicted)),
        **scores,
    )


def confusion_matrix(labels: Labels, predictions: Labels, n_classes: int) -> Counts:
    """Count chips by class and predicted class.

    Args:
        labels: (N,) class indices.
        predictions: (N,) predicted class indices.
        n_classes: C.

    Returns:
        (C, C), with one row per class.

    Example:
        >>> confusion_matrix(np.array([0, 0, 1]), np.array([0, 1, 1]), 2).tolist()
        [[1, 1], [0, 1]]
    """
    cells = labels.astype(np.int64) * n_classes + predictions
    return np.bincount(cells, minlength=n_classes**2).reshape(n_classes, n_classes)


def _accuracies(
    hits: Counts, predicted: Counts, truth: Counts, groups: Mapping[str, Sequence[int]]
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
    by_group = {}
    for name in GROUPS:
        # class indices, not positions among the present classes: an absent class must
        # not shift other groups
        members = [index for index in groups.get(name, ()) if truth[index]]
        if members:
            by_group[name] = recall[..., members].mean(axis=-1)
    return add_group_means(means, by_group)


def _ratio(numerator: Counts, denominator: Counts) -> Floats:
    """Return numerator / denominator, NaN where both are 0."""
    with np.errstate(invalid="ignore"):
        return np.asarray(numerator / denominator)


def _without_nan(values: Floats) -> list[float | None]:
    return [None if math.isnan(value) else value for value in values.tolist()]


def _probability_scores(
    probabilities: Reals, labels: Labels, rng: np.random.Generator, resamples: int
) -> JsonObject:
    """Return top2, log_loss and ece of an `AccuracySummary`.

    Among equal probabilities, the lower index is first.
    """
    best_two = np.argsort(-probabilities, axis=1, kind="stable")[:, :2]
    hits = (best_two == labels[:, None]).any(axis=1).astype(np.float64)
    true_probability = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    losses = -np.log(np.maximum(true_probability, MIN_PROBABILITY))
    counts = np.unique(labels, return_counts=True)[1]
    hit_means, resampled_hits = _class_means(hits, labels, rng, resamples)
    loss_means, resampled_losses = _class_means(losses, labels, rng, resamples)
    return {
        "top2": percentile_interval(
            float(hit_means @ counts / len(labels)),
            resampled_hits @ counts / len(labels),
        ),
        "log_loss": percentile_interval(
            float(loss_means.mean()), resampled_losses.mean(axis=1)
        ),
        "ece": expected_calibration_error(probabilities, labels),
    }


def _class_means(
    values: Floats, labels: Labels, rng: np.random.Generator, resamples: int
) -> tuple[Floats, Floats]:
    """Return means (K,) of the K classes with chips, and their resamples (R, K)."""
    by_class = [values[labels == index] for index in np.unique(labels)]
    resampled = [resampled_means(members, resamples, rng) for members in by_class]
    return np.array([x.mean() for x in by_class]), np.stack(resampled, axis=1)


def expected_calibration_error(probabilities: Reals, labels: Labels) -> float:
    """Return the mean gap between confidence and accuracy, by bin size.

    Source: Guo et al. 2017, eq. 3.

    The 15 bins over the confidence of the predicted class have equal width and are
    closed at the upper end.

    Args:
        probabilities: (N, C), whose rows sum to 1.
        labels: (N,) class indices.

    Returns:
        The error, 0-1.

    Example:
        >>> probabilities = np.array([[0.9, 0.1], [0.9, 0.1]])
        >>> round(expected_calibration_error(probabilities, np.array([0, 1])), 6)
        0.4
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    hit = probabilities.argmax(axis=1) == labels
    bins = np.clip(np.ceil(confidence * _ECE_BINS).astype(int), 1, _ECE_BINS)
    gaps = np.bincount(bins, weights=hit - confidence)
    return float(np.abs(gaps).sum() / len(labels))
