"""Splits of labeled samples, and long tails of the training split."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from rsft.data.chips.record import (
    ChipRecord,
    long_tail_counts,
    sample_per_class,
    stratified_split,
)
from rsft.data.datasets.formats.labeled_files import LabeledFile
from rsft.errors import RequestError

L = TypeVar("L", bound=LabeledFile)
R = TypeVar("R", bound=LabeledFile | ChipRecord)


def check_val_share(val: float) -> None:
    """Raise RequestError if a validation share is not in [0, 1)."""
    if not 0 <= val < 1:
        raise RequestError(
            f"the validation share is {val}",
            "--val",
            "give a share of at least 0 and below 1",
        )


def hold_out(samples: Sequence[R], share: float, seed: int) -> tuple[list[R], list[R]]:
    """Split off a validation split: a share of each class.

    Returns:
        The remaining samples, and the held-out samples with the split "val".
    """
    if not samples:
        return [], []
    labels = [sample.label for sample in samples]
    remaining, held_out = stratified_split(labels, share, seed)
    return (
        [samples[index] for index in remaining],
        [replace(samples[index], split="val") for index in held_out],
    )


def split_off_test(samples: Sequence[R], share: float) -> list[R]:
    """Give a share of the validation samples of each class the split "test".

    They are taken at even steps in their order: with a share of 0.5, every second
    sample of a class. No seed is needed, so the chips on which settings are chosen and
    those that are reported stay apart in every store of the same source.

    Args:
        samples: samples of any split.
        share: share of the validation samples of each class.

    Returns:
        All samples in the same order.
    """
    seen = Counter[str]()
    result = []
    for sample in samples:
        if sample.split == "val":
            before = math.floor(seen[sample.label] * share)
            seen[sample.label] += 1
            if math.floor(seen[sample.label] * share) > before:
                sample = replace(sample, split="test")
        result.append(sample)
    return result


def subsample_long_tail(
    samples: Sequence[L], classes: Sequence[str], ratio: float, seed: int
) -> list[L]:
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
    counts = Counter(labels)
    available = {label: counts[label] for label in classes if counts[label]}
    selected = sample_per_class(labels, long_tail_counts(available, ratio), seed)
    return [samples[index] for index in selected]
