"""Cache of the tokens that enter the first adapted block, which never change without augmentation."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray
from torch import Tensor

from rsft.data.loading.batches import ChipImages
from rsft.models.device import copy_to_device
from rsft.peft import AdaptedModel
from rsft.types import Indices, Progress
from rsft.utils.atomic_files import atomic_file


class CachedPrefixTokens:
    """Source of batches of cached tokens (B, T, D), float32, in place of images.

    The tokens are computed once, into a memory-mapped file next to the cache of the chips. The name of the file depends
    on the images, the backbone and the number of blocks.

    Args:
        chips: the chips to compute tokens of.
        adapted: the network.
        key: identifies frozen weights and precision.
        batch_size: chips in a forward pass.
        progress: called after each batch of chips.

    Attributes:
        labels: class of every chip (N,).
        tokens: the tokens of every chip (N, T, D), memory-mapped.
    """

    def __init__(
        self, chips: ChipImages, adapted: AdaptedModel, key: str, batch_size: int, progress: Progress | None = None
    ) -> None:
        self.labels, self.contract, self.names = chips.labels, chips.contract, chips.names
        path = feature_cache_path(chips, key, adapted.prefix_end, *_kept_state(adapted))
        with FileLock(path.parent / "lock"):
            if not path.is_file():
                _compute(path, chips, adapted, batch_size, progress)
        self.tokens: NDArray[np.float32] = np.load(path, mmap_mode="r")

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, indices: Indices) -> tuple[Tensor, Tensor]:
        """Return a batch.

        Args:
            indices: indices of chips (B,).

        Returns:
            Tokens (B, T, D) and labels (B,).
        """
        return torch.from_numpy(self.tokens[indices]), torch.from_numpy(self.labels[indices])


def can_cache_prefix(chips: ChipImages, adapted: AdaptedModel) -> bool:
    """Return whether the frozen prefix yields tokens after a block, and the disk has room for twice the tokens.

    Args:
        chips: the chips to compute tokens of.
        adapted: the network.
    """
    if adapted.prefix_end <= 0:
        return False
    device = next(adapted.vit.parameters()).device
    prefix = adapted.run_frozen_prefix(copy_to_device(chips.batch(np.arange(1))[0], device))
    if prefix.ndim == 4:  # the images: the network cannot be run from tokens
        return False
    needed_bytes = len(chips) * prefix.numel() * 4
    return needed_bytes * 2 < shutil.disk_usage(feature_cache_path(chips).parent).free


def feature_cache_path(chips: ChipImages, *key: object) -> Path:
    """Return the path of a cache file next to the cache of the chips, named after images, normalization and a key.

    Args:
        chips: the chips from which the content is computed.
        *key: other values on which the content depends.
    """
    images = chips.cache_file
    moments = (chips.contract.mean, chips.contract.std)  # the cache of the chips holds bytes before normalization
    digest = hashlib.sha256(repr((*key, moments)).encode()).hexdigest()[:16]
    return images.with_name(f"{images.stem}-{digest}.npy")


def _kept_state(adapted: AdaptedModel) -> list[str]:
    """Return the hash of the learned tensors and scales within the prefix, which a start bundle brings; else nothing.

    Without such tensors, the names of cache files are those of earlier versions.
    """
    state = {name: value for name, value in adapted.adapter_state().items() if name != "gamma"}
    kept = {name: value for name, value in state.items() if adapted.stage_of(name) < adapted.prefix_end}
    scales = {} if adapted.modulator is None else adapted.modulator.scales()
    kept |= {str(x): torch.tensor(scale) for x, scale in scales.items() if x.block < adapted.prefix_end}
    if not kept:
        return []
    digest = hashlib.sha256()
    for name in sorted(kept):
        digest.update(name.encode() + kept[name].detach().cpu().contiguous().numpy().tobytes())
    return [digest.hexdigest()]


def _compute(path: Path, chips: ChipImages, adapted: AdaptedModel, batch_size: int, progress: Progress | None) -> None:
    device = next(adapted.vit.parameters()).device
    done = 0
    with atomic_file(path) as temporary:
        output: np.memmap[Any, np.dtype[np.float32]] | None = None
        for inputs, _ in chips.batches(batch_size):
            tokens = adapted.run_frozen_prefix(copy_to_device(inputs, device)).float().cpu().numpy()
            if output is None:
                output = np.lib.format.open_memmap(temporary, "w+", np.float32, (len(chips), *tokens.shape[1:]))
            output[done : done + len(tokens)] = tokens
            done += len(tokens)
            if progress is not None:
                progress(done, len(chips), "frozen blocks")
        assert output is not None
        output.flush()
