"""Outputs of a classifier for the chips of many batches."""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from rsft.data.loading.byte_images import Inputs
from rsft.models.classifier import SupportsPredict
from rsft.models.devices import copy_to_device
from rsft.models.outputs import ClassifierOutputs
from rsft.types import Progress


class CountedBatches(Protocol):
    """Batches of inputs and labels (B,), and the number of all chips."""

    count: int

    def __iter__(self) -> Iterator[tuple[Inputs, Tensor]]:
        """Yield the batches."""


def collect_outputs(
    classifier: SupportsPredict,
    batches: CountedBatches,
    progress: Progress | None = None,
    task: str = "classifying",
) -> ClassifierOutputs:
    """Run batches through a classifier in evaluation mode and collect its outputs.

    Args:
        classifier: a classifier in any engine.
        batches: inputs and labels, which are ignored.
        progress: called after each batch.
        task: name of the task for `progress`.

    Returns:
        Logits and features of all chips.
    """
    device = torch.device("cpu")
    if isinstance(classifier, nn.Module):  # only PyTorch has parameters
        device = next((x.device for x in classifier.parameters()), device)

    def predict(inputs: Inputs) -> list[Tensor]:
        with torch.inference_mode():
            return [
                output.float().cpu()
                for output in classifier.predict(copy_to_device(inputs, device))
            ]

    logits, features = join_rows(predict, batches, progress, task)
    return ClassifierOutputs(logits.numpy(), features.numpy())


def join_rows(
    compute: Callable[[Inputs], Sequence[Tensor]],
    batches: CountedBatches,
    progress: Progress | None,
    task: str,
) -> list[Tensor]:
    """Join the tensors of batches.

    Lists and their concatenation would need twice the memory.

    Args:
        compute: returns tensors (B, ...) of the inputs of B chips.
        batches: batches of N chips.
        progress: called before the first batch and after each one.
        task: name of the task for `progress`.

    Returns:
        Tensors (N, ...), one for each that `compute` returns.
    """
    rows = list[Tensor]()
    done = 0
    for tensors in compute_batches(compute, batches, progress, task):
        rows = rows or [x.new_empty(batches.count, *x.shape[1:]) for x in tensors]
        for joined, tensor in zip(rows, tensors, strict=True):
            joined[done : done + len(tensor)] = tensor
        done += len(tensors[0])
    return rows


def compute_batches(
    compute: Callable[[Inputs], Sequence[Tensor]],
    batches: CountedBatches,
    progress: Progress | None,
    task: str,
) -> Iterator[Sequence[Tensor]]:
    """Yield the tensors (B, ...) of each batch; see `join_rows` for the arguments."""
    done = 0
    if progress:
        progress(done, batches.count, task)
    for inputs, _ in batches:
        tensors = compute(inputs)
        yield tensors
        done += len(tensors[0])
        if progress:
            progress(done, batches.count, task)
