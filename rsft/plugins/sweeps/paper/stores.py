"""The chips and weights of a table: prepare or find them, and hash every chip."""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from rsft.backbones.card import find_weights
from rsft.backbones.loading import find_card
from rsft.data.chips.store import DATASET, ChipStore
from rsft.data.imagery.reader import read_chip
from rsft.data.prepare.dota import prepare_dota
from rsft.data.prepare.fusrs import prepare_fusrs
from rsft.data.similarity import pixel_digest
from rsft.errors import RsftError
from rsft.recipe.schema import Recipe
from rsft.types import Progress
from rsft.utils.atomic_files import atomic_file, sha256
from rsft.utils.progress import track

VAL_SHARE = 0.1
"""Share of the training chips of FUSRS for validation, as in the recipes; the authors
have none."""


def prepare_stores(
    recipes: dict[str, Recipe], lists: Path | None, progress: Progress | None
) -> list[str]:
    """Build the chip stores of recipes that do not exist, from archives beside them.

    Args:
        recipes: recipe by the name of its file; `data.root` is the store.
        lists: folder of the authors' lists; None downloads those of FUSRS, and splits
            DOTA by its folders.
        progress: called while chips are stored.

    Returns:
        What is missing, as sentences: a store that cannot be built, with the reason.
    """
    names = {Path(recipe.data.root): name for name, recipe in recipes.items()}
    missing = []
    for store, name in names.items():
        if (store / DATASET).is_file():
            continue
        hint = ""
        try:
            built = _prepare_store(store, lists, progress)
            if built is None:
                hint = f"its recipe says how to build it: rsft recipes show {name}"
            elif built.resolve() != store.resolve():
                hint = f"they are in {built}; name it with --root"
        except RsftError as error:
            hint = "; ".join(filter(None, (error.message, error.location, error.hint)))
        if hint:
            missing.append(f"the chips {store}: {hint}")
    return missing


def _prepare_store(
    store: Path, lists: Path | None, progress: Progress | None
) -> Path | None:
    """Build a chip store; return its folder, or None if rsft does not know its source.

    Raises:
        RsftError: the archives are missing or cannot be read.
    """
    if store.name == "fusrs":
        return prepare_fusrs(
            store, lists=lists, protocol="published", val=VAL_SHARE, progress=progress
        ).root
    if store.name == "dota":
        return prepare_dota(None, store, lists=lists, progress=progress).root
    return None


def list_missing_weights(recipes: Iterable[Recipe]) -> list[str]:
    """Return one sentence, with a command, per encoder without weights here."""
    missing = []
    backbones = [recipe.backbone for recipe in recipes]
    for name in dict.fromkeys(x.name for x in backbones if x.weights is None):
        card = find_card(name)
        if card.weights is None:
            continue
        try:
            find_weights(card)
        except RsftError:
            missing.append(f"the weights of {name}: rsft weights get {name}")
    return missing


def write_chip_hashes(
    store: ChipStore, path: Path, progress: Progress | None = None
) -> str:
    """Write path, class, split and the SHA-256 of the pixels of every chip as CSV.

    Args:
        store: the chip store.
        path: the file. A file of the same chips is kept.
        progress: called after each chip.

    Returns:
        The SHA-256 of the file, which identifies chips, labels and splits.

    Raises:
        DataError: a chip cannot be read.
    """
    table = store.table.sort_values("path")[["path", "class", "split"]]
    columns = {name: table[name].astype(str).tolist() for name in table}
    if path.is_file():
        earlier = pd.read_csv(path, dtype=str, keep_default_na=False)
        if all(earlier[name].tolist() == values for name, values in columns.items()):
            return sha256(path)
    chips = track(columns["path"], len(table), progress, "hashing chips")
    digests = [pixel_digest(read_chip(store.root / chip)) for chip in chips]
    with atomic_file(path) as temporary:
        pd.DataFrame(columns | {"sha256": digests}).to_csv(temporary, index=False)
    return sha256(path)
