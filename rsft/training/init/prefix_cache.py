"""Cached outputs of the frozen blocks: without augmentation they never change."""

import shutil
from collections.abc import Sequence

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray
from torch import Tensor

from rsft.data.loading.batches import ChipImages
from rsft.models.devices import copy_to_device
from rsft.peft import AdaptedModel
from rsft.training.init.frozen_features import feature_cache_path
from rsft.types import Indices, Progress
from rsft.utils.atomic_files import atomic_file
from rsft.utils.progress import announce


class CachedPrefixTokens:
    """Source of batches of cached tokens (B, T, D), float32, in place of images.

    The tokens are computed once, into a memory-mapped file next to the cache of the
    chips. The name of the file depends on the images, the backbone and the number of
    blocks.

    Args:
        chips: the chips to compute tokens of.
        key: identifies frozen weights, precision, and the start bundle, which brings
            modules of these blocks.
        batch_size: chips in a forward pass.

    Attributes:
        tokens: the tokens of every chip (N, T, D), memory-mapped.
    """

    def __init__(
        self,
        chips: ChipImages,
        adapted: AdaptedModel,
        key: Sequence[object],
        batch_size: int,
        progress: Progress | None = None,
    ) -> None:
        self.labels = chips.labels
        self.contract = chips.contract
        self.names = chips.names
        path = feature_cache_path(chips, *key, adapted.prefix_end)
        device = next(adapted.vit.parameters()).device
        done = 0
        with FileLock(path.parent / "lock"):
            if not path.is_file():
                announce(progress, "frozen blocks")
                with atomic_file(path) as temporary, temporary.open("wb") as file:
                    for inputs, _ in chips.batches(batch_size):
                        images = copy_to_device(inputs, device)
                        tokens = adapted.run_frozen_prefix(images).float().cpu().numpy()
                        if not done:
                            shape = len(chips), *tokens.shape[1:]
                            header = {"descr": "<f4", "fortran_order": False}
                            np.lib.format.write_array_header_1_0(
                                file, header | {"shape": shape}
                            )
                        file.write(tokens.tobytes())
                        done += len(tokens)
                        if progress:
                            progress(done, len(chips), "frozen blocks")
        self.tokens: NDArray[np.float32] = np.load(path, mmap_mode="r")

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, indices: Indices) -> tuple[Tensor, Tensor]:
        """Return tokens (B, T, D) and labels (B,) of the chips of some indices."""
        return torch.from_numpy(self.tokens[indices]), torch.from_numpy(
            self.labels[indices]
        )


def can_cache_prefix(chips: ChipImages, adapted: AdaptedModel) -> bool:
    """Return whether the frozen prefix yields tokens that the disk has room for."""
    if adapted.prefix_end <= 0:
        return False
    device = next(adapted.vit.parameters()).device
    prefix = adapted.run_frozen_prefix(
        copy_to_device(chips.batch(np.arange(1))[0], device)
    )
    if prefix.ndim == 4:  # the images: the network cannot be run from tokens
        return False
    return (
        len(chips) * prefix.numel() * 4 * 2
        < shutil.disk_usage(feature_cache_path(chips).parent).free
    )
