"""The calibrator, which estimates the confidence of new predictions.

It is fitted on validation chips.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from rsft.data.chips.class_names import list_first_names
from rsft.models.uncertainty.class_sets import (
    class_thresholds,
    likelihood_ratios,
    min_calibration_chips,
    weighted_thresholds,
)
from rsft.models.uncertainty.distances import (
    fit_distance,
    mahalanobis_distance,
    ood_limit,
)
from rsft.models.uncertainty.one_class import OneClass, compare_with_one_class
from rsft.models.uncertainty.shift import (
    MIN_CHIPS,
    ChipSummary,
    ShiftTest,
    compare_chips,
)
from rsft.models.uncertainty.temperature import (
    fit_temperature,
    log_softmax,
    lower_probabilities,
)
from rsft.types import Floats, Floats32, Indices, Labels, Mask, Reals

MAX_CLASSES = 16
"""Number of classes whose probabilities are recorded: those with the largest mean
probability."""

MAX_REFERENCES = 4000
"""Training chips in a bundle that distances are measured to. With more of them, such as
100 chips of 100 classes, the bundle has the class means alone."""

_PREFIX = "validation."  # of the names of the arrays in a file


@dataclass(frozen=True)
class ValidationChips:
    """The N validation chips of a calibrator, for comparisons with new chips.

    Attributes:
        predicted: (N,) index of the predicted class.
        confidence: (N,) calibrated probability of the predicted class.
        probabilities: (N, K) calibrated probabilities of the classes in `columns`.
        columns: (K,) class indices, at most `MAX_CLASSES`.
        positions: (N,) numbers of the chips in the validation split.
    """

    predicted: Indices
    confidence: Floats32
    probabilities: Floats32
    columns: Indices
    positions: Indices

    @classmethod
    def from_probabilities(
        cls, probabilities: Reals, positions: Labels | None = None
    ) -> Self:
        """Summarize validation chips.

        Args:
            probabilities: (N, C), calibrated.
            positions: (N,) numbers of the chips in the validation split; None if they
                are the whole split.
        """
        order = np.argsort(-probabilities.mean(axis=0), kind="stable")
        columns = np.sort(order[:MAX_CLASSES])
        if positions is None:
            positions = np.arange(len(probabilities))
        return cls(
            predicted=probabilities.argmax(axis=1).astype(np.int64),
            confidence=probabilities.max(axis=1).astype(np.float32),
            probabilities=np.ascontiguousarray(probabilities[:, columns], np.float32),
            columns=columns.astype(np.int64),
            positions=positions.astype(np.int64),
        )


COVERAGE = 0.9
"""Share of the chips of each class for which the set should contain the true class."""

OOD_FALSE_POSITIVE_RATE = 0.05
"""Expected share of chips above the limit for out-of-distribution chips, if they are
like the validation chips."""

_ROWS = 8192  # chips whose sets are computed at the same time, which limits the memory
_ROUNDING = 1e-6  # probabilities are rounded to six decimals in tables


class ConfidenceEstimate(NamedTuple):
    """Confidence of N predictions.

    Attributes:
        probabilities: (N, C), calibrated; calibration does not change the most probable
            class.
        sets: (N, C) bool, the classes that a chip may have, at least one.
        ood: (N,) distance from the training chips divided by its limit; a chip above 1
            is out-of-distribution.
    """

    probabilities: Floats
    sets: Mask
    ood: Floats


@dataclass(frozen=True)
class Calibrator:
    """Estimator of confidence.

    It is fitted on validation chips, stored in the bundle, and applied to all
    predictions.

    Attributes:
        temperature: divisor of the logits.
        scores: (N,) -log p of the true class of every validation chip, calibrated.
        labels: (N,) classes of the validation chips.
        distances: (N,) distances of the validation chips from the training chips.
        means: (C, D) mean features of the training chips of every class; NaN for a
            class without any.
        chips: (K, D) features of the training chips; K is 0 if they are more than
            `MAX_REFERENCES`, and in bundles of 0.2.
        whitening: (D, D), makes the covariance within the classes the identity.
        validation: further properties of the validation chips; the last field, the
            others are single arrays.
    """

    temperature: float
    scores: Floats
    labels: Indices
    distances: Floats
    means: Floats32
    chips: Floats32
    whitening: Floats32
    validation: ValidationChips

    @classmethod
    def fit(
        cls,
        logits: Reals,
        labels: Labels,
        features: Reals,
        *,
        train_features: Reals,
        train_labels: Labels,
        positions: Labels | None = None,
    ) -> Self:
        """Fit a calibrator to the final classifier's outputs on validation chips.

        The classifier was not trained on them.

        Args:
            logits: (N, C) of the validation chips.
            labels: (N,) class indices of the validation chips.
            features: (N, D) of the validation chips.
            train_features: (M, D) of training chips without augmentation.
            train_labels: (M,) class indices of these training chips.
            positions: see `ValidationChips.from_probabilities`.

        Raises:
            ValueError: an array is empty, or contains numbers that are not finite.
        """
        if not len(labels) or not len(train_labels):
            raise ValueError(
                "at least one validation chip and one training chip are needed"
            )
        for array in (logits, features, train_features):
            if not np.isfinite(array).all():
                raise ValueError("logits and features must be finite")
        temperature = fit_temperature(logits, labels)
        means, whitening = fit_distance(train_features, train_labels, logits.shape[1])
        kept = len(train_labels) if len(train_labels) <= MAX_REFERENCES else 0
        logs = log_softmax(logits, temperature)
        calibrator = cls(
            temperature=temperature,
            scores=-logs[np.arange(len(labels)), labels],
            labels=labels.astype(np.int64),
            distances=np.zeros(0),
            means=means.astype(np.float32),
            chips=train_features[:kept].astype(np.float32),
            whitening=whitening.astype(np.float32),
            validation=ValidationChips.from_probabilities(np.exp(logs), positions),
        )
        return replace(calibrator, distances=calibrator._distances(features))

    def apply(
        self,
        logits: Reals,
        features: Reals,
        *,
        coverage: float = COVERAGE,
    ) -> ConfidenceEstimate:
        """Estimate the confidence of N predictions.

        A set contains the most probable class, and each class with a probability of at
        least the quantile 1 - coverage over its validation chips. A class with too few
        validation chips (`classes_without_coverage`) is in every set.

        Args:
            logits: (N, C).
            features: (N, D).
            coverage: share of the chips of each class for which the set should contain
                the true class, between 0 and 1.

        Returns:
            Calibrated probabilities, sets of classes and distances.
        """
        log_probabilities = log_softmax(logits, self.temperature)
        thresholds = class_thresholds(
            self.scores, self.labels, log_probabilities.shape[1], coverage
        )
        sets = -log_probabilities <= thresholds
        sets[np.arange(len(sets)), logits.argmax(axis=1)] = True
        return ConfidenceEstimate(
            np.exp(log_probabilities),
            sets,
            self._distances(features) / self.ood_limit(),
        )

    def references(self) -> Floats32:
        """Return the features (K, D) that distances are measured to.

        They are the training chips, or the class means in a bundle without them.
        """
        return self.chips if len(self.chips) else self.means

    def _distances(self, features: Reals) -> Floats:
        return mahalanobis_distance(features, self.references(), self.whitening)

    def ood_limit(self) -> float:
        """Return the distance above which a chip is out-of-distribution."""
        return ood_limit(self.distances, OOD_FALSE_POSITIVE_RATE)

    def test_shift(self, probabilities: Reals, ood: Reals) -> ShiftTest:
        """Test whether new chips are like the validation chips.

        Only then do sets have their coverage.

        Args:
            probabilities: (M, C) of the new chips, calibrated.
            ood: (M,) distances of the new chips, from `apply`.
        """
        distances = self.distances / self.ood_limit()
        validation = self.validation
        new = ChipSummary(
            ood, probabilities.max(axis=1, initial=0), probabilities.argmax(axis=1)
        )
        return compare_chips(
            new, ChipSummary(distances, validation.confidence, validation.predicted)
        )

    def widened_sets(
        self, probabilities: Reals, ood: Reals, coverage: float = COVERAGE
    ) -> Mask | None:
        """Return sets for chips that may differ from the validation chips.

        A class is in a set if it is in the set of `apply` or in the weighted conformal
        set. So no set is smaller than that of `apply`: it keeps its coverage for chips
        like the validation chips, also if their classes have other shares. The weights
        are estimated from all new chips, so these should be from one scene.

        Args:
            probabilities: (M, C) of the new chips, calibrated.
            ood: (M,) distances of the new chips, from `apply`.
            coverage: the coverage, as in `apply`.

        Returns:
            (M, C); None if there are fewer than `MIN_CHIPS` new chips or validation
            chips, or if a distance is not finite.
        """
        ratios = self._likelihood_ratios(probabilities, ood)
        if not ratios:
            return None
        weights, new_weights = ratios
        n_classes = probabilities.shape[1]
        plain = class_thresholds(self.scores, self.labels, n_classes, coverage)
        sets = np.zeros(probabilities.shape, bool)
        for start in range(0, len(sets), _ROWS):
            rows = slice(start, start + _ROWS)
            weighted = weighted_thresholds(
                self.scores,
                self.labels,
                weights,
                new_weights[rows],
                n_classes,
                coverage,
            )
            sets[rows] = (
                probabilities[rows] >= np.exp(-np.maximum(weighted, plain)) - _ROUNDING
            )
        sets[np.arange(len(sets)), probabilities.argmax(axis=1)] = True
        return sets

    def lowered_probabilities(self, probabilities: Reals, ood: Reals) -> Floats | None:
        """Return probabilities for chips that differ from the validation chips.

        Their mean for the predicted class is at most the accuracy of the validation
        chips, of which each counts as much as it resembles the new chips. The order of
        the classes stays.

        Args:
            probabilities: (M, C) of the new chips, calibrated.
            ood: (M,) distances of the new chips, from `apply`.

        Returns:
            (M, C); None if the mean is not larger, or if the chips cannot be compared,
            see `widened_sets`.
        """
        ratios = self._likelihood_ratios(probabilities, ood)
        if not ratios:
            return None
        is_right = self.validation.predicted == self.labels
        accuracy = float(np.average(is_right, weights=ratios[0]))
        if probabilities.max(axis=1).mean() <= accuracy:
            return None
        return lower_probabilities(probabilities, accuracy)

    def _likelihood_ratios(
        self, probabilities: Reals, ood: Reals
    ) -> tuple[Floats, Floats] | None:
        """Return how much more frequent validation and new chips are among new chips.

        None if there are too few chips of either, or if a distance is not finite.
        """
        validation = self.validation
        if min(len(ood), len(self.labels)) < MIN_CHIPS or not np.isfinite(ood).all():
            return None
        features = np.column_stack(
            [self.distances / self.ood_limit(), validation.probabilities]
        )
        new_features = np.column_stack([ood, probabilities[:, validation.columns]])
        return likelihood_ratios(features, new_features)

    def was_fitted_on(self, logits: Reals, labels: Labels) -> bool:
        """Return whether the calibrator was fitted on these chips.

        Its estimates are then too optimistic.

        Args:
            logits: (N, C).
            labels: (N,) class indices.
        """
        positions = self.validation.positions
        if len(labels) <= positions.max():
            return False
        logits = logits[positions]
        labels = labels[positions]
        if not np.array_equal(labels, self.labels):
            return False
        scores = -log_softmax(logits, self.temperature)[np.arange(len(labels)), labels]
        return bool(np.allclose(scores, self.scores, rtol=1e-3, atol=1e-3))

    def classes_without_coverage(self, coverage: float = COVERAGE) -> list[int]:
        """Return the indices of the classes that are in every set.

        They have too few validation chips.
        """
        counts = np.bincount(self.labels, minlength=len(self.means))
        return np.flatnonzero(counts < min_calibration_chips(coverage)).tolist()

    def notes(self, classes: Sequence[str]) -> list[str]:
        """Return sentences on the accuracy, and on the classes that are in every set.

        Args:
            classes: names in the order of the logits.
        """
        one = self.compare_with_one_class()
        notes = [
            f"of {len(self.labels):,} validation chips, {one.accuracy:.0%} have the"
            f" right class; if all were {classes[one.index]}, {one.share:.0%} would"
        ]
        missing = self.classes_without_coverage()
        if missing:
            names = list_first_names([classes[index] for index in missing])
            notes.append(
                f"every class set contains {names}: a coverage of {COVERAGE:.0%} takes"
                f" {min_calibration_chips(COVERAGE)} validation chips of the class"
            )
        return notes

    def warnings(self, classes: Sequence[str]) -> list[str]:
        """Return a sentence if one class for all chips may be as good as the bundle.

        Args:
            classes: names in the order of the logits.
        """
        one = self.compare_with_one_class()
        if one.is_beaten:
            return []
        name = classes[one.index]
        return [
            f"nothing shows that the classes are better than {name} for every chip: of"
            f" {len(self.labels):,} validation chips, {one.accuracy:.0%} have the right"
            f" class, and {one.share:.0%} are {name}"
        ]

    def compare_with_one_class(self) -> OneClass:
        """Compare the predictions with the largest class as the answer for all chips.

        Both answers are for the validation chips.
        """
        return compare_with_one_class(self.validation.predicted, self.labels)

    def promise(self) -> str:
        """Return one sentence: what the sets promise, and on what condition."""
        return (
            f"class sets contain the true class of {COVERAGE:.0%} of the chips of every"
            f" class, if the chips are like the {len(self.labels):,} validation chips"
        )

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Return the attributes as arrays, to be stored in a file."""
        arrays = {name: np.atleast_1d(x) for name, x in vars(self).items()}
        del arrays["validation"]
        for name, array in vars(self.validation).items():
            arrays[f"{_PREFIX}{name}"] = array
        return arrays

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, NDArray[Any]]) -> Self:
        """Build a calibrator from stored arrays.

        Raises:
            KeyError: an array is missing.
            ValueError: the temperature is not one number, or arrays do not fit.
        """
        tensors = {"chips": tensors["means"][:0], **tensors}  # 0.2 has no chips
        arrays = {field.name: tensors[field.name] for field in fields(cls)[1:-1]}
        names = ("means", "chips", "whitening")
        if len({arrays[name].shape[-1:] for name in names}) > 1:
            raise ValueError(f"{', '.join(names)} are of different features")
        validation = {
            field.name: tensors[f"{_PREFIX}{field.name}"]
            for field in fields(ValidationChips)
        }
        return cls(
            temperature=tensors["temperature"].item(),
            **arrays,
            validation=ValidationChips(**validation),
        )
