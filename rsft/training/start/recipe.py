"""The recipe of a run that starts at a bundle."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rsft.errors import WeightsError
from rsft.models.bundle.bundle import find_bundle
from rsft.models.bundle.manifest import COPY_HINT, RECIPE_FILE, find_altered_files, read_index
from rsft.recipe.load import load_recipe
from rsft.recipe.schema import Recipe
from rsft.recipe.text import to_yaml

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
    recipe = load_recipe(path, stored=True)
    defaults = {} if recipe.train.start_bundle else _correction_values(recipe)
    values = {**defaults, "train.start_bundle": str(folder)}
    return load_recipe(path, [*(f"{key}={to_yaml(value)}" for key, value in values.items()), *overrides], stored=True)


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


def _correction_values(recipe: Recipe) -> dict[str, object]:
    train = recipe.train
    rates: dict[str, object] = {"train.lr": train.lr * CORRECTION_LR}
    if train.head_lr is not None:
        rates["train.head_lr"] = train.head_lr * CORRECTION_LR
    return rates | CORRECTION_KEYS
