"""Commands that turn the labels of a review page into training data, and train on them."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

_TABLE = "corrected.csv"
_DEFAULT_BANDS = (["gray"], ["R", "G", "B"])  # `rsft prepare folder` needs no --bands for these


class TrainingSource(NamedTuple):
    """What was trained on what, as the commands name it.

    Attributes:
        bundle: the bundle, or the folder of its run.
        store: the chip store on which the bundle was trained.
    """

    bundle: Path
    store: str


class TrainingCommands(NamedTuple):
    """Command lines for a saved table of labels.

    Attributes:
        add: adds the labels to the training data of the bundle.
        finetune: continues the training of the bundle.
        prepare: makes a new chip store of the labels.
    """

    add: str
    finetune: str
    prepare: str


def training_commands(metadata: Mapping[str, Any], source: TrainingSource, from_scenes: bool) -> TrainingCommands:
    """Return the commands that train on corrected labels.

    Chips that were cut from scenes have the bands of the bundle, and the unit in which the scenes were read. Their
    files state both, which `rsft data add` reads.

    Args:
        metadata: metadata of the predictions table.
        source: bundle and chip store.
        from_scenes: whether the chips were cut from scenes.
    """
    declared = metadata["request"]["declared"]
    unit, bands, _ = declared
    units = {product.get("unit") for product in metadata.get("products", ())}
    unit = units.pop() if from_scenes and len(units) == 1 else unit
    bands = metadata["bands"] if from_scenes or not bands else bands
    bands = None if bands in _DEFAULT_BANDS else bands
    options = [] if from_scenes else _options(declared[0], declared[1])
    return TrainingCommands(
        add=shlex.join(["rsft", "data", "add", source.store, _TABLE, *options]),
        finetune=shlex.join(["rsft", "finetune", "--from", str(source.bundle)]),
        prepare=shlex.join(["rsft", "prepare", "folder", _TABLE, "--root", "data/corrected", *_options(unit, bands)]),
    )


def _options(unit: str | None, bands: Sequence[str] | None) -> list[str]:
    return [*(("--unit", unit) if unit else ()), *(("--bands", ",".join(bands)) if bands else ())]
