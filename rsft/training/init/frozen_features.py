"""Features of the training chips before anything is trained, computed in one pass and kept."""

from __future__ import annotations

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor

from rsft.data.loading.datamodule import ChipImages
from rsft.models.classifier import Classifier
from rsft.training.init.prefix_cache import cache_path
from rsft.types import Progress
from rsft.utils.atomic_files import replacing


def start_features(
    classifier: Classifier, chips: ChipImages, weights: str, batch_size: int, progress: Progress | None = None
) -> Tensor:
    """Of all chips, not augmented: (N, D) float32 on the classifier's device.

    Kept beside the chips' own cache, keyed by the images and the frozen weights, except for methods that change the
    outputs from the start (VPT): with all others they are the frozen backbone's, whatever is attached.

    Args:
        weights: hash of the frozen backbone.
    """
    device = next(classifier.parameters()).device
    if not classifier.adapted.method.name.startswith("vpt"):
        path = cache_path(chips, "features", weights, classifier.pool)
        with FileLock(path.parent / "lock"):
            if not path.is_file():
                found = _compute(classifier, chips, batch_size, progress)
                with replacing(path) as temporary, temporary.open("wb") as file:
                    np.save(file, found.cpu().numpy())
            return torch.from_numpy(np.load(path)).to(device)
    return _compute(classifier, chips, batch_size, progress)


@torch.no_grad()
def _compute(classifier: Classifier, chips: ChipImages, batch_size: int, progress: Progress | None) -> Tensor:
    classifier.eval()
    device, parts = next(classifier.parameters()).device, list[Tensor]()
    for done, (inputs, _) in enumerate(chips.batches(batch_size), start=1):
        parts.append(classifier.features(inputs.to(device)).float())
        if progress is not None:
            progress(min(done * batch_size, len(chips)), len(chips), "frozen features")
    return torch.cat(parts)
