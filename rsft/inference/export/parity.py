"""Compare an engine with PyTorch in float32: single outputs, or for int8 the accuracy of each group of classes."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rsft.data.chips.store import ChipStore
from rsft.data.imagery.contract import Contract
from rsft.data.loading.batches import ChipImages
from rsft.errors import RequestError, RsftError
from rsft.inference.engines.base import Tolerance
from rsft.metrics import summarize_accuracy
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
    """Return logits (N, C) and features (N, D) of images (N, P, S, S) as arrays in float32."""
    return ClassifierOutputs(*(tensor.float().numpy() for tensor in predict(images)))


def compare_outputs(outputs: ClassifierOutputs, reference: ClassifierOutputs, tolerance: Tolerance) -> OutputDifference:
    """Measure how much outputs differ from those of PyTorch in float32 for the same images.

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


class AccuracyLossError(RsftError):
    """An int8 export loses more accuracy than allowed.

    Attributes:
        table: accuracy before and after, by group.
    """

    def __init__(self, message: str, where: object, hint: str, table: dict[str, AccuracyChange]) -> None:
        super().__init__(message, where, hint)
        self.table = table


def describe_losses(table: dict[str, AccuracyChange], limit: float) -> str:
    """Return a text with the groups that lose more than `limit` percentage points; "" if no group does."""
    return ", ".join(f"{change.lost:.2f} points {name}" for name, change in table.items() if change.lost > limit)


PARITY_CHIPS = 32
"""Number of chips whose outputs are compared one by one."""


def find_training_store(bundle: Bundle, data: Path | None) -> ChipStore | None:
    """Return the chip store that a bundle was trained with.

    Args:
        bundle: the bundle.
        data: the chip store (default: the recipe's).

    Returns:
        The store; None if the chip store of the recipe does not exist or has other classes.

    Raises:
        RequestError: `data` is not a chip store, or has other classes.
    """
    try:
        store = ChipStore.open(data or Path(bundle.recipe.data.root))
    except RequestError:
        if data is not None:
            raise
        return None
    if store.classes == bundle.classes:
        return store
    if data is None:
        return None
    hint = "give the chip store of its training with --data"
    raise RequestError("the data has other classes than the bundle", data, hint)


def load_split(store: ChipStore, split: str, contract: Contract, progress: Progress | None = None) -> ChipImages:
    """Read the chips of a split. If it is empty, read the other one of train and val.

    Args:
        store: the chip store.
        split: train or val.
        contract: how chips become network inputs.
        progress: called while chips are read.

    Raises:
        RequestError: the store has neither training nor validation chips.
    """
    splits = [name for name in (split, "val", "train") if not store.split(name).empty]
    if not splits:
        hint = "give another chip store with --data"
        raise RequestError("no training or validation chips", store.root, hint)
    return ChipImages(store.root, store.split(splits[0]), store.classes, contract, progress)


def sample_evenly(chips: ChipImages, count: int) -> Tensor:
    """Return network inputs (n, P, S, S) of up to `count` chips, evenly spaced in the table."""
    indices = np.linspace(0, len(chips) - 1, min(count, len(chips))).astype(int)
    return chips.batch(indices)[0]
