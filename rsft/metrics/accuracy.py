"""Accuracy under a long tail: by class, by group and overall, with intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import harmonic_mean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsft.metrics.bootstrap import Interval, interval, resample
from rsft.metrics.calibration import expected_calibration_error
from rsft.metrics.scores import balanced_log_loss, top_k
from rsft.types import GROUPS

Counts = NDArray[np.int64]
Values = NDArray[np.float64]


@dataclass(frozen=True)
class Summary:
    """Every number of one method on one test set, in 0-1; classes by index.

    Attributes:
        micro: share of chips that are right.
        macro: mean recall of the classes that have test chips.
        macro_f1: mean F1 of the classes met in labels or predictions (scikit-learn's convention).
        avg: mean of the groups that exist; None without groups.
        head, medium, tail: mean recall of the group's classes; None where none has test chips.
        worst: the class of lowest recall, and that recall.
        harmonic: harmonic mean of per-class recall, 0 as soon as one class is never found.
        top2: share of chips whose class is one of the two most probable; None for bare predictions.
        log_loss: mean over the classes that have test chips of their mean -log p, in nats; None for bare predictions.
        ece: expected calibration error, 15 bins; None for bare predictions.
        recall: by class; None where it has no test chips.
        precision: by class; None where it was never predicted.
        absent: the classes without test chips, left out of every mean of recall.
    """

    micro: Interval
    macro: Interval
    macro_f1: Interval
    avg: Interval | None
    head: Interval | None
    medium: Interval | None
    tail: Interval | None
    worst: tuple[int, float]
    harmonic: float
    top2: Interval | None
    log_loss: Interval | None
    ece: float | None
    recall: list[float | None]
    precision: list[float | None]
    absent: list[int]

    def to_dict(self, classes: Sequence[str]) -> dict[str, Any]:
        """The summary as it stands in metrics.json, classes by name."""
        measures = ("micro", "macro", "macro_f1", "avg", *GROUPS, "top2", "log_loss")
        spread = {name: getattr(self, name) for name in measures}
        return {
            **{name: found and found.to_dict() for name, found in spread.items()},
            "worst": {"class": classes[self.worst[0]], "value": self.worst[1]},
            "harmonic": self.harmonic,
            "ece": self.ece,
            "recall": self.recall,
            "precision": self.precision,
            "absent": [classes[index] for index in self.absent],
        }


def summarise(
    outputs: NDArray[Any],
    labels: NDArray[np.integer],
    n_classes: int,
    groups: Mapping[str, Sequence[int]],
    seed: int = 0,
    resamples: int = 1000,
) -> Summary:
    """Sum up one method's outputs on a test set, with 95 % bootstrap intervals stratified by class.

    A class whose chips are all right (or all wrong) does not vary between resamples: its share of an interval has no
    width, so intervals over a handful of tail chips are on the narrow side.

    Args:
        outputs: probabilities (N, C) or predicted class indices (N,).
        labels: (N,) class indices.
        n_classes: C; classes are known by index, whether or not they are met in `labels`.
        groups: class indices of head, medium and tail; a group may be empty or left out.
        seed: of the bootstrap.
        resamples: of the bootstrap.

    Raises:
        ValueError: no chip, a wrong shape, a class index out of range, probabilities that do not sum to 1.
    """
    _check(outputs, labels, n_classes, groups)
    predictions = outputs.argmax(axis=1) if outputs.ndim == 2 else outputs
    confusion = confusion_matrix(labels, predictions, n_classes)
    truth, predicted, hits = confusion.sum(axis=1), confusion.sum(axis=0), confusion.diagonal()

    found = _means(hits, predicted, truth, groups)
    rng = np.random.default_rng(seed)
    drawn = _means(*resample(confusion, resamples, rng), truth, groups)
    spread = {name: interval(float(value), drawn[name]) for name, value in found.items()}

    recall, precision = _share(hits, truth), _share(hits, predicted)
    worst = int(np.nanargmin(recall))
    return Summary(
        micro=spread["micro"],
        macro=spread["macro"],
        macro_f1=spread["macro_f1"],
        avg=spread.get("avg"),
        head=spread.get("head"),
        medium=spread.get("medium"),
        tail=spread.get("tail"),
        worst=(worst, float(recall[worst])),
        harmonic=harmonic_mean(recall[truth > 0].tolist()),
        top2=top_k(outputs, labels, 2, rng, resamples) if outputs.ndim == 2 else None,
        log_loss=balanced_log_loss(outputs, labels, rng, resamples) if outputs.ndim == 2 else None,
        ece=expected_calibration_error(outputs, labels) if outputs.ndim == 2 else None,
        recall=[None if math.isnan(value) else value for value in recall.tolist()],
        precision=[None if math.isnan(value) else value for value in precision.tolist()],
        absent=np.flatnonzero(truth == 0).tolist(),
    )


def confusion_matrix(labels: NDArray[np.integer], predictions: NDArray[np.integer], n_classes: int) -> Counts:
    """Chips by (class, predicted class), (C, C)."""
    cells = labels.astype(np.int64) * n_classes + predictions
    counts: Counts = np.bincount(cells, minlength=n_classes**2).reshape(n_classes, n_classes)
    return counts


def _means(hits: Counts, predicted: Counts, truth: Counts, groups: Mapping[str, Sequence[int]]) -> dict[str, Values]:
    """The means over classes: hits and predicted are (C,) or (R, C), truth is (C,); the results () or (R,)."""
    recall = _share(hits, truth)
    means = {
        "micro": hits.sum(axis=-1) / truth.sum(),
        "macro": np.nanmean(recall, axis=-1),
        "macro_f1": np.nanmean(_share(2 * hits, truth + predicted), axis=-1),
    }
    # By index, never by the labels present: one absent class must not shift the groups behind it.
    members = {name: [index for index in groups.get(name, ()) if truth[index]] for name in GROUPS}
    by_group = {name: recall[..., indices].mean(axis=-1) for name, indices in members.items() if indices}
    if by_group:
        means["avg"] = np.mean(list(by_group.values()), axis=0)
    return means | by_group


def _share(part: Counts, whole: Counts) -> Values:
    """part / whole, NaN where there is nothing to divide by."""
    part, whole = np.broadcast_arrays(part, whole)
    share: Values = np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)
    return share


def _check(outputs: NDArray[Any], labels: NDArray[Any], n_classes: int, groups: Mapping[str, Sequence[int]]) -> None:
    if labels.ndim != 1 or not len(labels):
        raise ValueError(f"labels must be (N,) with N > 0, not {labels.shape}")
    if outputs.shape not in {labels.shape, (len(labels), n_classes)}:
        raise ValueError(f"outputs of shape {outputs.shape} for {len(labels)} labels and {n_classes} classes")
    if outputs.ndim == 2 and not np.allclose(outputs.sum(axis=1), 1, atol=1e-2):
        raise ValueError("probabilities must be numbers whose rows sum to 1")
    if unknown := set(groups) - set(GROUPS):
        raise ValueError(f"unknown groups {sorted(unknown)}; known are {', '.join(GROUPS)}")
    indices = np.concatenate([labels, outputs if outputs.ndim == 1 else [], *groups.values()])
    if indices.min() < 0 or indices.max() >= n_classes:
        raise ValueError(f"class indices must lie in 0-{n_classes - 1}")
    members = [index for group in groups.values() for index in group]
    if len(members) != len(set(members)):
        raise ValueError("a class stands in two groups")
