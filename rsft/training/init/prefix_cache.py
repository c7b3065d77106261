"""Chips as the tokens that the first adapted block takes in: with fixed views they never change, so they are kept."""

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

from rsft.data.loading.datamodule import ChipImages
from rsft.peft import Adapted
from rsft.types import Indices, Progress
from rsft.utils.atomic_files import replacing


class TokenChips:
    """Batches of tokens (b, N, D) float32 in place of images.

    Computed once, in a memory-mapped file beside the chips' own cache that is keyed by the images, the backbone and the
    number of blocks below.

    Args:
        key: of the frozen weights and the arithmetic.
    """

    def __init__(
        self, chips: ChipImages, adapted: Adapted, key: str, batch_size: int, progress: Progress | None = None
    ) -> None:
        self.labels, self.contract, self.names = chips.labels, chips.contract, chips.names
        path = cache_path(chips, key, adapted.first)
        with FileLock(path.parent / "lock"):
            if not path.is_file():
                _compute(path, chips, adapted, batch_size, progress)
        self.tokens: NDArray[np.float32] = np.load(path, mmap_mode="r")

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, indices: Indices) -> tuple[Tensor, Tensor]:
        """Tokens (b, N, D) and labels (b,)."""
        return torch.from_numpy(self.tokens[indices]), torch.from_numpy(self.labels[indices])


def fits(chips: ChipImages, adapted: Adapted) -> bool:
    """Whether tokens can be kept: something frozen lies below the first part, and the disk has twice their size."""
    if adapted.first <= 0:
        return False
    needed = len(chips) * adapted.below(chips.batch(np.arange(1))[0]).numel() * 4
    return needed * 2 < shutil.disk_usage(cache_path(chips).parent).free


def cache_path(chips: ChipImages, *key: object) -> Path:
    """A file beside the chips' own cache for what is computed of them, keyed by the normalised images and `key`."""
    images = Path(str(chips.images.filename))  # type: ignore[attr-defined]  # a memory map has a file
    normalised = (chips.contract.mean, chips.contract.std)  # what the cache of bytes does not depend on
    digest = hashlib.sha256(repr((*key, normalised)).encode()).hexdigest()[:16]
    return images.with_name(f"{images.stem}-{digest}.npy")


def _compute(path: Path, chips: ChipImages, adapted: Adapted, batch_size: int, progress: Progress | None) -> None:
    device = next(adapted.vit.parameters()).device
    done = 0
    with replacing(path) as temporary:
        out: np.memmap[Any, np.dtype[np.float32]] | None = None
        for inputs, _ in chips.batches(batch_size):
            tokens = adapted.below(inputs.to(device)).float().cpu().numpy()
            if out is None:
                out = np.lib.format.open_memmap(temporary, "w+", np.float32, (len(chips), *tokens.shape[1:]))
            out[done : done + len(tokens)] = tokens
            done += len(tokens)
            if progress is not None:
                progress(done, len(chips), "frozen blocks")
        assert out is not None
        out.flush()
