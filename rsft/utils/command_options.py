"""Describe how a command offers a parameter or a field, as metadata of its type.

`rsft.cli.options` makes the arguments and options of commands from them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from enum import Flag, auto
from typing import Any, get_type_hints


class Access(Flag):
    """What a command does with the files that a parameter names.

    `rsft.cli.reading` decides by it what may be read.

    Attributes:
        READ: it reads them.
        WRITE: it writes them.
        BESIDE: it writes beside them, if no other parameter says where to write.
        BUNDLE: it reads the files of a bundle by their names, and the weights that its
            recipe names.
        OBJECTS: they are labels, whose classes may have their names in a folder above.
        ONLINE: it asks servers if the value is true.
        OFFLINE: it asks servers if no value is given.
    """

    READ = auto()
    WRITE = auto()
    BESIDE = auto()
    BUNDLE = auto()
    OBJECTS = auto()
    ONLINE = auto()
    OFFLINE = auto()


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
        parse: makes the value of the text that is given; of all texts, if it is
            repeated.
        is_repeated: whether the option may be given several times.
        each: returns help texts by name: the field is a mapping, and each name is an
            option of its own, a path.
        access: what the command does with the files that it names.
    """

    help: str = ""
    name: str = ""
    panel: str | None = None
    metavar: str | None = None
    min: float | None = None
    short: str = ""
    parse: Callable[[Any], Any] | None = None
    is_repeated: bool = False
    each: Callable[[], Mapping[str, str]] | None = None
    access: Access = Access.READ


@dataclass(frozen=True)
class Argument(Option):
    """An argument of a command; a parameter with a default needs it.

    Its attributes are `help`, `metavar` and `access` of `Option`.
    """


def option_values(request: Any) -> dict[str, Any]:
    """Return the values of the options of a dataclass by their names.

    Example:
        >>> from rsft.scenes.query import CfarOptions
        >>> option_values(CfarOptions(pfa=1e-4))["pfa"]
        0.0001
    """
    values: dict[str, Any] = {}
    hints = get_type_hints(type(request), include_extras=True)
    for item in fields(request):
        value = getattr(request, item.name)
        if is_dataclass(value):
            values |= option_values(value)
        for mark in getattr(hints[item.name], "__metadata__", ()):
            if isinstance(mark, Option) and mark.each:
                values |= value
            elif isinstance(mark, Option):
                name = mark.name.removeprefix("--").replace("-", "_")
                values[name or item.name] = value
    return values
