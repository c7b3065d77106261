"""Inputs of a store build: records, verdicts on labels, long-tailed subsets."""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rsft.data.annotations.columns import normalize_label
from rsft.data.imagery.scene_uri import file_state
from rsft.types import GROUPS, Bands, Indices, JsonObject, Pixels, Rejection
from rsft.utils.licenses import UNKNOWN
from rsft.version import __version__


@dataclass(frozen=True)
class ChipRecord:
    """One chip to be stored.

    Attributes:
        name: unique within its split and class.
        split: "train", "val" or "test".
        label: name of its class.
        source_path: the image file of the chip. If `read_pixels` is given, the label
            file that describes the chip.
        read_pixels: returns the pixels (H, W, B) of a chip that is cut from a larger
            image.
        line: line in the label file, from 1.
        bands: names of the bands of the source. None takes the names in a TIFF file, or
            gray (1 band), or R, G, B.
        extra_columns: further columns of the manifest, such as spacing_m and mmsi.
            Float pixels need the column "unit", unless the tags of their TIFF file name
            it.
        image_paths: other files that `read_pixels` reads, such as the image that a
            label file describes.
        selected_bands: names of the bands to store, in order. If neither the record nor
            the file names its bands, these are the names of all of its bands. None
            stores all bands.
    """

    name: str
    split: str
    label: str
    source_path: Path
    read_pixels: Callable[[], Pixels] | None = None
    line: int = 0
    bands: Bands | None = None
    extra_columns: JsonObject = field(default_factory=dict)
    image_paths: tuple[Path, ...] = ()
    selected_bands: Bands | None = None

    @property
    def path_stem(self) -> str:
        """Path of the chip in the store, without suffix."""
        return f"chips/{self.split}/{self.label}/{self.name}"

    def key(self) -> str:
        """Return a hash of the record and of the state of its files.

        `read_pixels` itself is not hashed: the source path and the line identify what
        it reads.
        """
        files = [
            (str(path), file_state(path))
            for path in (self.source_path, *self.image_paths)
        ]
        return _digest(
            [
                files,
                self.line,
                self.read_pixels is None,
                self.bands,
                self.selected_bands,
                dict(self.extra_columns),
            ]
        )


def describe_rejections(
    rejected: Iterable[Rejection],
    skipped: Mapping[str, int] | None = None,
    hint: str = "",
) -> str:
    """Return the three most frequent reasons for a hint, each with a file.

    Args:
        rejected: the rejected inputs.
        skipped: numbers of inputs that were left out, by reason.
        hint: what comes first.

    Returns:
        The text; "" for nothing.

    Example:
        >>> describe_rejections([("1.txt", 1, "5 fields"), ("2.txt", 0, "no text")])
        '1 rejected: 5 fields (1.txt:1); 1 rejected: no text (2.txt)'
    """
    counts = Counter[str]()
    examples = dict[str, str]()
    for file, line, reason in rejected:
        counts[reason] += 1
        examples.setdefault(reason, f"{file}:{line}" if line else file)
    texts = [hint] if hint else []
    texts += [f"{count:,} x {reason}" for reason, count in (skipped or {}).items()]
    for reason, count in counts.most_common(3):
        texts.append(f"{count:,} rejected: {reason} ({examples[reason]})")
    return "; ".join(texts)


@dataclass(frozen=True)
class StoreDescription:
    """Description of a store to be built, apart from its chips.

    Attributes:
        name: name of the data set.
        classes: class names in the order of the labels.
        command: command line that builds the same store again.
        groups: class names of head, medium and tail; None to group by training count.
        skipped: number of inputs that are left out on purpose, by reason. Read after
            the last record.
        rejected: inputs that cannot be used. Read after the last record.
        required_sources: values of the column `source` that must have a chip, each with
            a hint if it has none.
        license: license of the data: SPDX identifier, or a statement as in
            `rsft.utils.licenses`.
        columns: further columns of the manifest, with their Arrow types.
        notes: what was chosen, for the reader.
    """

    name: str
    classes: Sequence[str]
    command: str
    groups: Mapping[str, Sequence[str]] | None = None
    skipped: Mapping[str, int] = field(default_factory=dict)
    rejected: Sequence[Rejection] = ()
    required_sources: Mapping[str, str] = field(default_factory=dict)
    license: str = UNKNOWN
    columns: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()

    def fingerprint(self) -> str:
        """Return a hash of the description.

        A build resumes the work of a stopped build with the same hash.
        """
        values = [self.name, self.classes, self.command, self.groups, __version__]
        return _digest(values)[:16]


def _digest(values: list[Any]) -> str:
    return hashlib.sha256(
        json.dumps(values, sort_keys=True, default=str).encode()
    ).hexdigest()


NOT_A_TARGET = "not a target"
UNSURE = "unsure"
"""Verdicts that are not the name of a class."""

NO_CLASS = "row without a class"
"""Reason of a row that nobody looked at."""

_SPELLINGS = {NOT_A_TARGET: NOT_A_TARGET, UNSURE: UNSURE}


def parse_verdict(label: str, verdict: str = "") -> str:
    """Return the verdict of a row; case does not matter.

    `verdict` counts before `label` unless it is "class" or "".

    Returns:
        The name of a class, `NOT_A_TARGET` or `UNSURE`; "" if nobody looked at the row.
    """
    verdict = " ".join(verdict.split()).casefold()
    label = normalize_label(label)
    if verdict in _SPELLINGS:
        return verdict
    return _SPELLINGS.get(" ".join(label.split()).casefold(), label)


def describe_verdict_fault(verdict: str) -> str:
    """Return why a verdict cannot be used, or "" if it can."""
    if " ".join(verdict.split()).casefold() in ("", "class", *_SPELLINGS):
        return ""
    return f"unknown verdict {verdict}; it must be class, {NOT_A_TARGET} or {UNSURE}"


