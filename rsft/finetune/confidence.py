"""What is fitted when training is over: how far the bundle's answers can be trusted."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from rsft.bundle import Bundle
from rsft.chips.dataset import ChipImages, FixedLoader, Indices
from rsft.chips.store import Progress
from rsft.classifier import load_classifier, with_views
from rsft.classifier.outputs import Outputs, outputs_of
from rsft.confidence import Confidence

MOST = 100
"""Training chips of a class whose features are looked at: its mean moves no more with others, and time is saved."""


def fit_confidence(
    bundle: Bundle, train: ChipImages, val: ChipImages, device: str = "auto", progress: Progress | None = None
) -> Confidence:
    """Fit on what the bundle, loaded anew and looking at chips as its recipe says, makes of validation and training."""
    recipe = bundle.recipe
    model, contract = with_views(load_classifier(bundle, device), bundle.contract, recipe.evaluate)
    chosen = some_of_each(train.labels, MOST)

    def outputs(chips: ChipImages, indices: Indices) -> Outputs:
        if contract != bundle.contract:  # views are cut from larger images
            chips = ChipImages(Path(recipe.data.root), chips.table, bundle.classes, contract, progress)
        told = partial(_tell, progress, len(indices)) if progress else None
        return outputs_of(model, FixedLoader(chips, indices, recipe.evaluate.batch_size), told)

    seen, known = outputs(val, np.arange(len(val))), outputs(train, chosen)
    return Confidence.fit(
        seen.logits, val.labels, seen.features, train_features=known.features, train_labels=train.labels[chosen]
    )


def _tell(progress: Progress, total: int, done: int) -> None:
    progress(done, total, "confidence")


def some_of_each(labels: Indices, most: int) -> Indices:
    """Indices of at most `most` chips of each class, evenly spread over those that there are, in order."""
    places = [np.flatnonzero(labels == index) for index in np.unique(labels)]
    chosen = [own[np.linspace(0, len(own) - 1, min(most, len(own))).astype(int)] for own in places]
    return np.sort(np.concatenate(chosen))
