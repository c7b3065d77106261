"""Compare an engine with PyTorch in float32: single outputs, or for int8 the accuracy of each group of classes.

Select the chips on which an export is checked, calibrated and measured.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rsft.data.chips.store import ChipStore
from rsft.data.imagery.contract import Contract
from rsft.data.loading.batches import ChipImages
from rsft.errors import RequestError, RsftError, WeightsError
from rsft.inference.engines.base import Tolerance
from rsft.metrics.accuracy import summarize_accuracy
from rsft.models.bundle.bundle import Bundle
from rsft.models.outputs import ClassifierOutputs
from rsft.types import GROUPS, Progress


class OutputDifference(NamedTuple):
    """Difference of an engine's outputs from those of PyTorch in float32.

    Attributes:
        largest: largest difference of a logit.
        allowed: limit of `largest`.
        features: largest difference of a feature, divided by the largest feature if that is above 1.
        share: limit of `features`.
    """

    largest: float
    allowed: float
    features: float
    share: float

    @property
    def fits(self) -> bool:
        """Whether both differences are within their limits."""
        return self.largest <= self.allowed and self.features <= self.share  # False for NaN


@torch.inference_mode()
def compute_outputs(predict: Callable[[Tensor], tuple[Tensor, Tensor]], images: Tensor) -> ClassifierOutputs:
    """Compute logits (N, C) and features (N, D) as arrays.

    Args:
        predict: function that returns logits and features of images.
        images: network inputs (N, P, S, S).

    Returns:
        Arrays in float32.
    """
    return ClassifierOutputs(*(tensor.float().numpy() for tensor in predict(images)))


def compare_outputs(outputs: ClassifierOutputs, reference: ClassifierOutputs, tolerance: Tolerance) -> OutputDifference:
    """Measure how much outputs differ from those of PyTorch in float32 for the same images.

    Args:
        outputs: outputs of an engine or an export.
        reference: outputs of PyTorch in float32.
        tolerance: tolerance of the precision; it must have a limit.

    Returns:
        The largest differences and their limits.

    Raises:
        ValueError: the tolerance has no limit.
    """
    if tolerance.limit is None:
        raise ValueError("the outputs of this precision are not compared one by one")
    logits, features = (float(np.abs(a - b).max()) for a, b in zip(outputs, reference, strict=True))
    logit_range, feature_range = (max(1.0, float(np.abs(values).max())) for values in reference)
    allowed = tolerance.limit * (logit_range if tolerance.relative else 1.0)
    return OutputDifference(logits, allowed, features / feature_range, tolerance.limit)


class AccuracyChange(NamedTuple):
    """Accuracy of a group of classes by PyTorch in float32 and by an int8 export.

    Attributes:
        before: accuracy of PyTorch, 0-1.
        after: accuracy of the export, 0-1.
        chips: number of chips in the group.
        differ: number of chips whose predicted class changed.
    """

    before: float
    after: float
    chips: int
    differ: int

    @property
    def lost(self) -> float:
        """Lost accuracy in percentage points; negative if the export is more accurate."""
        return round(100 * (self.before - self.after), 9)  # so that one chip of 200 is exactly 0.5


def accuracy_changes(
    reference: ClassifierOutputs, outputs: ClassifierOutputs, labels: NDArray[np.int64], groups: dict[str, list[int]]
) -> dict[str, AccuracyChange]:
    """Compare the accuracy of all chips, and the mean class recall of head, medium and tail.

    Args:
        reference: outputs of PyTorch in float32 for N chips.
        outputs: outputs of the export for the same chips.
        labels: class numbers (N).
        groups: class numbers of head, medium and tail.

    Returns:
        Changes of "overall", and of each group that has chips.
    """
    classes = reference.logits.shape[1]
    predicted = [model.logits.argmax(1) for model in (reference, outputs)]
    before, after = (summarize_accuracy(predictions, labels, classes, groups, resamples=1) for predictions in predicted)
    masks = {"overall": np.ones(len(labels), bool), **{name: np.isin(labels, groups.get(name, ())) for name in GROUPS}}
    differs = predicted[0] != predicted[1]
    changes = {}
    for name, mask in masks.items():
        old, new = (getattr(summary, "micro" if name == "overall" else name) for summary in (before, after))
        if old is not None and new is not None:
            changes[name] = AccuracyChange(old.value, new.value, int(mask.sum()), int(differs[mask].sum()))
    return changes


def assert_parity(difference: OutputDifference, where: object) -> None:
    """Raise an error if outputs differ too much.

    Args:
        difference: result of `compare_outputs`.
        where: text for the message that names the compared export.

    Raises:
        WeightsError: a difference is above its limit.
    """
    if not difference.fits:
        message = (
            f"the export differs from PyTorch by {difference.largest:.2g} in a logit "
            f"({difference.allowed:.2g} is allowed) and by {difference.features:.2g} of the largest feature "
            f"({difference.share:.2g})"
        )
        raise WeightsError(message, where, "export another precision or format; nothing was written")


class AccuracyLossError(RsftError):
    """An int8 export loses more accuracy than allowed.

    Attributes:
        table: accuracy before and after, by group.
    """

    def __init__(self, message: str, where: object, hint: str, table: dict[str, AccuracyChange]) -> None:
        super().__init__(message, where, hint)
        self.table = table


def describe_losses(table: dict[str, AccuracyChange], limit: float) -> str:
    """Return a text with the groups that lose more than `limit` percentage points; "" if no group does.

    Args:
        table: accuracy before and after, by group.
        limit: percentage points.
    """
    return ", ".join(f"{change.lost:.2f} points {name}" for name, change in table.items() if change.lost > limit)


def assert_accuracy(table: dict[str, AccuracyChange], limit: float, where: object) -> None:
    """Raise an error if int8 loses too much accuracy.

    Args:
        table: accuracy before and after, by group.
        limit: percentage points that each group may lose.
        where: text for the message that names the export.

    Raises:
        AccuracyLossError: a group loses more than `limit` points.
    """
    if losses := describe_losses(table, limit):
        message = f"int8 loses {losses}; {limit:g} are allowed"
        raise AccuracyLossError(
            message, where, "export bf16 or fp32, or allow it: --max-loss; nothing was written", table
        )


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
