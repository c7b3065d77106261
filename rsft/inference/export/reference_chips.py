"""The chips that an export is checked on, calibrated on and measured on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rsft.data.chips.store import ChipStore
from rsft.data.imagery.contract import Contract
from rsft.data.loading.datamodule import ChipImages
from rsft.errors import RequestError
from rsft.models.bundle.bundle import Bundle
from rsft.types import Progress

CHECKED = 32
"""Chips whose answers are compared one by one."""

_NOISE = 8


@dataclass(frozen=True)
class Labelled:
    """The chips that a bundle was trained with."""

    store: ChipStore

    def chips(self, split: str, contract: Contract, progress: Progress | None = None) -> ChipImages:
        """A split as `contract` takes it; val stands for train where there is none, and the other way round."""
        splits = [name for name in (split, "val", "train") if not self.store.split(name).empty]
        if not splits:
            raise RequestError("no training or validation chips", self.store.root, "name other data: --data")
        return ChipImages(self.store.root, self.store.split(splits[0]), self.store.classes, contract, progress)


def find_labelled(bundle: Bundle, data: Path | None) -> Labelled | None:
    """The chips at `data`, or where the recipe says, if they are here and have the bundle's classes.

    Raises:
        RequestError: `data` is given and is not that.
    """
    root = data or Path(bundle.recipe.data.root)
    try:
        store = ChipStore.open(root)
    except RequestError:
        if data is not None:
            raise
        return None
    if store.classes != bundle.classes:
        if data is None:
            return None
        raise RequestError("the data has other classes than the bundle", root, "name the data of its training: --data")
    return Labelled(store)


def some(chips: ChipImages, count: int) -> Tensor:
    """As many chips, evenly over the table: (n, P, S, S)."""
    chosen = np.linspace(0, len(chips) - 1, min(count, len(chips))).astype(int)
    return chips.batch(chosen)[0]


def noise(contract: Contract) -> Tensor:
    """Images of random bytes, normalised: (n, P, S, S)."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (_NOISE, contract.size, contract.size, len(contract.planes)), np.uint8)
    return torch.from_numpy(contract.normalise(list(images)))
