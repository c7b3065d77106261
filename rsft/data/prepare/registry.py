"""The data sets that `rsft prepare` builds, by name.

They are those of rsft and of other installed packages.

A data set is one function, and its command follows from the function. A parameter
without a default is an argument of the command (`root` is the option --root), the
others are options. An argument whose type has None may be left out. The help of the
command is the first paragraph of the docstring, and the help of an option is its entry
below `Args:`. Parameters behind `overwrite` are for programs. The function imports what
it needs when it is called, because `rsft prepare --help` imports its module.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from rsft.utils.registry import Registry

if TYPE_CHECKING:
    from rsft.data.chips.store import ChipStore

    Notes = Callable[[ChipStore, Mapping[str, Any]], Iterable[str]]

F = TypeVar("F", bound=Callable[..., Any])

DATASETS: Registry[Any] = Registry("data set", "rsft.datasets", "rsft.data.prepare")
"""All data sets by the name of their command."""

PAPER = "Reproduce the paper"
"""Heading of the data sets that only serve to reproduce the paper."""


def data_set(
    name: str,
    heading: str | None = None,
    notes: Notes | None = None,
    *,
    is_published: bool = True,
) -> Callable[[F], F]:
    """Register the decorated function as the command `rsft prepare NAME`.

    Args:
        name: name of the command.
        heading: heading of the command in `rsft prepare --help`; None for the main
            list.
        notes: returns lines that the command prints last, from the chip store and the
            arguments of the function.
        is_published: whether `name` is that of the data set. Otherwise the chips are
            the user's, and recipes find their store by the name of its folder.

    Example:
        >>> @data_set("toy")
        ... def prepare_toy(
        ...     source: Path,
        ...     root: Path,
        ...     overwrite: bool = False,
        ...     progress: Progress | None = None,
        ... ):
        ...     \"\"\"Build a chip store of the toy data set.
        ...
        ...     Args:
        ...         source: Folder of the images.
        ...     \"\"\"
    """

    def register(function: F) -> F:
        vars(function).update(
            name=name,
            heading=heading,
            notes=notes or (lambda store, arguments: ()),
            is_published=is_published,
        )
        DATASETS.register(function)
        return function

    return register


def format_prepare_command(name: str, *arguments: object, **options: object) -> str:
    """Return `rsft prepare NAME ...`, quoted for a shell.

    Args:
        name: the subcommand.
        *arguments: positional arguments, in order.
        **options: option values by name (`min_size` becomes `--min-size`, a tuple a
            text with commas); options that are None or False are omitted, and those
            that are True have no value.
    """
    words = ["rsft", "prepare", name, *map(str, arguments)]
    for option, value in options.items():
        if value is None or value is False:
            continue
        words.append(f"--{option.replace('_', '-')}")
        if type(value) is tuple:  # no named one
            words.append(",".join(value))
        elif isinstance(value, float):
            words.append(f"{value:g}")
        elif value is not True:
            words.append(str(value))
    return shlex.join(words)
