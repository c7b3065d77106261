"""Replay check: what a run that started at a bundle gained and lost against it, class by class."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rsft.data.chips.store import ChipStore
from rsft.data.loading.batches import ChipImages
from rsft.errors import DataError
from rsft.metrics.paired import exact_mcnemar, holm_adjust
from rsft.models.averaging import with_tta
from rsft.models.bundle.bundle import Bundle
from rsft.models.factory import choose_device, load_classifier
from rsft.models.stored_outputs import load_or_collect_outputs
from rsft.training.start.added_chips import find_added_chips
from rsft.training.start.start_bundle import START_DIR
from rsft.types import Progress
from rsft.utils.atomic_files import write_text
from rsft.utils.untrusted.documents import parse_json

REPLAY_FILE = "replay.json"
"""File of a run folder with the replay check."""

ALPHA = 0.05
"""Level of the tests: a class lost more than chance explains if its adjusted p-value is below."""

VALIDATION, ADDED = "validation chips", "added chips"
"""Names of the parts of a replay check: chips of the split val, and training chips added by `rsft data add`."""


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
        return asdict(self) | {"sentences": self.sentences()}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Replay:
        """Read the JSON object of replay.json.

        Args:
            content: from `to_dict`.
        """
        parts = tuple(
            PartReplay(**{**part, "classes": tuple(ClassReplay(**item) for item in part["classes"])})
            for part in content["parts"]
        )
        return cls(content["start_sha256"], content["bundle_sha256"], parts)

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


def replay(run: Path, device: str = "auto", progress: Progress | None = None) -> Replay:
    """Compare the bundle of a run with the one at which it started, on the same chips, and write replay.json.

    A replay.json of the same two bundles is read instead.

    Args:
        run: folder of a finished run with `train.start_bundle`.
        device: "auto", "cpu" or "cuda".
        progress: called while chips are read and classified.

    Returns:
        The comparison.

    Raises:
        RequestError: a bundle or the chip store is missing.
        DataError: a chip cannot be read, or replay.json is damaged.
        WeightsError: a bundle is damaged.
    """
    old, new = Bundle.load(run / START_DIR), Bundle.load(run / "bundle")
    if (stored := _read(run / REPLAY_FILE)) and (stored.start_sha256, stored.bundle_sha256) == (old.sha256, new.sha256):
        return stored
    store = ChipStore.open(Path(new.recipe.data.root))
    tables = {VALIDATION: store.split("val")}
    train = store.split("train")
    if len(added := find_added_chips(train)):
        tables[ADDED] = train.iloc[added].reset_index(drop=True)
    parts = []
    for name, table in tables.items():
        before, after = (_predict(bundle, store, table, device, progress) for bundle in (old, new))
        parts.append(compare_by_class(name, table["class"].to_numpy(str), before, after, new.classes, old.classes))
    result = Replay(old.sha256, new.sha256, tuple(parts))
    write_text(run / REPLAY_FILE, json.dumps(result.to_dict(), indent=1))
    return result


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


def _predict(
    bundle: Bundle, store: ChipStore, table: pd.DataFrame, device: str, progress: Progress | None
) -> NDArray[np.str_]:
    """Return the class that a bundle predicts for each chip of a table, with the test-time views of its recipe."""
    recipe = bundle.recipe
    model, contract = with_tta(load_classifier(bundle, device), bundle.contract, recipe.evaluate)
    contract = contract.model_copy(update={"bands": store.bands})
    chips = ChipImages(store.root, table, tuple(dict.fromkeys([*bundle.classes, *table["class"]])), contract, progress)
    report = partial(_report, progress, len(chips)) if progress else None
    batches, target = chips.batches(recipe.evaluate.batch_size), choose_device(device).type
    logits = load_or_collect_outputs(bundle, model, batches, chips.cache_file, contract, target, report).logits
    predicted: NDArray[np.str_] = np.array(bundle.classes)[logits.argmax(axis=1)]
    return predicted


def _report(progress: Progress, total: int, done: int) -> None:
    progress(done, total, "replay check")


def _read(path: Path) -> Replay | None:
    if not path.is_file():
        return None
    try:
        return Replay.from_dict(parse_json(path.read_text("utf-8")))
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            "the file is damaged", path, "delete it; the next evaluation of the run writes it again"
        ) from error
