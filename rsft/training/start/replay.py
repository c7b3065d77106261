"""Replay check: compare the bundle of a run with the one at which it started, on the same chips."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rsft.data.chips.store import ChipStore
from rsft.data.loading.batches import ChipImages
from rsft.models.averaging import with_tta
from rsft.models.bundle.bundle import Bundle
from rsft.models.factory import choose_device, load_classifier
from rsft.models.stored_outputs import load_or_collect_outputs
from rsft.training.runs.replay_check import ADDED, REPLAY_FILE, VALIDATION, Replay, compare_by_class, read_replay
from rsft.training.start.added_chips import find_added_chips
from rsft.training.start.start_bundle import START_DIR
from rsft.types import Progress
from rsft.utils.atomic_files import write_text


def replay(run: Path, device: str = "auto", progress: Progress | None = None) -> Replay:
    """Compare the bundle of a run with the one at which it started, on the same chips, and write replay.json.

    A replay.json of the same two bundles is read instead.

    Args:
        run: folder of a finished run with `train.start_bundle`.
        device: "auto", "cpu" or "cuda".
        progress: called while chips are read and classified.

    Returns:
        The comparison.

    Raises:
        RequestError: a bundle or the chip store is missing.
        DataError: a chip cannot be read, or replay.json is damaged.
        WeightsError: a bundle is damaged.
    """
    old, new = Bundle.load(run / START_DIR), Bundle.load(run / "bundle")
    stored = read_replay(run / REPLAY_FILE)
    if stored and (stored.start_sha256, stored.bundle_sha256) == (old.sha256, new.sha256):
        return stored
    store = ChipStore.open(Path(new.recipe.data.root))
    tables = {VALIDATION: store.split("val")}
    train = store.split("train")
    if len(added := find_added_chips(train)):
        tables[ADDED] = train.iloc[added].reset_index(drop=True)
    parts = []
    for name, table in tables.items():
        before, after = (_predict(bundle, store, table, device, progress) for bundle in (old, new))
        parts.append(compare_by_class(name, table["class"].to_numpy(str), before, after, new.classes, old.classes))
    result = Replay(old.sha256, new.sha256, tuple(parts))
    write_text(run / REPLAY_FILE, json.dumps(result.to_dict(), indent=1))
    return result


def _predict(
    bundle: Bundle, store: ChipStore, table: pd.DataFrame, device: str, progress: Progress | None
) -> NDArray[np.str_]:
    """Return the class that a bundle predicts for each chip of a table, with the test-time views of its recipe."""
    recipe = bundle.recipe
    model, contract = with_tta(load_classifier(bundle, device), bundle.contract, recipe.evaluate)
    contract = contract.model_copy(update={"bands": store.bands})
    chips = ChipImages(store.root, table, tuple(dict.fromkeys([*bundle.classes, *table["class"]])), contract, progress)
    report = partial(_report, progress, len(chips)) if progress else None
    batches, target = chips.batches(recipe.evaluate.batch_size), choose_device(device).type
    logits = load_or_collect_outputs(bundle, model, batches, chips.cache_file, contract, target, report).logits
    predicted: NDArray[np.str_] = np.array(bundle.classes)[logits.argmax(axis=1)]
    return predicted


def _report(progress: Progress, total: int, done: int) -> None:
    progress(done, total, "replay check")
