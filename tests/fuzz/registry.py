"""All classes of input, in groups that need the same libraries."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import ModuleType

from rsft.data.annotations.base import ANNOTATIONS
from rsft.data.imagery.products.product import PRODUCTS
from rsft.recipe.load import load_recipe
from tests.fuzz.target import Target

RECIPE = Path(__file__).parents[1] / "compat/0.2/run/recipe.yaml"

PLUGINS = Path(__file__).parents[1] / "plugins"
"""Tests of the plug-ins: a folder may have fuzz_targets.py and corpus/."""

CORPORA = (Path(__file__).parent / "corpus", *sorted(PLUGINS.glob("*/corpus")))

GROUPS = (
    "labels",
    "recipes",
    "positions",
    "scenes",
    "stores",
    "models",
    "exports",
    *(path.parent.name for path in sorted(PLUGINS.glob("*/fuzz_targets.py"))),
)


def load_targets(name: str) -> list[Target]:
    """Import the classes of input and the modules that they read with.

    Args:
        name: a class, a group, or "" for all classes.
    """
    modules = [_import_group(group) for group in ([name] if name in GROUPS else GROUPS)]
    for registry in (ANNOTATIONS, PRODUCTS):
        # the processes share what this imports, and the settings of a recipe
        registry.names()
    load_recipe(RECIPE)
    modules = [
        module
        for module in modules
        if name in ("", *GROUPS, *(target.name for target in module.TARGETS))
    ]
    return [
        target
        for module in modules
        for target in module.TARGETS
        if name in ("", *GROUPS, target.name)
    ]


def _import_group(name: str) -> ModuleType:
    if (PLUGINS / name / "fuzz_targets.py").is_file():
        return import_module(f"tests.plugins.{name}.fuzz_targets")
    return import_module(f"tests.fuzz.classes.{name}")
