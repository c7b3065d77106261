"""Classify chips of a store with a bundle, as a prediction does."""

from pathlib import Path

import pandas as pd

from rsft.data.loading.batches import ChipImages, ChipLoader
from rsft.models.averaging import with_tta
from rsft.models.batch_outputs import collect_outputs
from rsft.models.bundle.bundle import Bundle
from rsft.models.loading import load_classifier
from rsft.models.outputs import ClassifierOutputs
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
    if indices is None:
        batches = chips.batches(evaluate.batch_size)
    else:
        batches = ChipLoader(chips.batch, indices, evaluate.batch_size)
    return collect_outputs(model, batches, progress, task)
