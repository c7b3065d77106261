"""What can go wrong, said so that the reader can mend it."""

from __future__ import annotations

import signal
from dataclasses import dataclass


class RsftError(Exception):
    """A job failed for a reason that the user can act on.

    Args:
        what: the fault, in one sentence.
        where: the file, key or row it was found in.
        fix: what to do about it.
    """

    exit_code = 1

    def __init__(self, what: str, where: object = "", fix: str = "") -> None:
        super().__init__(what)
        self.what, self.where, self.fix = what, str(where), fix

    def __str__(self) -> str:
        return " | ".join(part for part in (self.what, self.where, self.fix) if part)


class RequestError(RsftError):
    """The request itself was wrong: a bad argument, a missing input, a faulty recipe."""

    exit_code = 2


class DataError(RsftError):
    """Data that was found but cannot be used."""


class WeightsError(RsftError):
    """A checkpoint that is missing, incomplete, altered or not to be trusted."""


class Interrupted(RsftError):
    """The process was told to stop, by the signal `number`, and has saved what it had."""

    def __init__(self, number: int, where: object = "", fix: str = "") -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}", where, fix)
        self.exit_code = 128 + number  # as shells have it


@dataclass(frozen=True)
class Fault:
    """One fault in a recipe: `line` counts from 1, 0 where the key came from the command line."""

    file: str
    line: int
    key: str
    found: str
    allowed: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.key}: found {self.found}; {self.allowed}"


class RecipeError(RequestError):
    """Every fault of a recipe, or of another file `of` keys, at once."""

    def __init__(self, faults: list[Fault], of: str = "recipe") -> None:
        super().__init__(f"{len(faults)} fault{'s' * (len(faults) != 1)} in the {of}", faults[0].file)
        self.faults = faults

    def __str__(self) -> str:
        return "\n".join([self.what, *map(str, self.faults)])
