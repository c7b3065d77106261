"""Inputs of the head before training, and the files that cache them.

Features before training never change. They are cached next to the cache of the chips.
"""

import hashlib
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor

from rsft.data.loading.batches import ChipImages, ChipLoader
from rsft.models.batch_outputs import join_rows
from rsft.models.classifier import Classifier
from rsft.models.devices import copy_to_device
from rsft.types import Indices, Progress
from rsft.utils.atomic_files import atomic_file


def feature_cache_path(chips: ChipImages, *key: object) -> Path:
    """Return the path of a cache file next to the cache of the chips.

    Its name depends on images, normalization and a key.
    """
    images = chips.cache_file
    contract = chips.contract  # the cache of the chips holds bytes before normalization
    moments = (
        "chip-standard" if contract.chip_standard else (contract.mean, contract.std)
    )
    digest = hashlib.sha256(repr((*key, moments)).encode()).hexdigest()[:16]
    return images.with_name(f"{images.stem}-{digest}.npy")


def compute_initial_features(
    classifier: Classifier,
    chips: ChipImages,
    weights: str,
    batch_size: int,
    progress: Progress | None = None,
) -> Tensor:
    """Return the inputs of the head for all chips before training.

    They are cached next to the cache of the chips. The key is made of images and frozen
    weights only, because most methods do not change the outputs at first. For methods
    that do (VPT), features are not cached.

    Args:
        classifier: the classifier before training.
        chips: the chips to compute features of.
        weights: hash of the frozen backbone.
        batch_size: chips in a forward pass.
        progress: called after each batch of chips.

    Returns:
        Features, as `compute_features` returns them.
    """
    everything = np.arange(len(chips))
    if not classifier.adapted.method.is_identity_at_init:
        return compute_features(classifier, chips, everything, batch_size, progress)
    blocks = classifier.adapted.output_blocks
    path = feature_cache_path(
        chips, "features", weights, classifier.pool, *([blocks] if blocks else [])
    )
    with FileLock(path.parent / "lock"):
        if path.is_file():
            return torch.from_numpy(np.load(path)).to(
                next(classifier.parameters()).device
            )
        features = compute_features(classifier, chips, everything, batch_size, progress)
        with atomic_file(path) as temporary, temporary.open("wb") as file:
            np.save(file, features.cpu().numpy())
        return features


@torch.no_grad()
def compute_features(
    classifier: Classifier,
    chips: ChipImages,
    indices: Indices,
    batch_size: int,
    progress: Progress | None = None,
) -> Tensor:
    """Return the inputs of the head for some chips, without augmentation.

    Args:
        classifier: the classifier, which is set to evaluation mode.
        chips: the chips.
        indices: which of them (M,).
        batch_size: chips in a forward pass.
        progress: called after each batch of chips.

    Returns:
        Features (M, D) or (M, heads * D), float32, on the device of the classifier.
    """
    classifier.eval()
    device = next(classifier.parameters()).device
    (features,) = join_rows(
        lambda inputs: [classifier.head_inputs(copy_to_device(inputs, device)).float()],
        ChipLoader(chips.batch, indices, batch_size),
        progress,
        "frozen features",
    )
    return features
