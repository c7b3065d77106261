"""From a YAML file and the command line to a recipe, and back."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from rsft.errors import Fault, RecipeError, RequestError
from rsft.recipe.fields import Section
from rsft.recipe.schema import KEYS, SECTIONS, Recipe
from rsft.recipe.schema_text import allowed
from rsft.recipe.text import Document, parse_value, read_document, show


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe, with `section.key=value` overrides whose values are YAML; a later one wins.

    Raises:
        RequestError: no such file.
        RecipeError: every fault of the file and of the overrides at once.
    """
    if not path.is_file():
        raise RequestError("there is no such recipe", path, "`rsft recipes ls` lists those that come with rsft")
    document = read_document(path)
    readable = document.is_readable
    document.values.setdefault("name", path.stem)
    overridden = _override(document, overrides)
    recipe = _validate(document, overridden) if readable else None
    if recipe is None or document.faults:
        raise RecipeError(sorted(document.faults, key=lambda fault: fault.line))
    return recipe


def dump_recipe(recipe: Recipe) -> str:
    """A recipe as YAML with every key explained; it loads back equal."""
    lines = [_explain(key, key, getattr(recipe, key)) for key in Recipe.model_fields if key not in SECTIONS]
    for name, model in SECTIONS.items():
        section: Section | None = getattr(recipe, name)
        lines += ["", f"# {model.__doc__}", f"{name}:" if section else f"{name}: null"]
        unneeded = section.unneeded if section else {}
        keys = [(key, value) for key, value in section or () if key not in unneeded]
        lines += [_explain(f"{name}.{key}", f"  {key}", value) for key, value in keys]
    return "\n".join(lines) + "\n"


def flatten(recipe: Recipe) -> dict[str, Any]:
    """Every value by its dotted key; a section that is left out has none."""
    sections = {"": recipe} | {f"{name}.": getattr(recipe, name) for name in SECTIONS}
    return {
        f"{prefix}{key}": value
        for prefix, section in sections.items()
        for key, value in section or ()
        if not isinstance(value, Section) and f"{prefix}{key}" not in SECTIONS
    }


def _explain(key: str, label: str, value: Any) -> str:
    return f"{f'{label}: {show(value)}':<38}  # {KEYS[key].description}"


def _override(document: Document, overrides: Sequence[str]) -> set[str]:
    """Put the overrides into the document's values; return the keys that they set."""
    done = set()
    for text in overrides:
        key, equals, raw = map(str.strip, text.partition("="))
        if not equals:
            document.faults.append(Fault("command line", 0, text, "no value", "write section.key=value"))
        elif key not in KEYS and key not in SECTIONS:
            _add_fault(document, key, raw, _no_such(key), overridden=True)
        else:
            try:
                _set(document.values, key, parse_value(raw))
                done.add(key)
            except yaml.YAMLError:
                _add_fault(document, key, raw, f"not valid YAML; {allowed(key)}", overridden=True)
    return done


def _set(values: dict[str, Any], key: str, value: Any) -> None:
    section, _, leaf = key.rpartition(".")
    if not section:
        values[leaf] = value
        return
    if values.get(section) is None:
        values[section] = {}
    if isinstance(values[section], dict):  # anything else is the section's own fault, reported as such
        values[section][leaf] = value


def _validate(document: Document, overridden: set[str]) -> Recipe | None:
    for name in SECTIONS:
        if Recipe.model_fields[name].is_required():
            document.values.setdefault(name, {})  # so that each missing key of it is named
    try:
        recipe = Recipe.model_validate(document.values)
        _refuse_unneeded(document, recipe, overridden)
        return recipe
    except ValidationError as error:
        first: dict[str, Any] = {}  # a union reports every branch that failed: one fault a key is enough
        for item in error.errors(include_url=False):
            depth = 2 if item["loc"][0] in SECTIONS else 1
            first.setdefault(".".join(map(str, item["loc"][:depth])), item)
    for key, item in first.items():
        found = "nothing" if item["type"] == "missing" else show(item["input"])
        words = _no_such(key) if item["type"] == "extra_forbidden" else allowed(key)
        _add_fault(document, key, found, words, overridden=bool({key, item["loc"][0]} & overridden))
    return None


def _refuse_unneeded(document: Document, recipe: Recipe, overridden: set[str]) -> None:
    """A key that the section does not take beside its others would do nothing, without a word."""
    for name in SECTIONS:
        section: Section | None = getattr(recipe, name)
        if section is None:
            continue
        for key, words in section.unneeded.items():
            if key in section.model_fields_set:
                dotted, found = f"{name}.{key}", show(getattr(section, key))
                _add_fault(document, dotted, found, words, overridden=dotted in overridden)


def _add_fault(document: Document, key: str, found: str, words: str, *, overridden: bool) -> None:
    """Note a fault at the key's line, or where the key or section stands that was probably meant."""
    places = (key, _nearest(key), key.partition(".")[0])
    line = next((document.lines[place] for place in places if place in document.lines), 0)
    file = document.file
    if overridden:
        found = f"{found} (command line)"
        file = document.file if line else "command line"
    document.faults.append(Fault(file, line, key, found, words))


def _no_such(key: str) -> str:
    if key in KEYS:  # a dotted key in a file
        section, _, leaf = key.partition(".")
        return f"no such key; write {leaf} in the section {section}"
    near = _nearest(key)
    return f"no such key; did you mean {near}?" if near else "no such key; `rsft recipes show` explains them all"


def _nearest(key: str) -> str:
    """The known key that was probably meant: of the same section, of the same last name, or alike; "" if none."""
    section, _, leaf = key.rpartition(".")
    if section in SECTIONS and (near := difflib.get_close_matches(leaf, SECTIONS[section].model_fields, 1)):
        return f"{section}.{near[0]}"
    namesakes = [known for known in KEYS if known.rpartition(".")[2] == leaf]
    near = difflib.get_close_matches(key, namesakes, 1, cutoff=0)
    near = near or difflib.get_close_matches(key, KEYS if section else [*SECTIONS, *KEYS], 1)
    return near[0] if near else ""
