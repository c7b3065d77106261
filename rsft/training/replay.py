"""Compare the bundle of a run with the one at which it started, and the recipe of a run that starts at a bundle."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rsft.data.chips.store import ChipStore
from rsft.data.loading.batches import ChipImages
from rsft.errors import WeightsError
from rsft.models.averaging import load_or_collect_outputs, with_tta
from rsft.models.bundle.bundle import Bundle, find_bundle
from rsft.models.bundle.manifest import COPY_HINT, RECIPE_FILE, find_altered_files, read_index
from rsft.models.factory import choose_device, load_classifier
from rsft.recipe.load import load_recipe
from rsft.recipe.schema import Recipe
from rsft.recipe.text import to_yaml
from rsft.training.runs.replay_check import ADDED, REPLAY_FILE, VALIDATION, Replay, compare_by_class, read_replay
from rsft.training.start_bundle import START_DIR, find_added_chips
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

    def report(done: int) -> None:
        if progress is not None:
            progress(done, len(chips), "replay check")

    batches, target = chips.batches(recipe.evaluate.batch_size), choose_device(device).type
    logits = load_or_collect_outputs(bundle, model, batches, chips.cache_file, contract, target, report).logits
    predicted: NDArray[np.str_] = np.array(bundle.classes)[logits.argmax(axis=1)]
    return predicted


CORRECTION_LR = 0.1
"""Factor of the learning rates of the bundle's recipe in a correction."""

CORRECTION_KEYS = {
    "data.augment": "none",
    "train.last_blocks": 2,
    "train.epochs": 5,
    "train.warmup_epochs": 0,
    "train.repeat_added": 10,
    "train.patience": None,
}
"""Keys of the bundle's recipe that a correction changes by default."""


def correction_recipe(bundle: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Return the recipe of a short run that starts at a bundle: the bundle's recipe with `CORRECTION_KEYS`.

    A bundle that is itself the result of such a run keeps its recipe.

    Args:
        bundle: a bundle, a run folder, or runs/<recipe> for its newest run with a bundle.
        overrides: `section.key=value`; they win over the defaults of a correction.

    Returns:
        The recipe, with `train.start_bundle`.

    Raises:
        RequestError: `bundle` contains no bundle.
        WeightsError: the bundle is damaged.
        RecipeError: faults of the overrides.
    """
    folder = find_bundle(bundle)
    index, _ = read_index(folder)
    if faults := find_altered_files(folder, index):
        raise WeightsError("; ".join(faults), folder, COPY_HINT)
    path = folder / RECIPE_FILE
    recipe = load_recipe(path)
    values: dict[str, Any] = {"train.start_bundle": str(folder)}
    if not recipe.train.start_bundle:
        rates = {"train.lr": recipe.train.lr, "train.head_lr": recipe.train.head_lr}
        values |= {key: rate * CORRECTION_LR for key, rate in rates.items() if rate is not None}
        values |= CORRECTION_KEYS
    return load_recipe(path, [*(f"{key}={to_yaml(value)}" for key, value in values.items()), *overrides])


def start_override(bundle: Path) -> str:
    """Return the override of a recipe that lets its run start at a bundle.

    Args:
        bundle: the same as in `correction_recipe`.

    Returns:
        `train.start_bundle=...`, with the folder of the bundle itself, so that a later run does not change it.

    Raises:
        RequestError: `bundle` contains no bundle.
    """
    return f"train.start_bundle={to_yaml(str(find_bundle(bundle)))}"
