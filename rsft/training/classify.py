"""Classify chips of a store with a bundle, as a prediction does."""

from pathlib import Path

import pandas as pd

from rsft.data.loading.batches import ChipImages, UnaugmentedLoader
from rsft.models.averaging import with_tta
from rsft.models.batch_outputs import collect_outputs
from rsft.models.bundle.bundle import Bundle
from rsft.models.devices import choose_device
from rsft.models.loading import load_classifier
from rsft.models.outputs import ClassifierOutputs
from rsft.training.output_cache import load_or_collect_outputs
from rsft.types import Indices, Progress


def classify_chips(
    bundle: Bundle,
    root: Path,
    table: pd.DataFrame,
    device: str = "auto",
    progress: Progress | None = None,
    *,
    task: str = "classifying",
    indices: Indices | None = None,
) -> ClassifierOutputs:
    """Return logits and features of chips, averaged over the test-time views.

    Outputs of all chips of a table are read from disk if they were computed before.

    Args:
        bundle: the bundle, with the bands of the chips in its contract.
        root: folder of the chip store.
        table: manifest rows of the chips.
        device: auto, cpu or cuda.
        progress: called while chips are read, and after each batch.
        task: what `progress` says of the batches.
        indices: the rows that are classified (M,); None for all.
    """
    evaluate = bundle.recipe.evaluate
    model, contract = with_tta(
        load_classifier(bundle, device), bundle.contract, evaluate
    )
    chips = ChipImages(root, table, (), contract, progress)
    if indices is not None and len(indices) < len(chips):
        batches = UnaugmentedLoader(chips, indices, evaluate.batch_size)
        return collect_outputs(model, batches, progress, task)
    target = choose_device(device).type
    return load_or_collect_outputs(bundle, model, chips, target, progress, task)
