"""Helpers for engines: inference functions, thread pools, and silence while a library converts a graph."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import TYPE_CHECKING, Any

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
        infer: takes and returns arrays on the CPU.
        concurrency: threads that should call it at the same time, so that all cores are busy.
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
    """Return a module of PyTorch as an inference function, which computes without gradients.

    Args:
        module: from images to logits and features.
        device: where the module is.

    Returns:
        A function from arrays to arrays.
    """
    import torch

    from rsft.models.outputs import ClassifierOutputs

    @torch.inference_mode()
    def infer(images: NDArray[Any]) -> ClassifierOutputs:
        logits, features = module(torch.from_numpy(images).to(device))
        return ClassifierOutputs(logits.cpu().numpy(), features.cpu().numpy())

    return infer


def threaded(infer: InferenceFn, pool: ThreadPoolExecutor | None = None) -> GraphModel:
    """Run a function that uses one core in as many threads as PyTorch has, each with a share of the images.

    If all threads shared each layer, they would wait at its end for one that was interrupted, for example by a thread
    that reads chips. With two callers, the shares of the second are ready when those of the first come to an end.

    Args:
        infer: function that may be called by several threads at the same time.
        pool: threads to use; a new pool if None.

    Returns:
        A model that two threads should call at once.
    """
    import numpy as np
    import torch

    from rsft.models.outputs import ClassifierOutputs

    threads = torch.get_num_threads()
    executor = pool or ThreadPoolExecutor(threads, "engine")

    def infer_in_shares(images: NDArray[Any]) -> ClassifierOutputs:
        shares = executor.map(infer, np.array_split(images, min(threads, len(images))))
        logits, features = zip(*shares, strict=True)
        return ClassifierOutputs(np.concatenate(logits), np.concatenate(features))

    return GraphModel(infer_in_shares, concurrency=2)


@contextmanager
def silence() -> Iterator[None]:
    """Suppress what exporters log, print and warn; exceptions pass.

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
