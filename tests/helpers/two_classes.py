"""Outputs of a toy network for two classes whose features lie apart, and their
calibrator."""

from __future__ import annotations

import numpy as np

from rsft.models.outputs import ClassifierOutputs
from rsft.models.uncertainty.calibrator import Calibrator


def outputs(
    rng: np.random.Generator, labels: np.ndarray, shift: float = 0.0
) -> ClassifierOutputs:
    """Return outputs of chips with these labels (N,), whose features are shifted from
    those of the training."""
    features = rng.normal(size=(len(labels), 2)) + 1.5 * np.eye(2)[labels] + shift
    return ClassifierOutputs(1.5 * features, features)


def fit_calibrator(
    rng: np.random.Generator, val_count: int, train_count: int
) -> Calibrator:
    """Return a calibrator of two classes with equal numbers of validation chips and of
    training chips."""
    labels = np.arange(val_count) % 2
    train_labels = np.arange(train_count) % 2
    validation = outputs(rng, labels)
    train = outputs(rng, train_labels)
    training = {"train_features": train.features, "train_labels": train_labels}
    return Calibrator.fit(validation.logits, labels, validation.features, **training)
