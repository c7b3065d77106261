"""Keep the outputs of bundles beside the cache of images of a chip store.

Calibration, evaluation and the replay check of a run need the outputs of the same
bundle on the same chips.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from rsft.data.loading.batches import ChipImages
from rsft.models.batch_outputs import collect_outputs
from rsft.models.bundle.bundle import Bundle
from rsft.models.classifier import SupportsPredict
from rsft.models.outputs import ClassifierOutputs
from rsft.types import Progress
from rsft.utils.atomic_files import atomic_file
from rsft.version import __version__

MAX_FILES = 8
"""Number of files that stay beside the cache of images; the oldest ones are deleted."""

_SUFFIX = ".outputs.npz"


def load_or_collect_outputs(
    bundle: Bundle,
    classifier: SupportsPredict,
    chips: ChipImages,
    device: str,
    progress: Progress | None = None,
    task: str = "classifying",
) -> ClassifierOutputs:
    """Return the outputs of a bundle on chips.

    They are read from disk if they were computed before.

    Args:
        bundle: the bundle; its calibrator does not count.
        classifier: its classifier, with the test-time views of its recipe.
        chips: the chips, as the classifier takes them.
        device: the device of the classifier, "cpu" or "cuda".
        progress: called after each batch.
        task: name of the task for `progress`.

    Returns:
        Logits and features of all chips.
    """
    name = f"{_digest(bundle, chips, device)}{_SUFFIX}"
    batches = chips.batches(bundle.recipe.evaluate.batch_size)
    arrays = load_or_compute(
        chips.cache_file.with_name(name),
        ClassifierOutputs._fields,
        lambda: collect_outputs(classifier, batches, progress, task)._asdict(),
    )
    return ClassifierOutputs(**arrays)


def load_or_compute(
    path: Path, names: Sequence[str], compute: Callable[[], Mapping[str, NDArray[Any]]]
) -> dict[str, NDArray[Any]]:
    """Return arrays from an .npz file, or compute them and write the file.

    Args:
        path: the file; of the files in its folder with the same suffixes, the last
            `MAX_FILES` stay.
        names: names of the arrays.
        compute: returns the arrays by name.
    """
    # a damaged file is computed again
    with (
        suppress(OSError, ValueError, KeyError, BadZipFile),
        np.load(path) as stored,
    ):
        return {name: stored[name] for name in names}
    arrays: dict[str, Any] = dict(compute())
    with suppress(OSError):  # a full disk: only a cache
        with atomic_file(path) as temporary, temporary.open("wb") as file:
            np.savez(file, **arrays)
        same_kind = path.parent.glob(f"*{''.join(path.suffixes)}")
        oldest_first = sorted(same_kind, key=lambda file: file.stat().st_mtime)
        for old in oldest_first[:-MAX_FILES]:
            old.unlink(missing_ok=True)
    return arrays


def _digest(bundle: Bundle, chips: ChipImages, device: str) -> str:
    sections = {"backbone", "peft", "meta", "head", "evaluate"}
    content = [
        __version__,
        device,
        # without the hash of the manifest: other chips of the store do not count
        chips.cache_file.stem.partition("-")[2],
        chips.contract.model_dump(mode="json"),
        bundle.backbone_sha256,
        bundle.recipe.model_dump(mode="json", include=sections),
    ]
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode())
    for name in sorted(bundle.tensors):
        tensor = bundle.tensors[name].detach().cpu().contiguous()
        digest.update(name.encode() + tensor.numpy().tobytes())
    return digest.hexdigest()[:24]
