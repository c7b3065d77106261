"""Held-out validation samples and artificial long tails."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from rsft.data.chips.long_tail import long_tail_counts, sample_per_class, stratified_split
from rsft.errors import RequestError

if TYPE_CHECKING:
    from rsft.data.datasets._image_files import LabeledFile
    from rsft.data.datasets.cifar100 import CIFARImage

Sample = TypeVar("Sample", "LabeledFile", "CIFARImage")


def check_val_share(val: float) -> None:
    """Check that a validation share is in [0, 1).

    Raises:
        RequestError: the share is outside the range.
    """
    if not 0 <= val < 1:
        raise RequestError(f"the validation share is {val}", "--val", "give a share of at least 0 and below 1")


def hold_out(samples: Sequence[Sample], share: float, seed: int) -> tuple[list[Sample], list[Sample]]:
    """Split off a validation split, stratified by class.

    Args:
        samples: samples with a label and a split.
        share: share of each class to hold out.
        seed: seed of the random choice.

    Returns:
        The remaining samples, and the held-out samples with the split "val".
    """
    if not samples:
        return [], []
    remaining, held_out = stratified_split([sample.label for sample in samples], share, seed)
    return [samples[index] for index in remaining], [replace(samples[index], split="val") for index in held_out]


def subsample_long_tail(samples: Sequence[Sample], classes: Sequence[str], ratio: float, seed: int) -> list[Sample]:
    """Reduce the samples of each class to the counts of `long_tail_counts`.

    Args:
        samples: samples with a label.
        classes: class names; classes of equal count are ranked in this order.
        ratio: size of the largest class over that of the smallest.
        seed: seed of the random choice.

    Returns:
        The selected samples, in their original order.
    """
    if not samples:
        return []
    labels = [sample.label for sample in samples]
    label_counts = Counter(labels)
    available = {label: label_counts[label] for label in classes if label_counts[label]}
    return [samples[index] for index in sample_per_class(labels, long_tail_counts(available, ratio), seed)]
