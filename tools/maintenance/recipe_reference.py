"""Write docs/recipes.md from the models of the recipe and the registries of components.

python tools/maintenance/recipe_reference.py
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo

from rsft.recipe.components import ComponentSection, settings_model
from rsft.recipe.fields import Section
from rsft.recipe.registries import SAMPLERS, TRACKERS
from rsft.recipe.renames import RENAMED_KEYS
from rsft.recipe.schema import SECTIONS, Recipe
from rsft.recipe.schema_text import allowed_values
from rsft.recipe.text import to_yaml
from rsft.utils.atomic_files import write_text
from rsft.utils.registry import Registry

PAGE = Path(__file__).parents[2] / "docs" / "recipes.md"

INTRODUCTION = """# Recipes

A recipe is one YAML file. It describes an experiment from the data to the evaluation. The comment at its head contains
the commands that run it. A recipe does not inherit from another one. A key that is not in the file has the default that
is listed below. The run folder contains a copy of the recipe with all defaults. The [glossary](glossary.md) explains
terms such as [modulator](glossary.md#modulator), [position](glossary.md#position) and
[meta subset](glossary.md#meta-subset).

    rsft recipes ls                                   # list the recipes that come with rsft
    rsft recipes show quickstart
    rsft recipes cp quickstart mine.yaml
    rsft recipes validate mine.yaml                   # report all faults at once, with their lines
    rsft finetune mine.yaml peft.rank=8 meta=null     # change keys on the command line; null removes a section

Paths are relative to the folder in which the command runs. This page is generated from the code.
"""

EXTENSION = """## Components of other packages

Recipes refer to PEFT methods, losses, samplers and trackers by name. Another package adds a component through an entry
point:

    [project.entry-points."rsft.losses"]
    my_loss = "my_package.losses:MyLoss"

The groups are `rsft.peft_methods`, `rsft.losses`, `rsft.samplers`, `rsft.engines` and `rsft.trackers`. A PEFT method or
loss is a frozen dataclass. Its fields become keys of the recipe, with their defaults, limits and descriptions.
"""

OLD_NAMES = """## Old names

These names of version 0.1 still work, with a warning. In run folders and bundles they work without a warning.
"""


def reference() -> str:
    """Return the page."""
    top = [key for key in Recipe.model_fields if key not in SECTIONS]
    parts = [INTRODUCTION, _table(_rows(Recipe, {key: Recipe.model_fields[key] for key in top}))]
    for name, section in SECTIONS.items():
        parts += [f"## {name}\n", f"{section.__doc__}\n"]
        if issubclass(section, ComponentSection):
            parts += _component_tables(name, section)
        else:
            parts.append(_table(_rows(section, section.model_fields, f"{name}.")))
        parts += [
            _titles(registry) for owner, registry in ((("train"), SAMPLERS), ("track", TRACKERS)) if owner == name
        ]
    return "\n".join([*parts, EXTENSION, OLD_NAMES, _old_names()])


def _component_tables(name: str, section: type[ComponentSection]) -> list[str]:
    """Return the table of components and the table of their keys; equal keys of several components are one row."""
    selector = {section.selector: section.model_fields[section.selector]}
    users: dict[tuple[str, ...], list[str]] = {}
    components = [f"| `{component.name}` | {component.title} |" for component in section.components()]
    for component in section.components():
        model = settings_model(component)
        for row in _rows(model, model.model_fields, f"{name}."):
            users.setdefault(row, []).append(f"`{component.name}`")
    rows = [(*row, ", ".join(names)) for row, names in users.items()]
    table = "\n".join([f"| `{name}.{section.selector}` | component |", "|---|---|", *components, ""])
    return [_table(_rows(section, selector, f"{name}.")), table, _table(rows, "used by")]


def _titles(registry: Registry[Any]) -> str:
    rows = [f"| `{name}` | {registry[name].title} |" for name in registry]
    return "\n".join([f"| {registry.kind} | description |", "|---|---|", *rows, ""])


def _rows(model: type[Section], infos: dict[str, FieldInfo], prefix: str = "") -> list[tuple[str, ...]]:
    """Return key, allowed values, default and description of each key."""
    schema = model.model_json_schema()["properties"]
    return [
        (f"`{prefix}{key}`", _escape(allowed_values(schema[key])), _default(info), str(info.description))
        for key, info in infos.items()
    ]


def _table(rows: list[tuple[str, ...]], *more: str) -> str:
    head = ["key", "allowed", "default", "description", *more]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows), ""])


def _old_names() -> str:
    rows = [f"| `{old}` | `{new}` |" for old, new in RENAMED_KEYS.items()]
    return "\n".join(
        ["| old name | new name |", "|---|---|", *rows, "| `train.precision: 32` | `train.precision: fp32` |", ""]
    )


def _default(info: FieldInfo) -> str:
    return "required" if info.is_required() else f"`{to_yaml(info.default)}`"


def _escape(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    write_text(PAGE, reference())
