"""Compute and cache the features of the training chips before training."""

from __future__ import annotations

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor

from rsft.data.loading.batches import ChipImages
from rsft.models.classifier import Classifier
from rsft.models.device import copy_to_device
from rsft.training.init.prefix_cache import feature_cache_path
from rsft.types import Progress
from rsft.utils.atomic_files import atomic_file


def compute_initial_features(
    classifier: Classifier, chips: ChipImages, weights: str, batch_size: int, progress: Progress | None = None
) -> Tensor:
    """Return the inputs of the head for all chips before training, without augmentation.

    They are cached next to the cache of the chips. The key is made of images and frozen weights only, because most
    methods do not change the outputs at first. For methods that do (VPT), features are not cached.

    Args:
        classifier: the classifier before training.
        chips: the chips to compute features of.
        weights: hash of the frozen backbone.
        batch_size: chips in a forward pass.
        progress: called after each batch of chips.

    Returns:
        Features (N, D), or (N, heads * D) as `Classifier.head_inputs` returns them; float32, on the device of the
        classifier.
    """
    if not classifier.adapted.method.is_identity_at_init:
        return _compute(classifier, chips, batch_size, progress)
    blocks = classifier.adapted.output_blocks
    path = feature_cache_path(chips, "features", weights, classifier.pool, *([blocks] if blocks else []))
    with FileLock(path.parent / "lock"):
        if not path.is_file():
            features = _compute(classifier, chips, batch_size, progress)
            with atomic_file(path) as temporary, temporary.open("wb") as file:
                np.save(file, features.cpu().numpy())
        return torch.from_numpy(np.load(path)).to(next(classifier.parameters()).device)


@torch.no_grad()
def _compute(classifier: Classifier, chips: ChipImages, batch_size: int, progress: Progress | None) -> Tensor:
    classifier.eval()
    device, batches = next(classifier.parameters()).device, list[Tensor]()
    for count, (inputs, _) in enumerate(chips.batches(batch_size), start=1):
        batches.append(classifier.head_inputs(copy_to_device(inputs, device)).float())
        if progress is not None:
            progress(min(count * batch_size, len(chips)), len(chips), "frozen features")
    return torch.cat(batches)
