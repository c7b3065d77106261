"""Inputs of the head before training, and the files that cache them.

Features before training never change. They are cached next to the cache of the chips.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor

from rsft.data.loading.batches import ChipImages, ChipLoader
from rsft.models.batch_outputs import join_rows
from rsft.models.classifier import Classifier
from rsft.models.devices import copy_to_device
from rsft.types import Floats32, Indices, Progress
from rsft.utils.atomic_files import atomic_file
from rsft.utils.progress import announce


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


def cache_outputs(
    path: Path,
    chips: ChipImages,
    compute: Callable[[Tensor], Tensor],
    device: torch.device,
    batch_size: int,
    progress: Progress | None,
    task: str,
) -> Floats32:
    """Return the outputs of a frozen network for all chips, memory-mapped.

    They are computed once, into a file.

    Args:
        path: the file, from `feature_cache_path`.
        chips: the chips.
        compute: returns outputs (B, ...) of network inputs (B, P, S, S).
        device: device of the network.
        batch_size: chips in a forward pass.
        progress: called after each batch.
        task: what `progress` says of the batches.
    """
    done = 0
    with FileLock(path.parent / "lock"), torch.no_grad():
        if not path.is_file():
            announce(progress, task)
            with atomic_file(path) as temporary, temporary.open("wb") as file:
                for inputs, _ in chips.batches(batch_size):
                    outputs = compute(copy_to_device(inputs, device))
                    rows = outputs.float().cpu().numpy()
                    if not done:
                        header = {"descr": "<f4", "fortran_order": False}
                        shape = len(chips), *rows.shape[1:]
                        np.lib.format.write_array_header_1_0(
                            file, header | {"shape": shape}
                        )
                    file.write(rows.tobytes())
                    done += len(rows)
                    if progress:
                        progress(done, len(chips), task)
    mapped: Floats32 = np.load(path, mmap_mode="r")
    return mapped


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
    if not classifier.adapted.method.is_identity_at_init:
        everything = np.arange(len(chips))
        return compute_features(classifier, chips, everything, batch_size, progress)
    blocks = classifier.adapted.output_blocks
    path = feature_cache_path(
        chips, "features", weights, classifier.pool, *([blocks] if blocks else [])
    )
    device = next(classifier.parameters()).device
    compute = classifier.eval().head_inputs
    rows = cache_outputs(
        path, chips, compute, device, batch_size, progress, "frozen features"
    )
    return torch.from_numpy(np.array(rows)).to(device)


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
