"""Training chips that were added to a finished store, and when they are learned."""

from collections.abc import Callable
from functools import partial
from typing import ClassVar, Self

import numpy as np
import pandas as pd
import torch

from rsft.data.loading.batches import ChipImages
from rsft.models.averaging import with_tta
from rsft.models.devices import copy_to_device
from rsft.training.parts.base import Part, PartContext, copy_weights
from rsft.training.setup import initialize_weights
from rsft.types import Indices, JsonObject

# column of the manifest; missing or empty for chips of the original store
_ADDED_COLUMN = "added_on"


def find_added_chips(table: pd.DataFrame) -> Indices:
    """Return the rows of chips that were added to a finished store or relabeled.

    Returns:
        Indices of rows (M,).
    """
    if _ADDED_COLUMN not in table:
        return np.array([], np.int64)
    return np.flatnonzero(table[_ADDED_COLUMN].fillna("").astype(str).ne("").to_numpy())


def count_repeats(repeat_added: int | str, added: int, chips: int) -> int:
    """Return how often an epoch draws each added chip.

    Args:
        repeat_added: `train.repeat_added`.
        added: number of the added chips.
        chips: number of all training chips.
    """
    if isinstance(repeat_added, int):
        return repeat_added
    if added:
        return max(1, round((chips - added) / (3 * added)))
    return 1


def repeat_added_chips(
    members: Callable[[int], Indices], added: Indices, repeats: int
) -> Callable[[int], Indices]:
    """Return what lists the chips of an epoch, with added chips several times.

    Args:
        members: returns the chips that an epoch may use, by epoch.
        added: the added chips (M,).
        repeats: how often an epoch draws each of them.

    Returns:
        The function; `members` itself if nothing is repeated.
    """

    def with_repeats(epoch: int) -> Indices:
        chips = members(epoch)
        return np.concatenate([chips, *[added[np.isin(added, chips)]] * (repeats - 1)])

    if repeats == 1 or not len(added):
        return members
    return with_repeats


_SHARES = [tenths / 10 for tenths in range(1, 10)]  # of the way to the learned weights


class AddedChips(Part):
    """The added chips of a run, classified with its test-time views."""

    name: ClassVar = "added"
    title: ClassVar = "added chips"

    def __init__(self, context: PartContext) -> None:
        setup = context.setup
        evaluate = setup.recipe.evaluate
        self.classifier = setup.classifier
        self.load_start = partial(initialize_weights, setup)
        self.autocast = context.autocast
        self.batch_size = evaluate.batch_size
        self.model, contract = with_tta(setup.classifier, setup.contract, evaluate)
        table = setup.train.table.iloc[context.added].reset_index(drop=True)
        self.chips = ChipImages(setup.store.root, table, setup.store.classes, contract)

    @classmethod
    def make(cls, context: PartContext) -> Self | None:
        """Return the chips that `train.until_added_right` asks for."""
        train = context.setup.recipe.train
        is_asked = train.until_added_right and train.start_bundle is not None
        return cls(context) if is_asked and len(context.added) else None

    def is_done(self) -> bool:
        """Return whether all added chips are right.

        It depends on the weights only, so a resumed run stops at the same epoch.
        """
        return self.are_right()

    def finish(self) -> JsonObject:
        """Shorten the way from the start to the learned weights."""
        return {"step_share": self.shorten_step()}

    @torch.inference_mode()
    def are_right(self) -> bool:
        """Return whether the classifier gives every added chip its class."""
        self.classifier.eval()
        device = self.classifier.theta[0].device
        for inputs, labels in self.chips.batches(self.batch_size):
            with self.autocast():
                logits = self.model.predict(copy_to_device(inputs, device)).logits
            if (logits.argmax(1).cpu() != labels).any():
                return False
        return True

    def shorten_step(self) -> float:
        """Go the shortest way from the start with which all added chips are right.

        Tried are tenths of the way from the start to the learned weights (Ilharco et
        al. 2022, https://arxiv.org/abs/2208.05592): fewer of the other chips change
        there than after fewer steps of training.

        Returns:
            The share of the way; 1 leaves the weights as they are, also if they do not
            suffice.
        """
        end = copy_weights(self.classifier)
        if self.are_right():
            self.load_start()
            start = copy_weights(self.classifier)
            for share in _SHARES:
                state = {
                    name: torch.where(x.isinf(), x, start[name].lerp(x, share))
                    for name, x in end.items()
                }
                self.classifier.load_learned_state(state)
                if self.are_right():
                    return share
        self.classifier.load_learned_state(end)
        return 1.0
