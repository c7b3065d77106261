"""The command that makes a store again."""

from __future__ import annotations

import shlex


def prepare_command(name: str, *arguments: object, **options: object) -> str:
    """`rsft prepare name`, quoted for a shell; an option of None is left out."""
    words = ["rsft", "prepare", name, *map(str, arguments)]
    for option, value in options.items():
        if value is not None:
            words += [f"--{option.replace('_', '-')}", f"{value:g}" if isinstance(value, float) else str(value)]
    return shlex.join(words)
