"""The replay check of a run: what its bundle gained and lost, class by class.

This module imports no torch.
"""

from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter

from rsft.errors import DataError
from rsft.types import JsonObject
from rsft.utils.untrusted.documents import load_json

REPLAY_FILE = "replay.json"
"""File of a run folder with the replay check."""

ALPHA = 0.05
"""Level of the tests: a class lost more than chance explains if its adjusted p-value is
below."""

FALL = 0.1
"""A class whose recall falls by this much gets a warning, also if it has too few chips
to tell it from chance."""

VALIDATION = "validation chips"
ADDED = "added chips"
"""Names of the parts of a replay check: chips of the split val, and training chips
added by `rsft data add`."""

TERMS = {
    "Replay check": (
        "the old and the new bundle classify the same labeled chips, to show what the"
        " new one gained and what it lost."
    ),
    "Recall": "the share of the chips of a class that a bundle classifies correctly.",
    "p": (
        "the probability that chance alone makes gained and lost chips differ as much"
        f" or more; below {ALPHA}, chance hardly explains the difference."
    ),
}
"""What the words of a replay check mean, for pages that show it."""


@dataclass(frozen=True)
class ClassReplay:
    """What happened to the chips of one class.

    Attributes:
        before: recall of the old bundle, 0-1; None if the old bundle lacks the class.
        after: recall of the new bundle, 0-1.
        gained: number of chips that only the new bundle gets right.
        lost: number of chips that only the old bundle gets right.
        p: p-value of McNemar's exact test on gained and lost chips, adjusted by Holm
            over the classes of the part.
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
        """Whether the class lost more chips than it gained and than chance explains."""
        return self.lost > self.gained and self.p < ALPHA

    @property
    def fell(self) -> bool:
        """Whether the recall fell by `FALL` or more."""
        return self.before is not None and self.before - self.after >= FALL - 1e-9

    @property
    def largest_fall(self) -> float:
        """The largest fall of the recall that these chips do not exclude (95 %), 0-1.

        It is the upper limit of the share of lost chips less the lower limit of that of
        gained chips (Clopper and Pearson, each with 97.5 %), which is on the safe side.
        """
        from scipy.stats import binomtest

        lost = binomtest(self.lost, self.chips)
        gained = binomtest(self.gained, self.chips)
        return float(lost.proportion_ci().high - gained.proportion_ci().low)


@dataclass(frozen=True)
class PartReplay:
    """The classes of one part of the check.

    Attributes:
        name: `VALIDATION` or `ADDED`.
        classes: the classes with chips in this part, in the order of the new bundle.
        macro_before: mean recall of the old bundle over the classes that it has; None
            without such a class.
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


def _describe_loss(item: ClassReplay, part: PartReplay) -> str:
    """Return a sentence about a class that lost chips or fell by `FALL`; else ""."""
    counts = (
        f"lost {item.lost:,} and gained {item.gained:,} of {item.chips:,} {part.name}"
    )
    if item.lost_more_than_chance:
        test = "McNemar's exact test, Holm's correction over the classes"
        return (
            f"{item.name} {counts}: more than chance explains ({test}, p ="
            f" {item.p:.2g})"
        )
    if item.fell and part.name == VALIDATION:
        assert item.before is not None
        recall = (
            f"{item.name} fell from {100 * item.before:.0f} to {100 * item.after:.0f} %"
        )
        return (
            f"{recall} ({counts}): too few chips to tell it from chance, so look before"
            " you use the new bundle"
        )
    return ""


def _describe_added(part: PartReplay) -> str:
    correct = sum(round(item.after * item.chips) for item in part.classes)
    before = sum(round((item.before or 0) * item.chips) for item in part.classes)
    return (
        f"added training chips: {correct:,} of {part.chips:,} right, {before:,} before"
    )


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

    def to_dict(self) -> JsonObject:
        """Return the JSON object of replay.json."""
        return asdict(self) | {"sentences": self.sentences(), "terms": TERMS}

    def sentences(self) -> list[str]:
        """Say which classes lost chips, and what became of the added chips."""
        losses = []
        compared = []
        added = []
        for part in self.parts:
            losses += [_describe_loss(item, part) for item in part.classes]
            if part.name == VALIDATION:
                compared += [x for x in part.classes if x.before is not None]
            if part.name == ADDED:
                added.append(_describe_added(part))
        lines = [sentence for sentence in losses if sentence]
        if not lines and compared:
            item = max(compared, key=lambda item: item.largest_fall)
            lines = [
                f"no class fell by {100 * FALL:.0f} points or more; with"
                f" {item.chips:,} chips of {item.name}, a fall of"
                f" {100 * item.largest_fall:.0f} points is not excluded"
            ]
        return lines + added


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
        return TypeAdapter(Replay).validate_python(load_json(path))
    except ValueError as error:
        raise DataError(
            "the file is damaged",
            path,
            "delete it; the next evaluation of the run writes it again",
        ) from error
