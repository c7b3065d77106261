"""Names of classes: those without chips, typos, and lists of names in messages."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from itertools import permutations

Counts = Mapping[str, Mapping[str, int]]
"""Number of chips by split and class; 0 if a class has no chip."""

_RARE_RATIO = 10  # a typo occurs in few labels
_SHORTEST_NAME = 4
_LATIN_LETTERS = str.maketrans("асеорхуіјѕοανρυ", "aceopxyijsoavpu")
"""Cyrillic and Greek letters -> Latin letters that look equal."""


def missing_classes(counts: Counts) -> dict[str, list[str]]:
    """Find classes that lack chips in a split that has chips of other classes.

    Returns:
        Names of the missing classes by split; splits without one are left out.
    """
    totals = Counter[str]()
    for chips in counts.values():
        totals.update(chips)
    missing = {}
    for split, chips in counts.items():
        absent = [name for name in totals if totals[name] and not chips.get(name)]
        if absent and any(chips.values()):
            missing[split] = absent
    return missing


def list_first_names(names: Sequence[str], limit: int = 10) -> str:
    """Return names for a message: the first `limit`, and how many follow."""
    more = f" and {len(names) - limit:,} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def find_label_typos(counts: Mapping[str, int]) -> list[tuple[str, str]]:
    """Find rare classes whose name differs by one edit from that of a common class.

    One edit adds, removes or changes a letter, or exchanges two neighbors. Upper and
    lower case, spaces, hyphens, underscores and equal letters of two alphabets do not
    count. Names shorter than four characters and names that differ in a digit are left
    out.

    Returns:
        Pairs of the rare class and the class that is at least ten times as large. If
        the names only differ in case and separators, the sizes do not matter.

    Example:
        >>> find_label_typos({"Cargo": 50, "Crago": 1, "T-62": 5, "T-72": 90})
        [('Crago', 'Cargo')]
    """
    plain = {
        name: re.sub(r"[\s_-]", "", name).casefold().translate(_LATIN_LETTERS)
        for name in counts
    }
    similar = defaultdict(set)
    for name, text in plain.items():
        digits = re.sub(r"\D", "", text)
        for pattern in {text, *_shortened(text)}:
            similar[digits, pattern].add(name)
    pairs = set()
    for names in similar.values():
        for rare, common in permutations(names, 2):
            if plain[rare] == plain[common]:
                is_rare = (counts[rare], rare) < (counts[common], common)
            else:
                is_rare = counts[rare] * _RARE_RATIO <= counts[common]
            if is_rare:
                pairs.add((rare, common))
    return sorted(pairs)


def _shortened(text: str) -> list[str]:
    """Return a text without each of its letters; texts one edit apart share one."""
    if len(text) < _SHORTEST_NAME:
        return []
    return [text[:index] + text[index + 1 :] for index in range(len(text))]
