"""What a key accepts, in words."""

from __future__ import annotations

from typing import Any

from rsft.recipe.schema import SECTIONS, Recipe

_NOUNS = {"integer": "a whole number", "number": "a number", "boolean": "true or false", "null": "null"}
_SIGNS = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}


def allowed(key: str) -> str:
    """What a key or section accepts, in words: "a whole number >= 1, or null"."""
    if key in SECTIONS:
        return f"a section with keys {', '.join(SECTIONS[key].model_fields)}"
    section, _, leaf = key.rpartition(".")
    model = SECTIONS.get(section, Recipe)
    return words_of(model.model_json_schema()["properties"][leaf])


def words_of(schema: dict[str, Any]) -> str:
    """What a field of a model's JSON schema accepts."""
    if "anyOf" in schema:
        return ", or ".join(map(words_of, schema["anyOf"]))
    if "words" in schema:
        return str(schema["words"])
    if "const" in schema or "enum" in schema:
        return " | ".join(map(str, schema.get("enum") or [schema["const"]]))
    if schema["type"] == "array":
        return f"a list of {words_of(schema['items']).removeprefix('a ').replace('number', 'numbers')}"
    bounds = " and ".join(f"{sign} {schema[bound]}" for bound, sign in _SIGNS.items() if bound in schema)
    return f"{_NOUNS[schema['type']]} {bounds}".rstrip()
