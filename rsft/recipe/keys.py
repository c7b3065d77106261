"""The keys of a recipe by dotted name: what they accept, and which one was probably meant."""

from __future__ import annotations

import difflib

from pydantic.fields import FieldInfo

from rsft.recipe.components import ComponentSection, settings_model
from rsft.recipe.fields import Section
from rsft.recipe.schema import SECTIONS, Recipe
from rsft.recipe.schema_text import allowed_values


def recipe_keys() -> dict[str, FieldInfo]:
    """Return the field of every key of a recipe.

    Returns:
        Pydantic field by dotted key, as the command line writes it. The sections `peft` and `loss` have the keys of all
        installed components.
    """
    keys = {key: info for key, info in Recipe.model_fields.items() if key not in SECTIONS}
    for name, section in SECTIONS.items():
        keys |= {f"{name}.{key}": info for key, info in section_keys(section).items()}
    return keys


def section_keys(section: type[Section]) -> dict[str, FieldInfo]:
    """Return the field of every key of a section.

    Args:
        section: the model of the section.

    Returns:
        Pydantic field by key.
    """
    return section.all_key_infos() if issubclass(section, ComponentSection) else section.model_fields


def allowed_words(key: str) -> str:
    """Return what a key or section accepts, in words: "a whole number >= 1, or null".

    Args:
        key: dotted name of a key that exists; of a component's key, the first component that takes it counts.
    """
    if key in SECTIONS:
        return f"a section with keys {', '.join(section_keys(SECTIONS[key]))}"
    section, _, leaf = key.rpartition(".")
    model: type[Section] = SECTIONS.get(section, Recipe)
    if issubclass(model, ComponentSection) and leaf != model.selector:
        model = next(taker for taker in map(settings_model, model.components()) if leaf in taker.model_fields)
    return allowed_values(model.model_json_schema()["properties"][leaf])


def explain_unknown(key: str) -> str:
    """Return the message for a key that does not exist.

    Args:
        key: dotted name.
    """
    if key in recipe_keys():  # a dotted key in a file
        section, _, leaf = key.partition(".")
        return f"no such key; write {leaf} in the section {section}"
    nearest = nearest_key(key)
    return f"no such key; did you mean {nearest}?" if nearest else "no such key; `rsft recipes show` explains them all"


def nearest_key(key: str) -> str:
    """Return the existing key that was probably meant: in the same section, with the same last name, or similar.

    Args:
        key: dotted name.

    Returns:
        A dotted name, or "" if no key is similar.
    """
    keys = recipe_keys()
    section, _, leaf = key.rpartition(".")
    if section in SECTIONS:
        candidates = [name.partition(".")[2] for name in keys if name.startswith(f"{section}.")]
        if matches := difflib.get_close_matches(leaf, candidates, 1):
            return f"{section}.{matches[0]}"
    namesakes = [name for name in keys if name.rpartition(".")[2] == leaf]
    matches = difflib.get_close_matches(key, namesakes, 1, cutoff=0)
    matches = matches or difflib.get_close_matches(key, keys if section else [*SECTIONS, *keys], 1)
    return matches[0] if matches else ""
