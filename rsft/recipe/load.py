"""Load a recipe from a YAML file and the command line, and write it."""

import difflib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from rsft.errors import RecipeError, RequestError
from rsft.recipe.components import (
    WORDS,
    ComponentSection,
    Section,
    allowed_values,
    settings_model,
)
from rsft.recipe.library import AUTO
from rsft.recipe.schema import SECTIONS, Recipe
from rsft.recipe.text import Document, parse_overrides, read_document, to_yaml


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe.

    Args:
        path: of the YAML file.
        overrides: `section.key=value`, the value as YAML; a later one wins.

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
        raise RequestError(
            "no such recipe", path, "`rsft recipes ls` lists those that come with rsft"
        )
    document = read_document(path)
    if document.values.get("method") == AUTO:
        raise RequestError(
            "this file lets rsft choose among recipes, and is no recipe itself",
            path,
            f"train it: rsft finetune {path} data.root=STORE",
        )
    values = document.values
    is_readable = document.is_readable
    values.setdefault("name", path.stem)
    for key, value in parse_overrides(document, overrides):
        section, _, leaf = key.rpartition(".")
        if key not in SECTIONS and key not in recipe_keys():
            document.add_fault(
                key, to_yaml(value), explain_unknown(key), near=nearest_key(key)
            )
            continue
        if section and values.get(section) is None:
            values[section] = {}
        target = values[section] if section else values
        if isinstance(target, dict):  # any other value is a fault of the section itself
            target[leaf] = value
    _drop_min_steps(document)
    recipe = _validate(document) if is_readable else None
    if not recipe or document.faults:
        raise RecipeError(sorted(document.faults, key=lambda fault: fault.line))
    return recipe


def _drop_min_steps(document: Document) -> None:
    """Drop the steps of a recipe whose epochs are overridden, so that these hold."""
    train = document.values.get("train")
    overridden = document.overridden
    is_fixed = "train.epochs" in overridden and "train.min_steps" not in overridden
    if is_fixed and isinstance(train, dict):
        train.pop("min_steps", None)


def _validate(document: Document) -> Recipe | None:
    """Return the recipe; add a fault for each key that is invalid or has no effect."""
    for name in SECTIONS:
        if Recipe.model_fields[name].is_required():
            # so that each missing key of the section is a fault
            document.values.setdefault(name, {})
    try:
        recipe = Recipe.model_validate(document.values)
    except ValidationError as error:
        for key, item in first_errors(error, SECTIONS).items():
            _add_fault(document, key, item)
        return None
    for name, section in recipe.sections():
        if not section:
            continue
        for key, words in section.unneeded.items():
            if key in section.model_fields_set:
                value = to_yaml(getattr(section, key))
                document.add_fault(f"{name}.{key}", value, words)
    return recipe


def _add_fault(document: Document, key: str, item: Mapping[str, Any]) -> None:
    """Add the fault of a key, given its error of pydantic."""
    section = key.rpartition(".")[0]
    model = SECTIONS.get(section)
    component = ""
    # else the file has the dotted key itself
    is_in_section = len(item["loc"]) > 1
    if is_in_section and model and issubclass(model, ComponentSection):
        default = model.model_fields[model.selector].default
        component = document.values[section].get(model.selector, default)
    document.add_fault(
        key,
        "nothing" if item["type"] == "missing" else to_yaml(item["input"]),
        fault_words(key, item, component),
        near=nearest_key(key),
    )


def fault_words(key: str, item: Mapping[str, Any], component: str) -> str:
    """Return what a faulty key accepts, in words.

    Args:
        key: dotted key.
        item: its error of pydantic.
        component: name of the component of its section; "" for other sections.
    """
    if item["type"] == WORDS:
        return str(item["ctx"]["words"])
    if item["type"] != "extra_forbidden":
        return allowed_words(key, component)
    model = SECTIONS.get(key.rpartition(".")[0])
    if component and key in recipe_keys():
        assert model and issubclass(model, ComponentSection)
        fields = settings_model(model.registry[component]).model_fields
        takes = ", ".join(fields) or "no keys"
        return f"nothing: the {model.registry.kind} {component} takes {takes}"
    return explain_unknown(key)


def first_errors(error: ValidationError, sections: Collection[str]) -> dict[str, Any]:
    """Return the first error of each dotted key: a union reports every branch."""
    first: dict[str, Any] = {}
    for item in error.errors(include_url=False):
        depth = 2 if item["loc"][0] in sections else 1
        first.setdefault(".".join(map(str, item["loc"][:depth])), item)
    return first


def dump_recipe(recipe: Recipe) -> str:
    """Return a recipe as YAML with a comment on every key; it loads back equal.

    Keys without an effect are left out.
    """
    infos = Recipe.model_fields
    lines = [
        _dump_key(key, value, infos[key].description)
        for key, value in recipe
        if key not in SECTIONS
    ]
    for name, section in recipe.sections():
        lines += [
            "",
            f"# {SECTIONS[name].about()}",
            f"{name}:" if section else f"{name}: null",
        ]
        if section:
            infos = section.key_infos
            unneeded = section.unneeded
            for key, value in section:
                if key not in unneeded:
                    lines.append(_dump_key(f"  {key}", value, infos[key].description))
    return "\n".join(lines) + "\n"


def _dump_key(label: str, value: Any, description: str | None) -> str:
    return f"{f'{label}: {to_yaml(value)}':<38}  # {description}"


def recipe_keys() -> dict[str, FieldInfo]:
    """Return the pydantic field of every key of a recipe by dotted key.

    The sections `peft` and `loss` have the keys of all installed components.
    """
    keys = {
        key: info for key, info in Recipe.model_fields.items() if key not in SECTIONS
    }
    for name, section in SECTIONS.items():
        keys |= {f"{name}.{key}": info for key, info in section.all_key_infos().items()}
    return keys


def allowed_words(key: str, component: str = "") -> str:
    """Return what a key accepts, in words: "a whole number >= 1, or null".

    Args:
        key: dotted key.
        component: name of the component of its section; without one, the words are
            those of the first component that takes the key.
    """
    if key in SECTIONS:
        return f"a section with keys {', '.join(SECTIONS[key].all_key_infos())}"
    section, _, leaf = key.rpartition(".")
    model: type[Section] = SECTIONS.get(section, Recipe)
    if issubclass(model, ComponentSection) and leaf != model.selector:
        components = model.components()
        if component:
            components = [model.registry[component]]
        models = map(settings_model, components)
        model = next(x for x in models if leaf in x.model_fields)
    return allowed_values(model.model_json_schema()["properties"][leaf])


def explain_unknown(key: str) -> str:
    """Return the message for a dotted key that does not exist."""
    if key in recipe_keys():  # a dotted key in a file
        section, _, leaf = key.partition(".")
        return f"no such key; write {leaf} in the section {section}"
    nearest = nearest_key(key)
    if nearest:
        return f"no such key; did you mean {nearest}?"
    return "no such key; `rsft recipes show` explains them all"


def nearest_key(key: str) -> str:
    """Return the dotted key that was probably meant; "" if none is similar."""
    keys = recipe_keys()
    section, _, leaf = key.rpartition(".")
    siblings = [x.partition(".")[2] for x in keys if x.startswith(f"{section}.")]
    matches = difflib.get_close_matches(leaf, siblings)
    if matches:
        return f"{section}.{matches[0]}"
    namesakes = [name for name in keys if name.rpartition(".")[2] == leaf]
    matches = difflib.get_close_matches(key, namesakes, cutoff=0)
    matches += difflib.get_close_matches(key, [*SECTIONS, *keys])
    return matches[0] if matches else ""
