"""Name the keys of a bundle's recipe that do not act in a run started at it.

A bundle may be a stranger's. His recipe says how the network was made, but not where
the numbers of a run go, which other chips are read, or which processes start.
"""

from pathlib import Path
from typing import Any

from rsft.recipe.schema import SECTIONS, Recipe
from rsft.types import JsonObject

_NEVER = (
    "data.unlabeled",
    "data.workers",
    "train.device",
    "train.devices",
    "train.nodes",
    "train.strategy",
)
_NEVER_SECTION = "track"
_ONLY_IN_RUNS = ("data.root", "backbone.weights")
"""Paths that count in the folder of a run, which was trained with them, and in no other
bundle."""
_RUN_FILE = "run.json"


def find_foreign_keys(recipe: Recipe, folder: Path) -> JsonObject:
    """Return the keys of a bundle's recipe that do not act, with their values.

    Args:
        recipe: the recipe in the bundle.
        folder: the folder of the bundle.

    Returns:
        The values by key, only those that differ from the defaults.
    """
    names = [
        *_NEVER,
        *(f"{_NEVER_SECTION}.{key}" for key in SECTIONS[_NEVER_SECTION].model_fields),
    ]
    if not (folder.parent / _RUN_FILE).is_file():
        names += _ONLY_IN_RUNS
    values = recipe.flatten()
    return {name: values[name] for name in names if values[name] != default_value(name)}


def default_value(key: str) -> Any:
    """Return the default of a key of a recipe; None for data.root, which has none."""
    section, _, name = key.partition(".")
    field = SECTIONS[section].model_fields[name]
    if field.is_required():
        return None
    return field.get_default()
