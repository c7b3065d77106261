"""Linear discriminant analysis with a shrunken covariance, in closed form.

Classes have the same prior and share one covariance S of the features within classes.
It is shrunken to its diagonal, (1 - a) S + a diag(S), because few chips do not
determine it (Friedman 1989, Regularized Discriminant Analysis). The shrinkage a is
chosen by leave-one-out: without a chip, its class mean moves along its deviation r, and
S loses a multiple of r r', so that the inverse follows from that of all chips (Sherman
and Morrison 1950).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from rsft.types import Floats, Labels
from rsft.utils.stored_rows import Rows, blocks

SHRINKAGES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0)
"""Shrinkages that are compared; with 1, features count as independent."""

_ROWS = 4096  # chips whose deviations are in memory
_LEAST_VARIANCE = 1e-6  # within classes, as a share of the variance of all chips


@dataclass(frozen=True)
class Discriminant:
    """A linear classifier of C classes; logits are features @ weight.T + bias.

    Attributes:
        weight: (C, D).
        bias: (C,); -inf for a class without chips.
        shrinkage: share of the diagonal in the covariance.
    """

    weight: Floats
    bias: Floats
    shrinkage: float


def fit_discriminant(features: Rows, labels: Labels, n_classes: int) -> Discriminant:
    """Fit the discriminant, and choose its shrinkage.

    If every class has a single chip, the covariance is the diagonal of that of all
    features.

    Args:
        features: (N, D).
        labels: class indices (N,).
        n_classes: C.

    Returns:
        The discriminant with the shrinkage of the largest score of held-out chips.
    """
    chips = ChipStatistics(features, labels, n_classes)
    if chips.can_leave_out:
        scores = chips.held_out_scores(SHRINKAGES)
        shrinkage = SHRINKAGES[int(scores.argmax())]
    else:
        shrinkage = 1.0
    weight, bias = chips.solve(shrinkage)
    return Discriminant(weight, bias, shrinkage)


class ChipStatistics:
    """Chips in coordinates in which every shrunken covariance is diagonal.

    Attributes:
        can_leave_out: whether a class has two chips.
        scales: standard deviation of each feature within classes (D,).
        axes: eigenvectors of the correlation within classes (D, D), in columns.
        variances: its eigenvalues (D,).
        means: class means along the axes (C, D).
    """

    def __init__(self, features: Rows, labels: Labels, n_classes: int) -> None:
        self.features = features
        self.labels = labels
        self.counts = np.bincount(labels, minlength=n_classes)
        self.can_leave_out = bool(self.counts.max() > 1)
        means = np.zeros((n_classes, features.shape[1]))
        total = np.zeros(features.shape[1])
        for rows, own in self._blocks():
            np.add.at(means, own, rows)
            total += rows.sum(axis=0, dtype=float)
        center = total / len(labels)
        means /= np.maximum(self.counts, 1)[:, None]
        centers = means
        self.freedom = len(labels) - int(np.count_nonzero(self.counts))
        if not self.can_leave_out:
            centers = np.broadcast_to(center, means.shape)
            self.freedom = max(1, len(labels) - 1)
        covariance = self._scatter(centers) / self.freedom
        variance = np.diagonal(covariance)
        squares = [((rows - center) ** 2).sum(axis=0) for rows, _ in self._blocks()]
        least = _LEAST_VARIANCE * np.sum(squares, axis=0) / len(labels)
        self.scales = np.sqrt(np.maximum(variance, least))
        self.scales[self.scales == 0] = 1  # a constant feature
        correlation = covariance / np.outer(self.scales, self.scales)
        self.variances, self.axes = np.linalg.eigh(correlation)
        self.means = means / self.scales @ self.axes

    def _blocks(self) -> Iterator[tuple[NDArray[Any], Labels]]:
        """Yield the features and labels of some chips, until all have come."""
        for block in blocks(len(self.labels), _ROWS):
            yield self.features[block], self.labels[block]

    def _scatter(self, centers: Floats) -> Floats:
        """Return the sum of squared deviations from the center of each class (D, D)."""
        width = self.features.shape[1]
        scatter = np.zeros((width, width))
        for rows, labels in self._blocks():
            deviations = rows - centers[labels]
            scatter += deviations.T @ deviations
        return np.asarray(scatter)

    def _spectrum(self, shrinkage: float) -> Floats:
        """Return the variances of the shrunken covariance along the axes (D,)."""
        kept = (1 - shrinkage) * np.maximum(self.variances, 0)
        return np.asarray(kept + shrinkage)

    def solve(self, shrinkage: float) -> tuple[Floats, Floats]:
        """Return weights (C, D) and biases (C,) of the features."""
        weight = self.means / self._spectrum(shrinkage)
        bias = -0.5 * np.einsum("cd,cd->c", weight, self.means)
        bias[self.counts == 0] = -np.inf
        return weight @ self.axes.T / self.scales, bias

    def held_out_scores(self, shrinkages: Sequence[float]) -> Floats:
        """Return the mean over classes of the log probability of a chip left out.

        Classes with one chip are left out of the mean. The diagonal and the number of
        degrees of freedom stay those of all chips.

        Returns:
            A score for each shrinkage.
        """
        sums = np.zeros((len(shrinkages), len(self.counts)))
        for features, labels in self._blocks():
            rows = features / self.scales @ self.axes
            for number, shrinkage in enumerate(shrinkages):
                distances = self._distances(rows, labels, shrinkage)
                scores = log_softmax(-distances / 2, axis=1)
                own = scores[np.arange(len(labels)), labels]
                np.add.at(sums[number], labels, own)
        measured = self.counts > 1
        means = sums[:, measured] / self.counts[measured]
        return np.asarray(means.mean(axis=1))

    def predict_held_out(self, shrinkage: float) -> NDArray[np.intp]:
        """Return the class of each chip by the discriminant of all other chips (N,).

        The only chip of a class gets another class.
        """
        predicted = []
        for features, labels in self._blocks():
            rows = features / self.scales @ self.axes
            distances = self._distances(rows, labels, shrinkage)
            single = np.flatnonzero(self.counts[labels] == 1)
            distances[single, labels[single]] = np.inf
            predicted.append(distances.argmin(axis=1))
        return np.concatenate(predicted)

    def _distances(self, rows: Floats, labels: Labels, shrinkage: float) -> Floats:
        """Return squared distances (M, C) of chips to the classes without each chip.

        Args:
            rows: chips along the axes (M, D).
            labels: their classes (M,).
            shrinkage: the shrinkage.
        """
        spectrum = self._spectrum(shrinkage)
        present = self.counts > 0
        deviations = rows - self.means[labels]
        whitened = deviations / spectrum
        reach = np.einsum("md,md->m", deviations, whitened)
        squares = (rows**2 / spectrum).sum(axis=1)[:, None]
        squares = squares - 2 * (rows / spectrum) @ self.means.T
        squares += (self.means**2 / spectrum).sum(axis=1)
        along = np.einsum("md,md->m", rows, whitened)[:, None]
        along = along - whitened @ self.means.T
        # the mean of the own class without the chip is farther away
        counts = self.counts[labels]
        growth = counts / np.maximum(counts - 1, 1)
        own = np.arange(len(labels)), labels
        squares[own] = reach * growth**2
        along[own] = reach * growth
        lost = (1 - shrinkage) * growth / self.freedom
        lost[counts == 1] = 0
        squares += (lost / (1 - lost * reach))[:, None] * along**2
        squares[:, ~present] = np.inf
        return np.asarray(squares)
