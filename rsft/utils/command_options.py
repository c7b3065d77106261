"""Describe how the command line offers a field of a dataclass, as metadata of its type."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Option:
    """An option of a command, in `Annotated[type, Option(...)]`.

    `rsft.cli.options.documented` makes it.

    Attributes:
        help: what the option does.
        name: its name; "" for that of the field.
        panel: heading under which the help lists it.
        metavar: placeholder of its value; None for the type.
        min: smallest value.
        each: returns help texts by name: the field is a mapping, and each name is an
            option of its own.
    """

    help: str
    name: str = ""
    panel: str = "Options"
    metavar: str | None = None
    min: float | None = None
    each: Callable[[], Mapping[str, str]] | None = None
