"""The shell command that rebuilds a store."""

from __future__ import annotations

import shlex


def format_prepare_command(name: str, *arguments: object, **options: object) -> str:
    """Return `rsft prepare NAME ...`, quoted for a shell.

    Args:
        name: the subcommand.
        *arguments: positional arguments, in order.
        **options: option values by name (`min_side` becomes `--min-side`); options that are None are omitted,
            and those that are True have no value.
    """
    words = ["rsft", "prepare", name, *map(str, arguments)]
    for option, value in options.items():
        if value is True:
            words.append(f"--{option.replace('_', '-')}")
        elif value is not None:
            words += [f"--{option.replace('_', '-')}", f"{value:g}" if isinstance(value, float) else str(value)]
    return shlex.join(words)
