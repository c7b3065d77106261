"""What becomes of classes that have too few chips to be learned and measured."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Literal

RareClasses = Literal["keep", "merge", "drop"]
"""What becomes of rare classes."""

RARE = 10
"""Classes with fewer chips are rare."""

OTHER = "other"
"""Class of all rare classes together."""


def find_rare(counts: Mapping[str, int]) -> dict[str, int]:
    """Return the rare classes with their numbers of chips, the smallest first."""
    rare = sorted((count, name) for name, count in counts.items() if 0 < count < RARE)
    return {name: count for count, name in rare}


def resolve_rare(
    classes: Iterable[str], labels: Iterable[str], choice: RareClasses | None
) -> dict[str, str]:
    """Return the class of each label, without labels that are left out.

    Args:
        classes: all labels.
        labels: the label of each chip.
        choice: what becomes of rare classes; None keeps them.

    Example:
        >>> resolve_rare(["cargo", "tug"], ["cargo"] * 12 + ["tug"], "merge")
        {'cargo': 'cargo', 'tug': 'other'}
    """
    resolved = {label: label for label in classes}
    if choice in (None, "keep"):
        return resolved
    for label in find_rare(Counter(labels)):
        if choice == "merge":
            resolved[label] = OTHER
        else:
            del resolved[label]
    return resolved
