"""Cached outputs of the frozen blocks: without augmentation they never change."""

import shutil
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from rsft.data.loading.batches import ChipImages
from rsft.models.devices import copy_to_device
from rsft.peft import AdaptedModel
from rsft.training.init.frozen_features import cache_outputs, feature_cache_path
from rsft.types import Indices, Progress


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
        self.tokens = cache_outputs(
            path,
            chips,
            adapted.run_frozen_prefix,
            next(adapted.vit.parameters()).device,
            batch_size,
            progress,
            "frozen blocks",
        )

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
