"""What a classifier says of many chips."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rsft.models.averaging import Answering


class Outputs(NamedTuple):
    """Logits (N, C) and the pooled features (N, D) that they were made of, float32."""

    logits: NDArray[np.float32]
    features: NDArray[np.float32]


@torch.inference_mode()
def outputs_of(
    classifier: Answering,
    batches: Iterable[tuple[Tensor, Tensor]],
    done: Callable[[int], object] | None = None,
) -> Outputs:
    """Run batches of (inputs, labels) through a classifier in evaluation mode.

    Args:
        done: is told the number of chips so far after each batch.
    """
    own = next(classifier.parameters(), None) if isinstance(classifier, nn.Module) else None
    device = torch.device("cpu") if own is None else own.device  # another runtime has no parameters here
    parts: list[tuple[Tensor, Tensor]] = []
    count = 0
    for inputs, _ in batches:
        logits, features = classifier.answer(inputs.to(device))
        parts.append((logits.float().cpu(), features.float().cpu()))
        count += len(inputs)
        if done is not None:
            done(count)
    return Outputs(*(torch.cat(each).numpy() for each in zip(*parts, strict=True)))
