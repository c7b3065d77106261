"""Describe how a command offers a parameter or a field, as metadata of its type.

`rsft.cli.options` makes the arguments and options of commands from them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Option:
    """An option of a command, in `Annotated[type, Option(...)]`.

    Attributes:
        help: what the option does; "" for the entry of the parameter below `Args:` in
            the docstring of its function.
        name: its name; "" for that of the parameter or field.
        panel: heading under which the help lists it.
        metavar: placeholder of its value; None for the type.
        min: smallest value.
        short: a second name of one letter, such as "-o".
        parse: makes the value of the text that is given.
        each: returns help texts by name: the field is a mapping, and each name is an
            option of its own, a path.
    """

    help: str = ""
    name: str = ""
    panel: str | None = None
    metavar: str | None = None
    min: float | None = None
    short: str = ""
    parse: Callable[[str], Any] | None = None
    each: Callable[[], Mapping[str, str]] | None = None


@dataclass(frozen=True)
class Argument:
    """An argument of a command; a parameter with a default needs it.

    Attributes:
        help: what it names, as in `Option`.
        metavar: placeholder of its value; None for the name of the parameter.
    """

    help: str = ""
    metavar: str | None = None
