"""Folds of the training chips, for cross-validation: `data.fold` of a recipe.

No chip store is copied.

Chips of one scene, vessel or file are in one fold. The folds only depend on the rows of
the training split.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rsft.data.chips.group_splits import find_first_connected, split_groups
from rsft.data.chips.store import ChipStore
from rsft.errors import RequestError
from rsft.types import Indices, Names

SHARED_KEYS: tuple[Names, ...] = (
    ("sha256", "group_key", "mmsi"),
    ("sha256", "group_key"),
    ("sha256", "mmsi"),
    ("sha256",),
)
"""Columns whose values must not be in two folds. The first ones with which no fold is
too small are used."""

_LEAST_SHARE = 0.5  # of an equal share, for the chips of a fold


@dataclass(frozen=True, eq=False)
class FoldStore(ChipStore):
    """A chip store in which a fold of the training chips is the split val.

    Its own val and test chips have no split.

    Attributes:
        fold: number of the fold and number of all folds, such as "1/3".
    """

    fold: str = ""

    @cached_property
    def table(self) -> pd.DataFrame:
        """The manifest with the splits of `split_fold`; read on first use."""
        table = pd.concat(super().read_parts())
        return table.assign(split=split_fold(table, self.fold, self.root))

    def read_parts(
        self, columns: Sequence[str] | None = None, split: str | None = None
    ) -> Iterator[pd.DataFrame]:
        """Yield the table, or some columns or the rows of a split, as one part."""
        if split is None:
            table = self.table
        else:
            table = self.table[self.table["split"] == split]
        yield table if columns is None else table[list(columns)]


@dataclass(frozen=True, eq=False)
class HeldOutStore(ChipStore):
    """A chip store in which every chip is a test chip, whatever its split."""

    def read_parts(
        self, columns: Sequence[str] | None = None, split: str | None = None
    ) -> Iterator[pd.DataFrame]:
        """Yield the table in parts, with the split test alone.

        Other splits have no rows.
        """
        for part in super().read_parts(columns):
            yield part.assign(split="test") if split in (None, "test") else part[:0]


def open_store(root: Path, fold: str | None) -> ChipStore:
    """Open the chip store at `root` with its splits, or with a fold.

    A fold is the recipe key `data.fold`.

    Raises:
        RequestError: the folder is not a chip store.
        DataError: the store is damaged.
    """
    store = ChipStore.open(root)
    if not fold:
        return store
    return FoldStore(
        **{field.name: getattr(store, field.name) for field in fields(store)}, fold=fold
    )


def split_fold(table: pd.DataFrame, fold: str, root: Path) -> list[str]:
    """Return the splits of a run on a fold.

    They are "train" outside of it, "val" in it, and "" for the other splits.

    Args:
        table: manifest of a store.
        fold: number of the fold and number of all folds, such as "1/3".
        root: folder of the store, for errors.

    Returns:
        The split of each row (N,).

    Raises:
        RequestError: the fold has no chip.
    """
    number, count = map(int, fold.split("/"))
    is_training = (table["split"] == "train").to_numpy()
    folds, _ = assign_folds(table[is_training], count)
    if number not in folds:
        raise RequestError(
            f"fold {fold} has no chip: the store has too few training chips with"
            " another one of the same class",
            root,
            "take fewer folds, or label more chips",
        )
    splits = np.full(len(table), "", dtype="<U5")
    splits[is_training] = np.where(folds == number, "val", "train")
    return list(splits)


def assign_folds(train: pd.DataFrame, count: int) -> tuple[Indices, Names]:
    """Assign the training chips of a store to folds.

    Each class comes near an equal share in every fold.

    Each fold leaves at least one chip of every class outside of it: a class in one fold
    only has a chip, with all chips of its scene, vessel and file, in no fold. So a
    class with a single chip is always trained on.

    Args:
        train: manifest rows of the training split.
        count: number of folds.

    Returns:
        The fold of each chip from 1; 0 for a chip in no fold. And the columns of
        `SHARED_KEYS` that folds do not share.
    """
    labels = train["class"].to_numpy(str)
    folds = np.zeros(len(train), np.int64)
    keys = SHARED_KEYS[-1]
    for keys in SHARED_KEYS:
        folds = _assign_units(labels, _connect(train, keys), count)
        sizes = np.bincount(folds, minlength=count + 1)[1:]
        if sizes.min() >= _LEAST_SHARE * len(train) / count:
            break
    return folds, keys


def _connect(train: pd.DataFrame, keys: Sequence[str]) -> Indices:
    """Return a number for each chip.

    Chips that share a value of a key, also through others, have the same one.
    """
    cells = []
    for key in keys:
        values = train[key].fillna("")
        cells += [(row, (key, value)) for row, value in enumerate(values) if value]
    return np.array(find_first_connected(len(train), cells), np.int64)


def _assign_units(labels: NDArray[np.str_], units: Indices, count: int) -> Indices:
    """Return the fold of each chip.

    Chips of one unit are in one fold, or in none (0).
    """
    if len(np.unique(units)) == len(units):
        folds = np.zeros(len(units), np.int64)
        rng = np.random.default_rng(0)
        start = 0
        for label in np.unique(labels):
            members = rng.permutation(np.flatnonzero(labels == label))
            folds[members] = (start + np.arange(len(members))) % count + 1
            start += len(members)
    else:
        shares = {str(number): 1 / count for number in range(1, count + 1)}
        assigned = split_groups(list(labels), units.tolist(), shares, seed=0)
        folds = np.array([int(assigned[unit]) for unit in units.tolist()], np.int64)
    sizes = np.bincount(units)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        if len(set(folds[members])) == 1 and folds[members[0]]:
            smallest = min(units[members], key=lambda unit: (sizes[unit], unit))
            folds[units == smallest] = 0
    return folds
