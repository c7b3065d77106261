"""Compare a bundle with the one at which its run started; the recipe of such a run."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rsft.data.chips.folds import open_store
from rsft.data.chips.store import ChipStore
from rsft.errors import RequestError
from rsft.metrics.comparison import exact_mcnemar, holm_adjust
from rsft.models.bundle.bundle import RECIPE_FILE, Bundle, open_intact_index
from rsft.models.bundle.foreign_keys import default_value, find_foreign_keys
from rsft.recipe.load import load_recipe
from rsft.recipe.schema import Recipe
from rsft.recipe.text import to_yaml
from rsft.training.classify import classify_chips
from rsft.training.init.start_bundle import START_DIR
from rsft.training.parts.added_chips import find_added_chips
from rsft.training.runs.replay_file import (
    ADDED,
    REPLAY_FILE,
    VALIDATION,
    ClassReplay,
    PartReplay,
    Replay,
    read_replay,
)
from rsft.types import JsonObject, Progress
from rsft.utils.atomic_files import write_json

_log = logging.getLogger(__name__)

_Names = NDArray[np.str_]  # of the classes of chips (N,)


def replay(run: Path, device: str = "auto", progress: Progress | None = None) -> Replay:
    """Compare the bundle of a run with its start on the same chips; write replay.json.

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
    old = Bundle.load(run / START_DIR)
    new = Bundle.load(run / "bundle")
    stored = read_replay(run / REPLAY_FILE)
    if stored and (stored.start_sha256, stored.bundle_sha256) == (
        old.sha256,
        new.sha256,
    ):
        return stored
    store = open_store(Path(new.recipe.data.root), new.recipe.data.fold)
    tables = {VALIDATION: store.split("val")}
    train = store.split("train")
    added = find_added_chips(train)
    if len(added):
        tables[ADDED] = train.iloc[added].reset_index(drop=True)
    parts = []
    for name, table in tables.items():
        before = _predict(old, store, table, device, progress)
        after = _predict(new, store, table, device, progress)
        parts.append(
            compare_by_class(
                name,
                table["class"].to_numpy(str),
                before,
                after,
                new.classes,
                old.classes,
            )
        )
    result = Replay(old.sha256, new.sha256, tuple(parts))
    write_json(run / REPLAY_FILE, result.to_dict())
    return result


def _predict(
    bundle: Bundle,
    store: ChipStore,
    table: pd.DataFrame,
    device: str,
    progress: Progress | None,
) -> _Names:
    """Return the class that a bundle predicts for each chip of a table."""
    contract = bundle.contract.model_copy(update={"bands": store.bands})
    outputs = classify_chips(
        replace(bundle, contract=contract),
        store.root,
        table,
        device,
        progress,
        task="replay check",
    )
    predicted: _Names = np.array(bundle.classes)[outputs.logits.argmax(axis=1)]
    return predicted


def compare_by_class(
    name: str,
    labels: _Names,
    before: _Names,
    after: _Names,
    classes: Sequence[str],
    old_classes: Sequence[str],
) -> PartReplay:
    """Compare two sets of predictions class by class.

    Args:
        name: name of the part.
        labels: class of each chip (N,).
        before: class that the old bundle predicts (N,).
        after: class that the new bundle predicts (N,).
        classes: classes of the new bundle.
        old_classes: classes of the old bundle.

    Returns:
        The classes that have chips, in the order of `classes`.
    """
    old_hits = before == labels
    new_hits = after == labels
    rows = []
    for label in classes:
        mask = labels == label
        if not mask.any():
            continue
        test = exact_mcnemar(new_hits[mask], old_hits[mask])
        before_share = float(old_hits[mask].mean()) if label in old_classes else None
        rows.append(
            ClassReplay(
                name=label,
                chips=int(mask.sum()),
                before=before_share,
                after=float(new_hits[mask].mean()),
                gained=test.first,
                lost=test.second,
                p=test.p,
            )
        )
    adjusted = holm_adjust([row.p for row in rows])
    rows = [replace(row, p=p) for row, p in zip(rows, adjusted, strict=True)]
    recalls = [(x.before, x.after) for x in rows if x.before is not None]
    macro_before, macro_after = None, None
    if recalls:
        macro_before, macro_after = map(float, np.mean(recalls, axis=0))
    p_of_all = exact_mcnemar(new_hits, old_hits).p
    return PartReplay(name, tuple(rows), macro_before, macro_after, p_of_all)


