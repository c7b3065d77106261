"""Calibration of a trained classifier, and its accuracy on the validation split."""

from dataclasses import asdict, replace

import numpy as np
from numpy.typing import NDArray

from rsft.data.loading.batches import ChipImages
from rsft.metrics.accuracy import summarize_accuracy
from rsft.models.bundle.bundle import Bundle
from rsft.models.outputs import ClassifierOutputs
from rsft.models.uncertainty.calibrator import COVERAGE, Calibrator
from rsft.models.uncertainty.class_sets import min_calibration_chips
from rsft.training.classify import classify_chips
from rsft.types import GROUPS, Indices, Progress

MAX_CHIPS_PER_CLASS = 100
"""Training chips of a class that feature statistics are computed from; more chips
hardly change the statistics."""

_MEASURES = ("micro", "macro", "avg", *GROUPS)


def calibrate_bundle(
    bundle: Bundle,
    train: ChipImages,
    val: ChipImages,
    device: str = "auto",
    progress: Progress | None = None,
) -> Bundle:
    """Add calibrator and metrics to a bundle, from its outputs on chips.

    The classifier is loaded anew from the bundle and receives chips as in prediction,
    with test-time augmentation if the recipe has it.

    If the chip store has groups, such as scenes, the calibrator is fitted on the
    validation chips of groups without training chips (`select_calibration_chips`),
    because new chips are from other groups as well.

    Args:
        bundle: a bundle without a calibrator.
        train: the training chips.
        val: the validation chips.
        device: auto, cpu or cuda.
        progress: called after each batch of chips.

    Returns:
        A new bundle with `calibrator` and `metrics`.
    """
    train_indices = sample_evenly_per_class(train.labels, MAX_CHIPS_PER_CLASS)
    val_outputs = classify_chips(
        bundle, val.root, val.table, device, progress, task="confidence"
    )
    train_outputs = classify_chips(
        bundle,
        train.root,
        train.table,
        device,
        progress,
        task="confidence",
        indices=train_indices,
    )
    val_groups = val.table["group_key"].fillna("").to_numpy(str)
    train_groups = np.asarray(train.table["group_key"].fillna("").unique(), str)
    selected = select_calibration_chips(val.labels, val_groups, train_groups)
    # indices copy the features, so all chips are taken as they are
    if len(selected) == len(val):
        fitted = val_outputs
    else:
        fitted = ClassifierOutputs(*(x[selected] for x in val_outputs))
    calibrator = Calibrator.fit(
        fitted.logits,
        val.labels[selected],
        fitted.features,
        train_features=train_outputs.features,
        train_labels=train.labels[train_indices],
        positions=selected,
    )
    predicted = val_outputs.logits.argmax(axis=1)
    groups = bundle.group_indices
    summary = summarize_accuracy(
        predicted, val.labels, len(bundle.classes), groups, bundle.recipe.seed
    )
    metrics = {"split": "val", "chips": len(val.labels)}
    metrics |= {name: asdict(x) for name in _MEASURES if (x := getattr(summary, name))}
    return replace(bundle, calibrator=calibrator, metrics=metrics)


def select_calibration_chips(
    labels: Indices, groups: NDArray[np.str_], trained_groups: NDArray[np.str_]
) -> Indices:
    """Select the validation chips of groups without training chips.

    All validation chips are selected if otherwise a class would have too few chips for
    its coverage, although it has enough among all of them.

    Args:
        labels: class index of every validation chip (N,).
        groups: group of every validation chip (N,), such as its scene; "" for a chip
            without a group.
        trained_groups: groups of the training chips.

    Returns:
        Sorted indices (M,).
    """
    is_new = ~np.isin(groups, trained_groups) | (groups == "")
    counts = np.bincount(labels, minlength=labels.max() + 1)
    new_counts = np.bincount(labels[is_new], minlength=labels.max() + 1)
    needed = min_calibration_chips(COVERAGE)
    is_enough = is_new.any() and not ((counts >= needed) & (new_counts < needed)).any()
    if is_enough:
        return np.flatnonzero(is_new)
    return np.arange(len(labels))


def sample_evenly_per_class(labels: Indices, max_per_class: int) -> Indices:
    """Return a sample of chips with at most `max_per_class` of every class.

    It is evenly spaced over the chips of a class.

    `labels` are the class indices of all chips (N,). A class with fewer chips is
    sampled whole.

    Returns:
        Sorted indices (M,).
    """
    members = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    sampled = [
        x[np.linspace(0, len(x) - 1, min(max_per_class, len(x))).astype(int)]
        for x in members
    ]
    return np.sort(np.concatenate(sampled))
