"""Outputs of a classifier for many chips, as arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

    from rsft.models.averaging import SupportsPredict


class ClassifierOutputs(NamedTuple):
    """Logits (N, C) and the pooled features (N, D) from which they were computed, float32."""

    logits: NDArray[np.float32]
    features: NDArray[np.float32]


def collect_outputs(
    classifier: SupportsPredict,
    batches: Iterable[tuple[Tensor, Tensor]],
    on_progress: Callable[[int], object] | None = None,
) -> ClassifierOutputs:
    """Run batches through a classifier in evaluation mode and collect its outputs.

    Args:
        classifier: a classifier in any engine.
        batches: inputs (B, P, S, S) and labels, which are ignored.
        on_progress: called after each batch with the number of chips so far.

    Returns:
        Logits and features of all chips.
    """
    import torch
    from torch import nn

    from rsft.models.device import copy_to_device

    parameter = next(classifier.parameters(), None) if isinstance(classifier, nn.Module) else None
    device = torch.device("cpu") if parameter is None else parameter.device  # only PyTorch has parameters
    outputs: list[tuple[Tensor, Tensor]] = []
    count = 0
    for inputs, _ in batches:
        with torch.inference_mode():
            logits, features = classifier.predict(copy_to_device(inputs, device))
        outputs.append((logits.float().cpu(), features.float().cpu()))
        count += len(inputs)
        if on_progress is not None:
            on_progress(count)
    return ClassifierOutputs(*(torch.cat(tensors).numpy() for tensors in zip(*outputs, strict=True)))
