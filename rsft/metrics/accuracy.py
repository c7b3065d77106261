"""Measure accuracy on long-tailed data by class, by group and overall, top-2 accuracy, log loss, calibration error."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from operator import itemgetter
from statistics import harmonic_mean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsft.metrics.bootstrap import Interval, percentile_interval, resample_confusion, resampled_means
from rsft.types import GROUPS

MIN_PROBABILITY = float(np.finfo(np.float64).eps)
"""Lower limit of probabilities, which keeps the log loss finite, as in scikit-learn."""


def _top2_and_log_loss(
    probabilities: NDArray[np.floating], labels: NDArray[np.integer], rng: np.random.Generator, resamples: int
) -> tuple[Interval, Interval]:
    """Return the share of chips with the true class among the two most probable, and the mean -log p over the classes.

    Ties go to the lower index. p is the probability of the true class, -log p its mean over the chips of a class, in
    nats.
    """
    true_probability = probabilities[np.arange(len(labels)), labels][:, None]
    is_lower_index = np.arange(probabilities.shape[1]) < labels[:, None]
    is_ranked_before = (probabilities > true_probability) | ((probabilities == true_probability) & is_lower_index)
    hits = (is_ranked_before.sum(axis=1) < 2).astype(np.float64)
    means, resampled, counts = _class_means(hits, labels, rng, resamples)
    top2 = percentile_interval(float(means @ counts / counts.sum()), resampled @ counts / counts.sum())
    losses = -np.log(np.maximum(true_probability[:, 0].astype(np.float64), MIN_PROBABILITY))
    means, resampled, _ = _class_means(losses, labels, rng, resamples)
    return top2, percentile_interval(float(means.mean()), resampled.mean(axis=1))


def _class_means(
    values: NDArray[np.float64], labels: NDArray[np.integer], rng: np.random.Generator, resamples: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Return class means (K,), those of the resamples (R, K) and chip counts (K,) of the K classes with chips."""
    by_class = [values[labels == index] for index in np.unique(labels)]
    means = np.array([class_values.mean() for class_values in by_class])
    resampled = np.stack([resampled_means(class_values, resamples, rng) for class_values in by_class], axis=1)
    return means, resampled, np.array([len(class_values) for class_values in by_class])


