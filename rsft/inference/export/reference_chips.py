"""Select the chips on which an export is checked, calibrated and measured."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rsft.data.chips.store import ChipStore
from rsft.data.imagery.contract import Contract
from rsft.data.loading.batches import ChipImages
from rsft.errors import RequestError
from rsft.models.bundle.bundle import Bundle
from rsft.types import Progress

PARITY_CHIPS = 32
"""Number of chips whose outputs are compared one by one."""

_NOISE_IMAGES = 8


@dataclass(frozen=True)
class LabeledChips:
    """The chip store that a bundle was trained with."""

    store: ChipStore

    def load_split(self, split: str, contract: Contract, progress: Progress | None = None) -> ChipImages:
        """Read the chips of a split. If it is empty, read the other one of train and val.

        Args:
            split: train or val.
            contract: how chips become network inputs.
            progress: called while chips are read.

        Returns:
            The chips with their labels.

        Raises:
            RequestError: the store has neither training nor validation chips.
        """
        splits = [name for name in (split, "val", "train") if not self.store.split(name).empty]
        if not splits:
            raise RequestError(
                "no training or validation chips", self.store.root, "give another chip store with --data"
            )
        return ChipImages(self.store.root, self.store.split(splits[0]), self.store.classes, contract, progress)


def find_labeled_chips(bundle: Bundle, data: Path | None) -> LabeledChips | None:
    """Find the chips that a bundle was trained with.

    Args:
        bundle: the bundle.
        data: the chip store (default: the recipe's).

    Returns:
        The chips; None if the chip store of the recipe does not exist or has other classes.

    Raises:
        RequestError: `data` is not a chip store, or has other classes.
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
        raise RequestError(
            "the data has other classes than the bundle", root, "give the chip store of its training with --data"
        )
    return LabeledChips(store)


def sample_evenly(chips: ChipImages, count: int) -> Tensor:
    """Return network inputs of up to `count` chips, evenly spaced in the table.

    Args:
        chips: chips in the order of the table.
        count: largest number of chips.

    Returns:
        Network inputs (n, P, S, S).
    """
    indices = np.linspace(0, len(chips) - 1, min(count, len(chips))).astype(int)
    return chips.batch(indices)[0]


def noise_images(contract: Contract) -> Tensor:
    """Return network inputs made of random bytes.

    Args:
        contract: size and planes of the images.

    Returns:
        Network inputs (n, P, S, S), the same in every call.
    """
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (_NOISE_IMAGES, contract.size, contract.size, len(contract.planes)), np.uint8)
    return torch.from_numpy(contract.normalize(list(images)))
