"""What is measured when training is over: how often the bundle is right, how far its answers can be trusted."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from rsft.data.loading.datamodule import ChipImages, FixedLoader
from rsft.metrics.accuracy import summarise
from rsft.models.averaging import with_views
from rsft.models.bundle.bundle import Bundle
from rsft.models.factory import load_classifier
from rsft.models.outputs import Outputs, outputs_of
from rsft.models.uncertainty.calibrator import Confidence
from rsft.types import GROUPS, Indices, Progress

MOST = 100
"""Training chips of a class whose features are looked at: its mean moves no more with others, and time is saved."""

_MEASURES = ("micro", "macro", "avg", *GROUPS)


def judged(
    bundle: Bundle, train: ChipImages, val: ChipImages, device: str = "auto", progress: Progress | None = None
) -> Bundle:
    """With metrics and confidence: of what it, loaded anew and looking at chips as its recipe says, makes of validation
    and training chips.
    """
    recipe = bundle.recipe
    model, contract = with_views(load_classifier(bundle, device), bundle.contract, recipe.evaluate)
    chosen = some_of_each(train.labels, MOST)

    def outputs(chips: ChipImages, indices: Indices) -> Outputs:
        if contract != bundle.contract:  # views are cut from larger images
            chips = ChipImages(Path(recipe.data.root), chips.table, bundle.classes, contract, progress)
        told = partial(_tell, progress, len(indices)) if progress else None
        return outputs_of(model, FixedLoader(chips, indices, recipe.evaluate.batch_size), told)

    seen, known = outputs(val, np.arange(len(val))), outputs(train, chosen)
    confidence = Confidence.fit(
        seen.logits, val.labels, seen.features, train_features=known.features, train_labels=train.labels[chosen]
    )
    return replace(bundle, confidence=confidence, metrics=_metrics(bundle, seen, val.labels))


def _metrics(bundle: Bundle, seen: Outputs, labels: Indices) -> dict[str, Any]:
    """Accuracy with its interval, by measure."""
    found = summarise(seen.logits.argmax(axis=1), labels, len(bundle.classes), bundle.group_indices, bundle.recipe.seed)
    known = {name: getattr(found, name) for name in _MEASURES}
    return {"split": "val", "chips": len(labels)} | {name: value.to_dict() for name, value in known.items() if value}


def _tell(progress: Progress, total: int, done: int) -> None:
    progress(done, total, "confidence")


def some_of_each(labels: Indices, most: int) -> Indices:
    """Indices of at most `most` chips of each class, evenly spread over those that there are, in order."""
    places = [np.flatnonzero(labels == index) for index in np.unique(labels)]
    chosen = [own[np.linspace(0, len(own) - 1, min(most, len(own))).astype(int)] for own in places]
    return np.sort(np.concatenate(chosen))
