"""What turns network inputs into logits: one callable, so that PyTorch can be replaced by another runtime."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from rsft.bundle import Bundle
from rsft.classifier import load_classifier, with_views
from rsft.classifier.outputs import Outputs
from rsft.imagery.contract import Contract

Engine = Callable[[NDArray[np.float32]], Outputs]
"""(N, P, S, S) -> logits (N, C) and features (N, D)."""


def torch_engine(bundle: Bundle, device: str = "auto") -> tuple[Engine, Contract]:
    """The bundle's classifier in PyTorch, merged, and the contract of its inputs: larger ones for test-time crops.

    Raises:
        WeightsError: the backbone on this machine is not the one that the bundle was trained on.
    """
    model, contract = with_views(load_classifier(bundle, device), bundle.contract, bundle.recipe.evaluate)
    place = next(model.parameters()).device

    @torch.inference_mode()
    def run(inputs: NDArray[np.float32]) -> Outputs:
        logits, features = model.answer(torch.from_numpy(inputs).to(place))
        return Outputs(logits.float().cpu().numpy(), features.float().cpu().numpy())

    return run, contract
