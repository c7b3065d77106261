"""From a YAML file and the command line to a recipe, and back.

The keys of a recipe by dotted name: what they accept, and which one was probably meant.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from rsft.errors import Fault, RecipeError, RequestError
from rsft.recipe.components import WORDS, ComponentSection, Section, allowed_values, settings_model
from rsft.recipe.renames import current_key, rename_document, rename_keys
from rsft.recipe.schema import SECTIONS, Recipe
from rsft.recipe.text import Document, parse_value, read_document, to_yaml


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


COMMAND_LINE = "command line"


def load_recipe(path: Path, overrides: Sequence[str] = (), *, stored: bool = False) -> Recipe:
    """Read a recipe.

    Old names of keys are read too, with a warning.

    Args:
        path: of the YAML file.
        overrides: `section.key=value`, the value as YAML; a later one wins.
        stored: rsft wrote the file, so its old names need no warning.

    Returns:
        The recipe with all defaults.

    Raises:
        RequestError: the file does not exist.
        RecipeError: every fault of the file and of the overrides at once.

    Example:
        >>> from rsft.recipe.library import find_recipe
        >>> load_recipe(find_recipe("quickstart"), ["train.lr=0.02"]).train.lr
        0.02
    """
    if not path.is_file():
        raise RequestError("no such recipe", path, "`rsft recipes ls` lists those that come with rsft")
    document = read_document(path)
    readable = document.is_readable
    rename_document(document, warn=not stored)
    document.values.setdefault("name", path.stem)
    overridden = _override(document, overrides)
    recipe = _validate(document, overridden) if readable else None
    if recipe is None or document.faults:
        raise RecipeError(sorted(document.faults, key=lambda fault: fault.line))
    return recipe


def dump_recipe(recipe: Recipe) -> str:
    """Return a recipe as YAML with a comment on every key; it loads back equal.

    Args:
        recipe: the resolved recipe. Keys without an effect are left out.
    """
    infos = Recipe.model_fields
    lines = [_dump_key(key, value, infos[key].description) for key, value in recipe if key not in SECTIONS]
    for name, section in recipe.sections():
        lines += ["", f"# {SECTIONS[name].__doc__}", f"{name}:" if section else f"{name}: null"]
        if section is not None:
            infos, unneeded = section.key_infos, section.unneeded
            values = [(key, value) for key, value in section if key not in unneeded]
            lines += [_dump_key(f"  {key}", value, infos[key].description) for key, value in values]
    return "\n".join(lines) + "\n"


def _dump_key(label: str, value: Any, description: str | None) -> str:
    return f"{f'{label}: {to_yaml(value)}':<38}  # {description}"


def _override(document: Document, overrides: Sequence[str]) -> set[str]:
    """Put the overrides into the document's values and return the keys that they set."""
    keys = set()
    for text in overrides:
        written, equals, raw = map(str.strip, text.partition("="))
        key = current_key(written)
        if not equals:
            document.faults.append(Fault(COMMAND_LINE, 0, text, "no value", "write section.key=value"))
        elif key not in SECTIONS and key not in recipe_keys():
            _add_fault(document, key, raw, explain_unknown(key), overridden=True)
        else:
            try:
                value = parse_value(raw)
            except yaml.YAMLError:
                _add_fault(document, key, raw, f"not valid YAML; {_words(key)}", overridden=True)
                continue
            _set(document.values, *_current(written, value))
            keys.add(key)
    return keys


def _current(key: str, value: Any) -> tuple[str, Any]:
    """Return the present names of an override's key and values, with a warning for old ones."""
    if key in SECTIONS:
        return key, rename_keys(value, f"{key}.", source=COMMAND_LINE) if isinstance(value, dict) else value
    ((new, value),) = rename_keys({key: value}, source=COMMAND_LINE).items()
    return new, value


def _set(values: dict[str, Any], key: str, value: Any) -> None:
    section, _, leaf = key.rpartition(".")
    if not section:
        values[leaf] = value
        return
    if values.get(section) is None:
        values[section] = {}
    if isinstance(values[section], dict):  # any other value is a fault of the section itself
        values[section][leaf] = value


def _validate(document: Document, overridden: set[str]) -> Recipe | None:
    for name in SECTIONS:
        if Recipe.model_fields[name].is_required():
            document.values.setdefault(name, {})  # so that each missing key of the section is a fault
    try:
        recipe = Recipe.model_validate(document.values)
        _refuse_unneeded(document, recipe, overridden)
        return recipe
    except ValidationError as error:
        first: dict[str, Any] = {}  # a union reports every branch that failed: one fault for each key is enough
        for item in error.errors(include_url=False):
            depth = 2 if item["loc"][0] in SECTIONS else 1
            first.setdefault(".".join(map(str, item["loc"][:depth])), item)
    for key, item in first.items():
        context = item.get("ctx", {}) if item["type"] == WORDS else {}
        missing = item["type"] == "missing" or context.get("missing", False)
        words = context.get("words") or _words(key, unknown=item["type"] == "extra_forbidden")
        is_overridden = bool({key, item["loc"][0]} & overridden)
        _add_fault(document, key, "nothing" if missing else to_yaml(item["input"]), words, overridden=is_overridden)
    return None


def _words(key: str, *, unknown: bool = False) -> str:
    return explain_unknown(key) if unknown else allowed_words(key)


def _refuse_unneeded(document: Document, recipe: Recipe, overridden: set[str]) -> None:
    """Add a fault for each key that would have no effect beside the others of its section."""
    for name, section in recipe.sections():
        for key, words in section.unneeded.items() if section else ():
            if section and key in section.model_fields_set:
                dotted, value = f"{name}.{key}", to_yaml(getattr(section, key))
                _add_fault(document, dotted, value, words, overridden=dotted in overridden)


def _add_fault(document: Document, key: str, value: str, words: str, *, overridden: bool) -> None:
    """Add a fault at the line of the key, or of the key or section that was probably meant."""
    candidates = (key, nearest_key(key), key.partition(".")[0])
    line = next((document.lines[candidate] for candidate in candidates if candidate in document.lines), 0)
    file = document.file
    if overridden:
        value = f"{value} (command line)"
        file = document.file if line else COMMAND_LINE
    document.faults.append(Fault(file, line, key, value, words))
