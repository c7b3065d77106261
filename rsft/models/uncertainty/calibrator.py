"""The calibrator, which is fitted on validation chips and estimates the confidence of new predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from rsft.models.uncertainty.conformal import class_thresholds, min_calibration_chips
from rsft.models.uncertainty.mahalanobis import fit_class_means, fit_whitening, mahalanobis_distance
from rsft.models.uncertainty.temperature_scaling import fit_temperature, log_softmax

COVERAGE = 0.9
"""Share of the chips of each class for which the set should contain the true class."""

OOD_FALSE_POSITIVE_RATE = 0.05
"""Share of the validation chips above the limit for out-of-distribution chips."""


class ConfidenceEstimate(NamedTuple):
    """Confidence of N predictions.

    Attributes:
        probabilities: (N, C), calibrated; calibration does not change the most probable class.
        sets: (N, C) bool, the classes that a chip may have, at least one.
        ood: (N,) distance from the training chips divided by its limit; a chip above 1 is out-of-distribution.
    """

    probabilities: NDArray[np.float64]
    sets: NDArray[np.bool_]
    ood: NDArray[np.float64]


@dataclass(frozen=True)
class Calibrator:
    """Estimator of confidence. It is fitted on validation chips, stored in the bundle, and applied to all predictions.

    Attributes:
        temperature: divisor of the logits.
        scores: (N,) -log p of the true class of every validation chip, calibrated.
        labels: (N,) classes of the validation chips.
        distances: (N,) distances of the validation chips from the training chips.
        means: (C, D) mean features of the training chips of every class; NaN for a class without any.
        whitening: (D, D), makes the covariance within the classes the identity.
    """

    temperature: float
    scores: NDArray[np.float64]
    labels: NDArray[np.int64]
    distances: NDArray[np.float64]
    means: NDArray[np.float32]
    whitening: NDArray[np.float32]

    @classmethod
    def fit(
        cls,
        logits: NDArray[np.floating],
        labels: NDArray[np.integer],
        features: NDArray[np.floating],
        *,
        train_features: NDArray[np.floating],
        train_labels: NDArray[np.integer],
    ) -> Self:
        """Fit a calibrator to outputs of the final classifier on validation chips, on which it was not trained.

        Args:
            logits: (N, C) of the validation chips.
            labels: (N,) class indices of the validation chips.
            features: (N, D) of the validation chips.
            train_features: (M, D) of training chips without augmentation.
            train_labels: (M,) class indices of these training chips.

        Returns:
            The calibrator.

        Raises:
            ValueError: an array is empty, has a wrong shape, or contains numbers that are not finite.
        """
        _validate(logits, labels, features, train_features, train_labels)
        temperature = fit_temperature(logits, labels)
        means = fit_class_means(train_features, train_labels, logits.shape[1])
        whitening = fit_whitening(train_features, train_labels, means).astype(np.float32)
        means_32 = means.astype(np.float32)
        distances = mahalanobis_distance(features, means_32, whitening)
        scores = -log_softmax(logits, temperature)[np.arange(len(labels)), labels]
        return cls(temperature, scores, labels.astype(np.int64), distances, means_32, whitening)

    def apply(
        self,
        logits: NDArray[np.floating],
        features: NDArray[np.floating],
        *,
        coverage: float = COVERAGE,
        ood_false_positive_rate: float = OOD_FALSE_POSITIVE_RATE,
    ) -> ConfidenceEstimate:
        """Estimate the confidence of N predictions.

        A set contains the most probable class, and each class with a probability of at least the quantile 1 - coverage
        over its validation chips. A class with too few validation chips (`classes_without_coverage`) is in every set.

        Args:
            logits: (N, C).
            features: (N, D).
            coverage: share of the chips of each class for which the set should contain the true class, between 0 and 1.
            ood_false_positive_rate: share of the validation chips above the limit for out-of-distribution chips.

        Returns:
            Calibrated probabilities, sets of classes and distances.
        """
        log_probabilities = log_softmax(logits, self.temperature)
        thresholds = class_thresholds(self.scores, self.labels, log_probabilities.shape[1], coverage)
        sets = -log_probabilities <= thresholds
        sets[np.arange(len(sets)), logits.argmax(axis=1)] = True
        limit = max(float(np.quantile(self.distances, 1 - ood_false_positive_rate)), 1e-12)
        ood = mahalanobis_distance(features, self.means, self.whitening) / limit
        return ConfidenceEstimate(np.exp(log_probabilities), sets, ood)

    def was_fitted_on(self, logits: NDArray[np.floating], labels: NDArray[np.integer]) -> bool:
        """Return whether the calibrator was fitted on these chips, for which its estimates are too optimistic.

        Args:
            logits: (N, C).
            labels: (N,) class indices.
        """
        if len(labels) != len(self.labels) or not np.array_equal(labels, self.labels):
            return False
        scores = -log_softmax(logits, self.temperature)[np.arange(len(labels)), labels]
        return bool(np.allclose(scores, self.scores, rtol=1e-3, atol=1e-3))

    def classes_without_coverage(self, coverage: float = COVERAGE) -> list[int]:
        """Return the classes that are in every set, because they have too few validation chips.

        Args:
            coverage: the coverage, as in `apply`.

        Returns:
            Class indices.
        """
        counts = np.bincount(self.labels, minlength=len(self.means))
        return np.flatnonzero(counts < min_calibration_chips(coverage)).tolist()

    def notes(self, classes: Sequence[str], coverage: float = COVERAGE) -> list[str]:
        """Return notes for readers of the sets: the classes that are in every set.

        Args:
            classes: names in the order of the logits.
            coverage: the coverage, as in `apply`.

        Returns:
            One sentence, or none.
        """
        names = [classes[index] for index in self.classes_without_coverage(coverage)]
        if not names:
            return []
        needed = min_calibration_chips(coverage)
        return [
            f"in every set, because fewer than {needed} validation chips cannot show a coverage of {coverage:.0%}: "
            f"{', '.join(names)}"
        ]

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Return the attributes as arrays, to be stored in a file.

        Returns:
            Name -> array.
        """
        return {field.name: np.atleast_1d(getattr(self, field.name)) for field in fields(self)}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, NDArray[Any]]) -> Self:
        """Build a calibrator from stored arrays.

        Args:
            tensors: name -> array, from `tensors`.

        Returns:
            The calibrator.

        Raises:
            KeyError: an array is missing.
        """
        arrays = {field.name: tensors[field.name] for field in fields(cls) if field.name != "temperature"}
        return cls(temperature=float(tensors["temperature"][0]), **arrays)


def _validate(
    logits: NDArray[np.floating],
    labels: NDArray[np.integer],
    features: NDArray[np.floating],
    train_features: NDArray[np.floating],
    train_labels: NDArray[np.integer],
) -> None:
    if not len(labels) or not len(train_labels):
        raise ValueError("at least one validation chip and one training chip are needed")
    if not len(labels) == len(logits) == len(features) or len(train_labels) != len(train_features):
        raise ValueError("logits, labels and features must have one row per chip")
    if features.shape[1] != train_features.shape[1]:
        raise ValueError(f"features of {features.shape[1]} and {train_features.shape[1]} columns")
    if not all(np.isfinite(array).all() for array in (logits, features, train_features)):
        raise ValueError("logits and features must be finite")
