"""The content of replay.json: what a run that started at a bundle gained and lost against it, class by class."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from rsft.errors import DataError
from rsft.metrics.bootstrap import exact_mcnemar, holm_adjust
from rsft.utils.untrusted.documents import parse_json

REPLAY_FILE = "replay.json"
"""File of a run folder with the replay check."""

ALPHA = 0.05
"""Level of the tests: a class lost more than chance explains if its adjusted p-value is below."""

VALIDATION, ADDED = "validation chips", "added chips"
"""Names of the parts of a replay check: chips of the split val, and training chips added by `rsft data add`."""

TERMS = {
    "Replay check": "the old and the new bundle classify the same labeled chips, to show what the new one gained and "
    "what it lost.",
    "Recall": "the share of the chips of a class that a bundle classifies correctly.",
    "p": "the probability that chance alone makes gained and lost chips differ as much or more; below "
    f"{ALPHA}, chance hardly explains the difference.",
}
"""What the words of a replay check mean, for pages that show it."""


@dataclass(frozen=True)
class ClassReplay:
    """What happened to the chips of one class.

    Attributes:
        name: name of the class.
        chips: number of its chips.
        before: recall of the old bundle, 0-1; None if the old bundle lacks the class.
        after: recall of the new bundle, 0-1.
        gained: number of chips that only the new bundle gets right.
        lost: number of chips that only the old bundle gets right.
        p: p-value of McNemar's exact test on gained and lost chips, adjusted by Holm over the classes of the part.
    """

    name: str
    chips: int
    before: float | None
    after: float
    gained: int
    lost: int
    p: float

    @property
    def lost_more_than_chance(self) -> bool:
        """Whether the class lost more chips than it gained, and by more than chance explains."""
        return self.lost > self.gained and self.p < ALPHA


@dataclass(frozen=True)
class PartReplay:
    """The classes of one part of the check.

    Attributes:
        name: `VALIDATION` or `ADDED`.
        classes: the classes with chips in this part, in the order of the new bundle.
        macro_before: mean recall of the old bundle over the classes that it has; None without such a class.
        macro_after: mean recall of the new bundle over the same classes.
        p: p-value of McNemar's exact test over all chips.
    """

    name: str
    classes: tuple[ClassReplay, ...]
    macro_before: float | None
    macro_after: float | None
    p: float

    @property
    def chips(self) -> int:
        """Number of chips."""
        return sum(item.chips for item in self.classes)

    @property
    def gained(self) -> int:
        """Number of chips that only the new bundle gets right."""
        return sum(item.gained for item in self.classes)

    @property
    def lost(self) -> int:
        """Number of chips that only the old bundle gets right."""
        return sum(item.lost for item in self.classes)


@dataclass(frozen=True)
class Replay:
    """The content of replay.json.

    Attributes:
        start_sha256: hash of the old bundle.
        bundle_sha256: hash of the new bundle.
        parts: validation chips and, if the store has some, added training chips.
    """

    start_sha256: str
    bundle_sha256: str
    parts: tuple[PartReplay, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object of replay.json."""
        return asdict(self) | {"sentences": self.sentences(), "terms": TERMS}

    def sentences(self) -> list[str]:
        """Say in words which classes lost chips by more than chance, and what happened to the added chips."""
        test = "McNemar's exact test, Holm's correction over the classes"
        lines = []
        for part in self.parts:
            lines += [
                f"{item.name} lost {item.lost:,} and gained {item.gained:,} of {item.chips:,} {part.name}: more than "
                f"chance explains ({test}, p = {item.p:.2g})"
                for item in part.classes
                if item.lost_more_than_chance
            ]
        if not lines:
            lines = [f"no class lost more chips than chance explains ({test}, p < {ALPHA})"]
        for part in self.parts:
            if part.name == ADDED:
                correct = [round(item.after * item.chips) for item in part.classes]
                before = [round((item.before or 0) * item.chips) for item in part.classes]
                lines.append(f"added training chips: {sum(correct):,} of {part.chips:,} right, {sum(before):,} before")
        return lines


def compare_by_class(
    name: str,
    labels: NDArray[np.str_],
    before: NDArray[np.str_],
    after: NDArray[np.str_],
    classes: Sequence[str],
    old_classes: Sequence[str],
) -> PartReplay:
    """Compare two sets of predictions class by class.

    Args:
        name: name of the part.
        labels: class of each chip (N,).
        before: class that the old bundle predicts (N,).
        after: class that the new bundle predicts (N,).
        classes: classes of the new bundle.
        old_classes: classes of the old bundle.

    Returns:
        The classes that have chips, in the order of `classes`.
    """
    old_hits, new_hits = before == labels, after == labels
    present = [label for label in classes if (labels == label).any()]
    masks = {label: labels == label for label in present}
    tests = {label: exact_mcnemar(new_hits[mask], old_hits[mask]) for label, mask in masks.items()}
    adjusted = holm_adjust([test.p for test in tests.values()])
    rows = tuple(
        ClassReplay(
            name=label,
            chips=int(masks[label].sum()),
            before=float(old_hits[masks[label]].mean()) if label in old_classes else None,
            after=float(new_hits[masks[label]].mean()),
            gained=test.first,
            lost=test.second,
            p=p,
        )
        for (label, test), p in zip(tests.items(), adjusted, strict=True)
    )
    shared = [row for row in rows if row.before is not None]
    return PartReplay(
        name=name,
        classes=rows,
        macro_before=float(np.mean([cast(float, row.before) for row in shared])) if shared else None,
        macro_after=float(np.mean([row.after for row in shared])) if shared else None,
        p=exact_mcnemar(new_hits, old_hits).p,
    )


def read_replay(path: Path) -> Replay | None:
    """Read replay.json.

    Returns:
        The check; None if the file does not exist.

    Raises:
        DataError: the file is damaged.
    """
    if not path.is_file():
        return None
    try:
        return TypeAdapter(Replay).validate_python(parse_json(path.read_text("utf-8")))
    except ValueError as error:
        hint = "delete it; the next evaluation of the run writes it again"
        raise DataError("the file is damaged", path, hint) from error
