"""Helpers for engines: inference functions, thread pools, and a way to silence libraries that convert graphs."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import TYPE_CHECKING, Any

from rsft.inference.engines.threads import engine_threads

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from torch import Tensor

    from rsft.inference.engines.base import InferenceFn
    from rsft.models.classifier import Prediction
    from rsft.models.outputs import ClassifierOutputs


class GraphModel:
    """An inference function with the interface of a classifier.

    Args:
        infer: computes outputs; inputs and outputs are arrays on the CPU.
        concurrency: number of threads that should call it at the same time, so that all cores are busy.
    """

    def __init__(self, infer: InferenceFn, concurrency: int = 1) -> None:
        self.infer, self.concurrency = infer, concurrency

    def predict(self, x: Tensor) -> Prediction:
        """Return logits (B, C) and features (B, D) of images (B, P, S, S).

        Args:
            x: images (B, P, S, S).

        Returns:
            Logits (B, C) and features (B, D).
        """
        import torch

        from rsft.models.classifier import Prediction

        return Prediction(*(torch.from_numpy(array) for array in self.infer(x.numpy())))


def as_inference_fn(
    module: Callable[[Tensor], tuple[Tensor, Tensor]], device: torch.device | str = "cpu"
) -> InferenceFn:
    """Wrap a PyTorch module as an inference function, which computes without gradients.

    Args:
        module: computes logits and features of images.
        device: device of the module.

    Returns:
        A function from arrays to arrays.
    """
    import torch

    from rsft.models.device import copy_to_device
    from rsft.models.outputs import ClassifierOutputs

    @torch.inference_mode()
    def infer(images: NDArray[Any]) -> ClassifierOutputs:
        logits, features = module(copy_to_device(torch.from_numpy(images), device))
        return ClassifierOutputs(logits.cpu().numpy(), features.cpu().numpy())

    return infer


def run_in_threads(infer: InferenceFn, pool: ThreadPoolExecutor | None = None) -> GraphModel:
    """Run a single-core function in as many threads as PyTorch uses, each with a share of the images.

    If all threads worked on each layer together, they would wait at its end for a thread that was interrupted, for
    example by one that reads chips. The model should have two callers, so that shares of the second call are ready
    when threads finish the first one.

    Args:
        infer: thread-safe function that uses one core.
        pool: threads to use (default: a new pool).

    Returns:
        A model that two threads should call at once.
    """
    import numpy as np

    from rsft.models.outputs import ClassifierOutputs

    threads = engine_threads()
    executor = pool or ThreadPoolExecutor(threads, "engine")

    def infer_in_shares(images: NDArray[Any]) -> ClassifierOutputs:
        shares = executor.map(infer, np.array_split(images, min(threads, len(images))))
        logits, features = zip(*shares, strict=True)
        return ClassifierOutputs(np.concatenate(logits), np.concatenate(features))

    return GraphModel(infer_in_shares, concurrency=2)


@contextmanager
def silence_output() -> Iterator[None]:
    """Suppress logs, output and warnings of exporters. Exceptions still propagate.

    Yields:
        Nothing.
    """
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
