"""Outputs of bundles on the chips of a store, kept beside its cache of images.

Calibration, evaluation and the replay check of a run need the outputs of the same bundle on the same chips.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from torch import Tensor

from rsft import __version__
from rsft.data.imagery.contract import Contract
from rsft.models.averaging import SupportsPredict
from rsft.models.bundle.bundle import Bundle
from rsft.models.outputs import ClassifierOutputs, collect_outputs
from rsft.utils.atomic_files import atomic_file

MAX_FILES = 8
"""Number of files that stay beside the cache of images; the oldest ones are deleted."""

_SUFFIX = ".outputs.npz"


def load_or_collect_outputs(
    bundle: Bundle,
    classifier: SupportsPredict,
    batches: Iterable[tuple[Tensor, Tensor]],
    images: Path,
    contract: Contract,
    device: str,
    on_progress: Callable[[int], object] | None = None,
) -> ClassifierOutputs:
    """Return the outputs of a bundle on all chips of a cache file, from disk if they were computed before.

    Args:
        bundle: the bundle; its calibrator does not count.
        classifier: its classifier, with the test-time views of its recipe.
        batches: all chips in order: inputs (B, P, S, S) and labels, which are ignored.
        images: the cache file of the chips (`ChipImages.images`), which is named after chips and contract.
        contract: the contract of the chips.
        device: the device of the classifier, "cpu" or "cuda".
        on_progress: called after each batch with the number of chips so far.

    Returns:
        Logits and features of all chips.
    """
    path = images.with_name(f"{_digest(bundle, images, contract, device)}{_SUFFIX}")
    with suppress(OSError, ValueError, KeyError, BadZipFile), np.load(path) as arrays:  # else computed again
        return ClassifierOutputs(arrays["logits"], arrays["features"])
    outputs = collect_outputs(classifier, batches, on_progress)
    with suppress(OSError):  # a full disk: only a cache
        with atomic_file(path) as temporary, temporary.open("wb") as file:
            np.savez(file, **outputs._asdict())
        newest_first = sorted(path.parent.glob(f"*{_SUFFIX}"), key=lambda file: file.stat().st_mtime, reverse=True)
        for old in newest_first[MAX_FILES:]:
            old.unlink(missing_ok=True)
    return outputs


def _digest(bundle: Bundle, images: Path, contract: Contract, device: str) -> str:
    sections = {"backbone", "peft", "meta", "head", "evaluate"}
    chips = images.stem.partition("-")[2]  # without the hash of the manifest: other chips of the store do not count
    content = [
        __version__,
        device,
        chips,
        contract.model_dump(mode="json"),
        bundle.backbone_sha256,
        bundle.recipe.model_dump(mode="json", include=sections),
    ]
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode())
    for name in sorted(bundle.tensors):
        digest.update(name.encode() + bundle.tensors[name].detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:24]
