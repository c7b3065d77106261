"""The allowed values of a key in words."""

from __future__ import annotations

from typing import Any

_NOUNS = {"integer": "a whole number", "number": "a number", "boolean": "true or false", "null": "null"}
_SIGNS = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}


def allowed_values(schema: dict[str, Any]) -> str:
    """Return what a field accepts, in words such as "a whole number >= 1, or null".

    Args:
        schema: JSON schema of the field.
    """
    if "anyOf" in schema:
        return ", or ".join(map(allowed_values, schema["anyOf"]))
    if "words" in schema:
        return str(schema["words"])
    if "const" in schema or "enum" in schema:
        return " | ".join(map(str, schema.get("enum") or [schema["const"]]))
    if schema["type"] == "array":
        return f"a list of {allowed_values(schema['items']).removeprefix('a ').replace('number', 'numbers')}"
    bounds = " and ".join(f"{sign} {_plain(schema[bound])}" for bound, sign in _SIGNS.items() if bound in schema)
    return f"{_NOUNS[schema['type']]} {bounds}".rstrip()


def _plain(bound: float) -> float:
    """Return a whole number as int: pydantic before 2.10 writes the bound 0 of a float as 0.0."""
    return int(bound) if float(bound).is_integer() else bound
