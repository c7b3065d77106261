"""What a bundle records of its validation chips, so that new chips can be compared with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

MAX_CLASSES = 16
"""Number of classes whose probabilities are recorded: those with the largest mean probability."""

_PREFIX = "validation."  # of the names of the arrays in a file


@dataclass(frozen=True)
class ValidationChips:
    """The N validation chips on which a calibrator was fitted. Bundles of rsft 0.1 have no such record.

    Attributes:
        predicted: (N,) index of the predicted class.
        confidence: (N,) calibrated probability of the predicted class.
        probabilities: (N, K) calibrated probabilities of the classes in `columns`.
        columns: (K,) class indices, at most `MAX_CLASSES`.
        positions: (N,) numbers of the chips in the validation split.
        groups: (N,) number of the group of each chip, such as its scene; -1 without a group.
        trained_groups: numbers of the groups that have training chips as well.
    """

    predicted: NDArray[np.int64]
    confidence: NDArray[np.float32]
    probabilities: NDArray[np.float32]
    columns: NDArray[np.int64]
    positions: NDArray[np.int64]
    groups: NDArray[np.int64]
    trained_groups: NDArray[np.int64]

    @classmethod
    def from_probabilities(
        cls,
        probabilities: NDArray[np.floating],
        *,
        positions: NDArray[np.integer] | None = None,
        groups: NDArray[np.str_] | None = None,
        trained_groups: NDArray[np.str_] | None = None,
    ) -> Self:
        """Summarize validation chips.

        Args:
            probabilities: (N, C), calibrated.
            positions: (N,) numbers of the chips in the validation split; None if they are the whole split.
            groups: (N,) names of the groups of the chips, "" for a chip without a group; None if no chip has one.
            trained_groups: names of the groups of the training chips.

        Returns:
            The record.
        """
        names = np.full(len(probabilities), "") if groups is None else groups
        unique, numbers = np.unique(names, return_inverse=True)
        is_trained = np.isin(unique, [] if trained_groups is None else trained_groups) & (unique != "")
        columns = np.sort(np.argsort(-probabilities.mean(axis=0), kind="stable")[:MAX_CLASSES])
        return cls(
            predicted=probabilities.argmax(axis=1).astype(np.int64),
            confidence=probabilities.max(axis=1).astype(np.float32),
            probabilities=np.ascontiguousarray(probabilities[:, columns], np.float32),
            columns=columns.astype(np.int64),
            positions=np.arange(len(probabilities)) if positions is None else positions.astype(np.int64),
            groups=np.where(names == "", -1, numbers).astype(np.int64),
            trained_groups=np.flatnonzero(is_trained).astype(np.int64),
        )

    def describe_groups(self) -> str:
        """Describe from which groups the chips are, such as "2 groups (such as scenes) without training chips".

        Returns:
            A phrase; "" if no chip has a group.
        """
        groups = np.unique(self.groups[self.groups >= 0])
        if not len(groups):
            return ""
        text = f"{len(groups):,} group{'s' * (len(groups) > 1)} (such as scenes)"
        trained = len(np.intersect1d(groups, self.trained_groups))
        return f"{text}, {trained:,} of them with training chips" if trained else f"{text} without training chips"

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Return the attributes as arrays, to be stored in a file.

        Returns:
            Name -> array.
        """
        return {f"{_PREFIX}{field.name}": getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, NDArray[Any]]) -> Self | None:
        """Build the record from stored arrays.

        Args:
            tensors: name -> array, from `tensors`; other arrays are ignored.

        Returns:
            The record; None if the file has none.

        Raises:
            KeyError: some of the arrays are missing.
        """
        if not any(name.startswith(_PREFIX) for name in tensors):
            return None
        return cls(**{field.name: tensors[f"{_PREFIX}{field.name}"] for field in fields(cls)})
