"""Check a sweep file or a file with `method: auto`: all faults at once, with lines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from pydantic import ValidationError

from rsft.errors import Fault, RecipeError
from rsft.recipe.components import Section, allowed_values
from rsft.recipe.load import first_errors
from rsft.recipe.text import COMMAND_LINE, Document, to_yaml

Model = TypeVar("Model", bound=Section)

_SECTIONS = ("grid", "search")
"""Keys of a sweep file whose values are checked one by one."""


def read_keys(model: type[Model], document: Document, name: str, subject: str) -> Model:
    """Return the content of a file.

    Args:
        model: the keys of the file.
        document: the file.
        name: what the file is, such as "a sweep".
        subject: the same in an error, such as "sweep".

    Raises:
        RecipeError: all faults of the document, and those of its keys.
    """
    try:
        content = model.model_validate(document.values)
    except ValidationError as error:
        infos = model.model_json_schema()["properties"]
        for key, item in first_errors(error, _SECTIONS).items():
            section = key.partition(".")[0]
            allowed = f"no such key; {name} has {', '.join(infos)}"
            if section in infos:
                allowed = allowed_values(infos[section])
            value = "nothing"
            if item["type"] != "missing":
                value = to_yaml(item["input"])
            document.add_fault(key, value, allowed)
    raise_faults(document, subject)
    return content


def raise_faults(document: Document, subject: str) -> None:
    """Raise RecipeError if a document has faults; equal ones are named once."""
    if document.faults:
        faults = list(dict.fromkeys(document.faults))
        raise RecipeError(sorted(faults, key=lambda fault: fault.line), subject)


def locate_fault(document: Document, fault: Fault, keys: Sequence[str]) -> Fault:
    """Return a fault of a recipe with the line of its value in another file.

    A fault of the recipe file itself is returned unchanged.

    Args:
        document: the file that changes keys of the recipe.
        fault: a fault of the changed recipe.
        keys: keys of the document that may have the value.
    """
    if not fault.overridden:
        return fault
    for key in keys:
        if key in document.lines:
            line = document.lines[key]
            return Fault(document.file, line, fault.key, fault.value, fault.allowed)
    return Fault(COMMAND_LINE, 0, fault.key, fault.value, fault.allowed)
