"""What is known, after training, of how far the answers of a classifier can be trusted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from rsft.models.uncertainty.conformal import chips_needed, limits
from rsft.models.uncertainty.mahalanobis import fit_means, fit_whitening, nearest
from rsft.models.uncertainty.temperature_scaling import fit_temperature, log_softmax

COVERAGE = 0.9
"""Of the chips of each class, this share has the class in their set."""

FLAGGED = 0.05
"""This share of the validation chips would be called strange; it is the rate of false alarms on chips like them."""


class Judgement(NamedTuple):
    """What `Confidence.apply` says of N chips.

    Attributes:
        probabilities: (N, C), calibrated; the most probable class is that of the logits.
        sets: (N, C) bool, the classes that a chip may be; never empty.
        ood: (N,) distance from the training chips as a multiple of the limit: above 1 a chip is strange.
    """

    probabilities: NDArray[np.float64]
    sets: NDArray[np.bool_]
    ood: NDArray[np.float64]


@dataclass(frozen=True)
class Confidence:
    """Fitted once, on validation chips; kept in the bundle; applied to whatever the bundle classifies.

    Attributes:
        temperature: logits are divided by it.
        scores: (N,) -log p of the true class of every validation chip, calibrated.
        labels: (N,) their classes.
        distances: (N,) their distances from the training chips.
        means: (C, D) mean features of the training chips of every class; NaN for a class without any.
        whitening: (D, D), under which the covariance within the classes is the identity.
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
        """From what the classifier, as it will predict, says of chips that it was not trained on.

        Args:
            logits: (N, C) of the validation chips.
            labels: (N,) their classes.
            features: (N, D) their features.
            train_features: (M, D) of training chips, not augmented.
            train_labels: (M,) their classes.

        Raises:
            ValueError: no chip, shapes that do not belong together, or numbers that are not finite.
        """
        _check(logits, labels, features, train_features, train_labels)
        temperature = fit_temperature(logits, labels)
        means = fit_means(train_features, train_labels, logits.shape[1])
        whitening = fit_whitening(train_features, train_labels, means)
        kept = means.astype(np.float32), whitening.astype(np.float32)
        scores = -log_softmax(logits, temperature)[np.arange(len(labels)), labels]
        return cls(temperature, scores, labels.astype(np.int64), nearest(features, *kept), *kept)

    def apply(
        self,
        logits: NDArray[np.floating],
        features: NDArray[np.floating],
        *,
        coverage: float = COVERAGE,
        flagged: float = FLAGGED,
    ) -> Judgement:
        """Judge N chips by their logits (N, C) and features (N, D).

        Args:
            coverage: of the chips of each class, the share whose set shall hold the class; above 0 and below 1.
            flagged: the share of the validation chips that would be called strange.

        A set holds the most probable class, and every class whose p is not smaller than what its validation chips have
        but for the share 1 - coverage. A class with too few of them (`scarce`) is in every set.
        """
        logs = log_softmax(logits, self.temperature)
        sets = -logs <= limits(self.scores, self.labels, logs.shape[1], coverage)
        sets[np.arange(len(logs)), logits.argmax(axis=1)] = True
        limit = max(float(np.quantile(self.distances, 1 - flagged)), 1e-12)
        return Judgement(np.exp(logs), sets, nearest(features, self.means, self.whitening) / limit)

    def was_fitted_on(self, logits: NDArray[np.floating], labels: NDArray[np.integer]) -> bool:
        """Whether these are the chips that it was fitted on, of which it would speak too well."""
        if len(labels) != len(self.labels) or not np.array_equal(labels, self.labels):
            return False
        scores = -log_softmax(logits, self.temperature)[np.arange(len(labels)), labels]
        return bool(np.allclose(scores, self.scores, rtol=1e-3, atol=1e-3))

    def scarce(self, coverage: float = COVERAGE) -> list[int]:
        """The classes whose validation chips are too few for a coverage, so that they are in every set."""
        counts = np.bincount(self.labels, minlength=len(self.means))
        return np.flatnonzero(counts < chips_needed(coverage)).tolist()

    def notes(self, classes: Sequence[str], coverage: float = COVERAGE) -> list[str]:
        """What the reader of a set must know, in sentences."""
        scarce = [classes[index] for index in self.scarce(coverage)]
        if not scarce:
            return []
        needed = chips_needed(coverage)
        return [
            f"in every set, because fewer than {needed} validation chips cannot show a coverage of {coverage:.0%}: "
            f"{', '.join(scarce)}"
        ]

    def tensors(self) -> dict[str, NDArray[Any]]:
        """As arrays by name, for a file."""
        return {field.name: np.atleast_1d(getattr(self, field.name)) for field in fields(self)}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, NDArray[Any]]) -> Self:
        """Take back what `tensors` gave.

        Raises:
            KeyError: one is missing.
        """
        arrays = {field.name: tensors[field.name] for field in fields(cls) if field.name != "temperature"}
        return cls(temperature=float(tensors["temperature"][0]), **arrays)


def _check(
    logits: NDArray[np.floating],
    labels: NDArray[np.integer],
    features: NDArray[np.floating],
    train_features: NDArray[np.floating],
    train_labels: NDArray[np.integer],
) -> None:
    if not len(labels) or not len(train_labels):
        raise ValueError("there must be validation chips and training chips")
    if not len(labels) == len(logits) == len(features) or len(train_labels) != len(train_features):
        raise ValueError("logits, labels and features must have a row a chip")
    if features.shape[1] != train_features.shape[1]:
        raise ValueError(f"features of {features.shape[1]} and {train_features.shape[1]} columns")
    if not all(np.isfinite(array).all() for array in (logits, features, train_features)):
        raise ValueError("logits and features must be finite")
