"""Samples of one label and one split each: a share set aside for validation, a long tail made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from rsft.data.chips.long_tail import draw, long_tail_counts, stratified_split
from rsft.data.datasets.cifar100 import CIFARImage
from rsft.data.datasets.image_folder import LabelledFile
from rsft.errors import RequestError

Sample = TypeVar("Sample", LabelledFile, CIFARImage)


def check_share(val: float) -> None:
    """Refuse what is no share for validation.

    Raises:
        RequestError: it is below 0 or not below 1.
    """
    if not 0 <= val < 1:
        raise RequestError(f"a validation share of {val}", "--val", "give a share from 0 up to, not including, 1")


def set_aside(samples: Sequence[Sample], share: float, seed: int) -> tuple[list[Sample], list[Sample]]:
    """What stays, and `share` of each class as the validation split."""
    if not samples:
        return [], []
    kept, chosen = stratified_split([sample.label for sample in samples], share, seed)
    return [samples[index] for index in kept], [replace(samples[index], split="val") for index in chosen]


def thin(samples: Sequence[Sample], classes: Sequence[str], ratio: float, seed: int) -> list[Sample]:
    """Thin samples to `long_tail_counts`: classes are ranked by descending count, ties in the order of `classes`."""
    if not samples:
        return []
    labels = [sample.label for sample in samples]
    found = Counter(labels)
    available = {label: found[label] for label in classes if found[label]}
    return [samples[index] for index in draw(labels, long_tail_counts(available, ratio), seed)]
