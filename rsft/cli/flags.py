"""Flags that stand anywhere on the command line and mean the same in all commands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

FLAGS = {
    "--debug": "debug",
    "--json": "as_json",
    "--overwrite": "overwrite",
    "--quiet": "quiet",
    "-q": "quiet",
}
"""Flags by name -> field of `Flags`."""


@dataclass(frozen=True)
class Flags:
    """The flags of a command.

    A command that has a parameter of the name of a flag is given its value, see
    `rsft.cli.options.CommandFunction`.

    Attributes:
        debug: raise exceptions instead of explaining them.
        as_json: print JSON, one object per line, in place of tables and progress.
        overwrite: replace existing output.
        quiet: print no tables and no progress.
        uses_cell: whether commands open the reader cell, see `rsft.cli.reading`. No
            flag sets it.
    """

    debug: bool = False
    as_json: bool = False
    overwrite: bool = False
    quiet: bool = False
    uses_cell: bool = False


def take_flags(
    words: Sequence[str], *, uses_cell: bool = False
) -> tuple[list[str], Flags]:
    """Return the words of a command line without the flags, and the flags.

    Words behind `--` are arguments.
    """
    end = words.index("--") if "--" in words else len(words)
    given = {FLAGS[word]: True for word in words[:end] if word in FLAGS}
    others = [word for word in words[:end] if word not in FLAGS]
    return [*others, *words[end:]], Flags(**given, uses_cell=uses_cell)
