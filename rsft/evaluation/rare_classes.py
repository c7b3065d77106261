"""What leaving out one chip at a time says of classes with few training chips."""

from typing import NamedTuple

import numpy as np

from rsft.data.chips.store import ChipStore
from rsft.data.datasets.rare_classes import RARE
from rsft.models.bundle.bundle import Bundle
from rsft.training.classify import classify_chips
from rsft.training.init.discriminant import ChipStatistics, fit_discriminant
from rsft.types import Indices, Names, Reals


class RareClass(NamedTuple):
    """A class with few training chips.

    Attributes:
        name: name of the class.
        chips: number of its training chips.
        right: how many of them get their class from the other chips.
        wrong: number of chips of other classes that get this class.
    """

    name: str
    chips: int
    right: int
    wrong: int

    def __str__(self) -> str:
        return (
            f"{self.name}: {self.right} of {self.chips} chips are recognized, and"
            f" {self.wrong} of other classes are taken for it"
        )


def check_rare_classes(bundle: Bundle, store: ChipStore) -> list[RareClass]:
    """Classify each training chip by a discriminant of all others.

    Args:
        bundle: a bundle whose features the discriminant takes.
        store: the chip store of its training.

    Returns:
        The classes with fewer than `RARE` training chips, if there are other classes.
    """
    train = store.split("train")
    labels = np.array([bundle.classes.index(name) for name in train["class"]])
    counts = np.bincount(labels, minlength=len(bundle.classes))
    if counts.min() >= RARE or counts.max() < RARE:
        return []
    return count_held_out(
        classify_chips(bundle, store.root, train).features, labels, bundle.classes
    )


def count_held_out(features: Reals, labels: Indices, classes: Names) -> list[RareClass]:
    """Count right and wrong classes of chips that are left out in turn.

    Args:
        features: (N, D).
        labels: class indices (N,).
        classes: names of the classes.

    Returns:
        The classes with fewer than `RARE` chips.
    """
    shrinkage = fit_discriminant(features, labels, len(classes)).shrinkage
    chips = ChipStatistics(features, labels, len(classes))
    predicted = chips.predict_held_out(shrinkage)
    rare = []
    for index in np.flatnonzero((chips.counts > 0) & (chips.counts < RARE)):
        given = predicted == index
        right = int((given & (labels == index)).sum())
        wrong = int(given.sum()) - right
        rare.append(RareClass(classes[index], int(chips.counts[index]), right, wrong))
    return rare
