"""Count evaluated chips that are not independent of the training."""

import numpy as np
import pandas as pd

from rsft.data.chips.store import ChipStore
from rsft.evaluation.schema import Leaks

LEAK_KEYS = ["sha256", "group_key", "mmsi"]
"""Columns of a manifest whose values two splits must not share: the content of a chip,
its group and its vessel."""

SEEN_SPLITS = {"test": ("train", "val"), "val": ("train",), "train": ()}
"""Splits that a model has seen, by the evaluated split."""


def count_leaks(store: ChipStore, training: ChipStore, split: str) -> Leaks:
    """Count the chips of a split that share content, group or vessel with others.

    The others are chips of the splits that a model has seen.

    Args:
        store: the evaluated chips.
        training: the chips of the training, often the same store.
        split: the evaluated split.

    Returns:
        The entry "leaks" of metrics.json.
    """
    manifest = _hash_leak_keys(store)
    if training is not store:
        others = _hash_leak_keys(training)
        manifest = pd.concat(
            [manifest[manifest["split"] == split], others[others["split"] != split]]
        )
    is_evaluated = manifest["split"] == split
    is_seen = manifest["split"].isin(SEEN_SPLITS[split])
    keys = manifest.drop(columns="split")
    shared = keys.apply(
        lambda hashes: is_evaluated & (hashes > 0) & np.isin(hashes, hashes[is_seen])
    )
    return Leaks(chips=int(shared.any(axis=1).sum()))


def _hash_leak_keys(store: ChipStore) -> pd.DataFrame:
    """Read the splits and keys of all chips.

    Keys are 64-bit hashes, and 0 for no key.

    Hashes that are made part by part need less memory than texts.
    """
    parts = []
    for part in store.read_parts(["split", *LEAK_KEYS]):
        texts = part.astype(object).fillna("")
        hashes = part[["split"]].copy()
        for column in LEAK_KEYS:
            has_key = texts[column] != ""
            hashes[column] = pd.util.hash_array(texts[column].to_numpy()) * has_key
        parts.append(hashes)
    return pd.concat(parts)