def expected_calibration_error(
    probabilities: NDArray[np.floating], labels: NDArray[np.integer], bins: int = 15
) -> float:
    """Return the mean gap between confidence and accuracy, weighted by bin size (Guo et al. 2017, eq. 3).

    Args:
        probabilities: (N, C), rows sum to 1.
        labels: (N,) class indices.
        bins: number of bins of equal width over the confidence of the predicted class, closed at the upper end.
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    hit = probabilities.argmax(axis=1) == labels
    bin_index = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gaps = np.bincount(bin_index, weights=hit - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(labels))


_Counts = NDArray[np.int64]
_Values = NDArray[np.float64]


@dataclass(frozen=True)
class AccuracySummary:
    """All metrics of one method on one test set; accuracies are 0-1, and classes are indices.

    Attributes:
        micro: share of correctly classified chips.
        macro: mean recall of the classes that have test chips.
        macro_f1: mean F1 of the classes in labels or predictions (scikit-learn's convention).
        avg: mean of head, medium and tail, as far as they have test chips; None if none has.
        head: mean recall of the head classes; None if none has test chips.
        medium: mean recall of the medium classes; None if none has test chips.
        tail: mean recall of the tail classes; None if none has test chips.
        harmonic: harmonic mean of per-class recall; 0 if one class is never predicted correctly.
        ece: expected calibration error, 15 bins; None without probabilities.
        recall: recall by class; None for a class without test chips.
        precision: precision by class; None for a class that was never predicted.
        top2: share of chips for which the true class is one of the two most probable; None without probabilities.
        log_loss: mean over the classes with test chips of the class's mean -log p, in nats, where p is that of the true
            class; None without probabilities.
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
        return min(((index, value) for index, value in enumerate(self.recall) if value is not None), key=itemgetter(1))

    @property
    def absent(self) -> list[int]:
        """The classes without test chips, which all means of recall exclude."""
        return [index for index, value in enumerate(self.recall) if value is None]

    def to_dict(self, classes: Sequence[str]) -> dict[str, Any]:
        """Return the metrics as data for metrics.json, with names of classes.

        Args:
            classes: names in the order of the logits.
        """
        worst = {"class": classes[self.worst[0]], "value": self.worst[1]}
        return {**asdict(self), "worst": worst, "absent": [classes[index] for index in self.absent]}


def summarize_accuracy(
    outputs: NDArray[Any],
    labels: NDArray[np.integer],
    n_classes: int,
    groups: Mapping[str, Sequence[int]],
    seed: int = 0,
    resamples: int = 1000,
) -> AccuracySummary:
    """Compute all metrics of one method on a test set, with 95 % bootstrap intervals stratified by class.

    The recall of a class does not vary between resamples if all its chips are correct, or all are wrong. Intervals of
    groups with few chips are therefore rather narrow.

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
        ValueError: no chips, a wrong shape, a class index out of range, or probabilities that do not sum to 1.
    """
    _validate(outputs, labels, n_classes, groups)
    predictions = outputs.argmax(axis=1) if outputs.ndim == 2 else outputs
    confusion = confusion_matrix(labels, predictions, n_classes)
    truth, predicted, hits = confusion.sum(axis=1), confusion.sum(axis=0), confusion.diagonal()

    values = _means(hits, predicted, truth, groups)
    rng = np.random.default_rng(seed)
    resampled = _means(*resample_confusion(confusion, resamples, rng), truth, groups)
    intervals = {name: percentile_interval(float(value), resampled[name]) for name, value in values.items()}

    recall, precision = _ratio(hits, truth), _ratio(hits, predicted)
    is_probability = outputs.ndim == 2
    top2, log_loss = _top2_and_log_loss(outputs, labels, rng, resamples) if is_probability else (None, None)
    return AccuracySummary(
        micro=intervals["micro"],
        macro=intervals["macro"],
        macro_f1=intervals["macro_f1"],
        **{name: intervals.get(name) for name in ("avg", *GROUPS)},
        harmonic=harmonic_mean(recall[truth > 0].tolist()),
        top2=top2,
        log_loss=log_loss,
        ece=expected_calibration_error(outputs, labels) if is_probability else None,
        recall=[None if math.isnan(value) else value for value in recall.tolist()],
        precision=[None if math.isnan(value) else value for value in precision.tolist()],
    )


def confusion_matrix(labels: NDArray[np.integer], predictions: NDArray[np.integer], n_classes: int) -> _Counts:
    """Count chips (C, C) by class (row) and predicted class, given the class indices (N,) of both."""
    cells = labels.astype(np.int64) * n_classes + predictions
    counts: _Counts = np.bincount(cells, minlength=n_classes**2).reshape(n_classes, n_classes)
    return counts


def _means(
    hits: _Counts, predicted: _Counts, truth: _Counts, groups: Mapping[str, Sequence[int]]
) -> dict[str, _Values]:
    """Return means over classes, () or (R,), from hits and predicted (C,) or (R, C) and truth (C,)."""
    recall = _ratio(hits, truth)
    means = {
        "micro": hits.sum(axis=-1) / truth.sum(),
        "macro": np.nanmean(recall, axis=-1),
        "macro_f1": np.nanmean(_ratio(2 * hits, truth + predicted), axis=-1),
    }
    # members are class indices, not positions among the present classes: an absent class must not shift other groups
    members = {name: [index for index in groups.get(name, ()) if truth[index]] for name in GROUPS}
    by_group = {name: recall[..., indices].mean(axis=-1) for name, indices in members.items() if indices}
    if by_group:
        means["avg"] = np.mean(list(by_group.values()), axis=0)
    return means | by_group


def _ratio(numerator: _Counts, denominator: _Counts) -> _Values:
    """Return numerator / denominator, NaN where the denominator is 0."""
    numerator, denominator = np.broadcast_arrays(numerator, denominator)
    ratio: _Values = np.divide(numerator, denominator, out=np.full(numerator.shape, np.nan), where=denominator > 0)
    return ratio


def _validate(outputs: NDArray[Any], labels: NDArray[Any], n_classes: int, groups: Mapping[str, Sequence[int]]) -> None:
    if labels.ndim != 1 or not len(labels):
        raise ValueError(f"labels must be (N,) with N > 0, not {labels.shape}")
    if outputs.shape not in {labels.shape, (len(labels), n_classes)}:
        raise ValueError(f"outputs of shape {outputs.shape} for {len(labels)} labels and {n_classes} classes")
    if outputs.ndim == 2 and not np.allclose(outputs.sum(axis=1), 1, atol=1e-2):
        raise ValueError("probabilities must be numbers whose rows sum to 1")
    if unknown := set(groups) - set(GROUPS):
        raise ValueError(f"unknown groups {sorted(unknown)}; use {', '.join(GROUPS)}")
    indices = np.concatenate([labels, outputs if outputs.ndim == 1 else [], *groups.values()])
    if indices.min() < 0 or indices.max() >= n_classes:
        raise ValueError(f"class indices must lie in 0-{n_classes - 1}")
    members = [index for group in groups.values() for index in group]
    if len(members) != len(set(members)):
        raise ValueError("a class is in two groups")