def resolve_label(verdict: str, not_a_target: str | None) -> tuple[str, str]:
    """Return the label of a verdict.

    `not_a_target` is the class of chips without a target; None leaves them out.

    Returns:
        The label and "", or "" and the reason why the row has no label.

    Example:
        >>> resolve_label("not a target", "clutter")
        ('clutter', '')
    """
    if not verdict:
        return "", NO_CLASS
    if verdict == UNSURE or (verdict == NOT_A_TARGET and not_a_target is None):
        return "", verdict
    return str(not_a_target) if verdict == NOT_A_TARGET else verdict, ""


HEAD_COUNT = 100
TAIL_COUNT = 20
"""A class with more training chips is in the head, one with fewer in the tail."""


def head_limit(counts: Mapping[str, int]) -> float:
    """Return the number of training chips above which a class is in the head.

    It is 100, or half of the largest class.

    Half of the largest class is the limit of a long tail in which no class has more
    than 100 chips. In a long tail, a class has at most half as many chips as the
    largest one. Classes without chips do not count.
    """
    largest = max(counts.values(), default=0)
    is_long_tail = any(0 < 2 * count <= largest for count in counts.values())
    if is_long_tail and largest <= HEAD_COUNT:
        return largest / 2
    return HEAD_COUNT


def group_by_count(
    counts: Mapping[str, int], limit: float | None = None
) -> dict[str, list[str]]:
    """Group classes by their number of training chips; a group may be empty.

    Args:
        counts: number of training chips by class.
        limit: a class with more chips is in the head; None takes `head_limit`. Of the
            others, those with fewer than `TAIL_COUNT` chips are in the tail.

    Returns:
        Class names by group, in the order of `counts`.

    Example:
        >>> group_by_count({"cargo": 500, "tug": 30, "dredger": 4})
        {'head': ['cargo'], 'medium': ['tug'], 'tail': ['dredger']}
        >>> group_by_count({"cargo": 60, "tug": 30, "dredger": 4})
        {'head': ['cargo'], 'medium': ['tug'], 'tail': ['dredger']}
    """
    limit = head_limit(counts) if limit is None else limit
    groups: dict[str, list[str]] = {group: [] for group in GROUPS}
    for name, count in counts.items():
        groups[
            "head" if count > limit else "tail" if count < TAIL_COUNT else "medium"
        ].append(name)
    return groups


def group_by_class(groups: Mapping[str, Iterable[str]]) -> dict[str, str]:
    """Return the group of each class."""
    group_of: dict[str, str] = {}
    for group, names in groups.items():
        group_of |= dict.fromkeys(names, group)
    return group_of


def describe_groups(
    groups: Mapping[str, Sequence[str]], counts: Mapping[str, int]
) -> str:
    """Return the rule of the groups of classes in one sentence.

    The classes have `counts` training chips.
    """
    members = [{*groups.get(group, ())} for group in GROUPS]
    for limit in (HEAD_COUNT, head_limit(counts)):
        if members == [{*names} for names in group_by_count(counts, limit).values()]:
            return (
                f"head: classes with more than {limit:g} training chips; tail: other"
                f" classes with fewer than {TAIL_COUNT}"
            )
    return "head, medium and tail are those of the data set"


def long_tail_counts(available: Mapping[str, int], ratio: float) -> dict[str, int]:
    """Return the exponential profile n_c = n_max * ratio^(-c / (C - 1)).

    It is rounded down (Cao et al. 2019, LDAM).

    Classes are ranked by descending `available`; ties keep their order. A class gets at
    least one chip and at most as many as are available.

    Returns:
        Number of chips by class.
    """
    ranked = sorted(available, key=lambda name: -available[name])
    largest = max(available.values())
    last = max(1, len(ranked) - 1)
    profile = {
        name: int(largest * ratio ** (-rank / last)) for rank, name in enumerate(ranked)
    }
    return {
        name: max(1, min(profile[name], count)) for name, count in available.items()
    }


def sample_per_class(
    labels: Sequence[Hashable], counts: Mapping[str, int], seed: int
) -> Indices:
    """Draw `counts[label]` samples of each label without replacement.

    Args:
        labels: label of every sample (N,).
        counts: number of samples by label.
        seed: seed of the draw.

    Returns:
        Ascending indices into `labels`.
    """
    rng = np.random.default_rng(seed)
    members = _indices_by_label(labels)
    drawn = [
        rng.permutation(members[label])[: counts[label]]
        for label in counts
        if label in members
    ]
    return np.sort(np.concatenate(drawn))


def stratified_split(
    labels: Sequence[Hashable], share: float, seed: int
) -> tuple[Indices, Indices]:
    """Split samples in two, class by class.

    A class of two or more samples has at least one on each side. A class of one sample
    stays in the first part.

    Args:
        labels: label of every sample (N,).
        share: share of each class in the second part, 0-1.
        seed: seed of the split.

    Returns:
        Ascending indices of the first part and of the second part.
    """
    rng = np.random.default_rng(seed)
    in_second = np.zeros(len(labels), bool)
    for members in _indices_by_label(labels).values():
        in_second[
            rng.permutation(members)[
                : min(max(round(share * len(members)), 1), len(members) - 1)
            ]
        ] = True
    return np.flatnonzero(~in_second), np.flatnonzero(in_second)


def _indices_by_label(labels: Sequence[Hashable]) -> dict[Hashable, Indices]:
    """Return the indices of each label, in the order of their first appearance."""
    members = defaultdict(list)
    for index, label in enumerate(labels):
        members[label].append(index)
    return {label: np.array(indices) for label, indices in members.items()}