CORRECTION_LR = 0.1
"""Factor of the learning rates of the bundle's recipe in a correction."""

CORRECTION_KEYS = {
    "data.augment": "none",
    "data.unlabeled": None,  # pseudo-labels need augmentation
    "semi": None,
    "train.last_blocks": 2,
    "train.epochs": 30,
    "train.until_added_right": True,
    "train.warmup_epochs": 0,
    "train.repeat_added": "auto",
    "train.patience": None,
}
"""Keys of the bundle's recipe that a correction changes by default."""


EPOCHS_WITHOUT_ADDED = 5
"""Epochs of a correction whose store has no added chips."""


def correction_recipe(bundle: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Return the recipe of a short run that starts at a bundle.

    It is the bundle's recipe with `CORRECTION_KEYS`.

    A bundle that is itself the result of such a run keeps its recipe. `bundle` is a
    folder as in `find_bundle`, and `overrides` are `section.key=value`, which win over
    the defaults of a correction. Keys of the bundle that name places or devices do not
    act, see `find_foreign_keys`, and a warning lists them.

    Returns:
        The recipe, with `train.start_bundle`.

    Raises:
        RequestError: `bundle` contains no bundle, the chip store is missing, or neither
            the overrides nor the folder of a run name it.
        WeightsError: the bundle is damaged.
        RecipeError: faults of the overrides.
    """
    folder, _ = open_intact_index(bundle)
    path = folder / RECIPE_FILE
    recipe = load_recipe(path)
    values = _replace_foreign_keys(recipe, folder, overrides)
    values["train.start_bundle"] = str(folder)
    train = recipe.train
    if not train.start_bundle:
        values["train.lr"] = train.lr * CORRECTION_LR
        if train.head_lr is not None:
            values["train.head_lr"] = train.head_lr * CORRECTION_LR
        values |= CORRECTION_KEYS
    if train.precision != "fp32":
        # the machine of the correction may be another one
        values["train.precision"] = "auto"
    recipe = _load_with(path, values, overrides)
    table = open_store(Path(recipe.data.root), recipe.data.fold).split("train")
    if recipe.train.until_added_right and not len(find_added_chips(table)):
        values["train.epochs"] = EPOCHS_WITHOUT_ADDED
        values["train.until_added_right"] = False
        recipe = _load_with(path, values, overrides)
    return recipe


def _replace_foreign_keys(
    recipe: Recipe, folder: Path, overrides: Sequence[str]
) -> JsonObject:
    """Return the defaults of those keys of a bundle's recipe that do not act.

    Raises:
        RequestError: neither the overrides nor the folder of a run name the chip store.
    """
    foreign = find_foreign_keys(recipe, folder)
    given = {override.partition("=")[0] for override in overrides}
    ignored = [key for key in foreign if key not in given]
    if "data.root" in ignored:
        raise RequestError(
            "the recipe of a bundle outside of its run does not choose the chip store",
            folder,
            "name it: data.root=STORE (the bundle was trained on"
            f" {foreign['data.root']})",
        )
    if ignored:
        _log.warning(
            "%s: its recipe does not decide %s; to take these values, add them to the"
            " command",
            folder,
            " ".join(f"{key}={to_yaml(foreign[key])}" for key in ignored),
        )
    # a key of `track` alone may be a fault: without a tracker it has no effect
    values: JsonObject = {"track": {}}
    for key in foreign:
        if key != "data.root" and not key.startswith("track."):
            values[key] = default_value(key)
    if "data.unlabeled" in foreign:
        values["semi"] = None
    return values


def _load_with(path: Path, values: JsonObject, overrides: Sequence[str]) -> Recipe:
    given = [f"{key}={to_yaml(value)}" for key, value in values.items()]
    return load_recipe(path, [*given, *overrides])
