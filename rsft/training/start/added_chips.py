"""Training chips that `rsft data add` brought into a finished store, and how often an epoch draws them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from rsft.types import Indices

_ADDED_COLUMN = "added_on"  # of the manifest; missing or empty for chips of the original store


def find_added_chips(table: pd.DataFrame) -> Indices:
    """Return the positions of the chips that were added to a finished store, or relabeled there.

    Args:
        table: manifest rows.

    Returns:
        Indices of rows (M,).
    """
    if _ADDED_COLUMN not in table:
        return np.array([], np.int64)
    return np.flatnonzero(table[_ADDED_COLUMN].fillna("").astype(str).ne("").to_numpy())


def repeat_added_chips(members: Callable[[int], Indices], added: Indices, repeats: int) -> Callable[[int], Indices]:
    """Return a function that lists the chips of an epoch, with added chips several times.

    Args:
        members: returns the chips that an epoch may use, by epoch.
        added: the added chips (M,).
        repeats: how often an epoch draws each of them.

    Returns:
        The function; `members` itself if nothing is repeated.
    """
    if repeats == 1 or not len(added):
        return members

    def with_repeats(epoch: int) -> Indices:
        chips = members(epoch)
        return np.concatenate([chips, *[added[np.isin(added, chips)]] * (repeats - 1)])

    return with_repeats
