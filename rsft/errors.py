"""Exceptions that rsft raises on purpose: a message, a location and a hint."""

import signal
from dataclasses import dataclass
from typing import Any


class RsftError(Exception):
    """Base class of errors that the user can act on.

    Args:
        message: what is wrong, in one sentence.
        location: the file, key or row at fault.
        hint: how to fix it.

    Attributes:
        exit_code: exit status of the command line for this class of errors.

    Example:
        >>> print(RsftError("the file is empty", "a.tif", "copy it again"))
        the file is empty | a.tif | copy it again
    """

    exit_code = 1

    def __init__(self, message: str, location: object = "", hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.location = str(location)
        self.hint = hint

    def __reduce__(self) -> tuple[Any, ...]:
        """Return how to make a copy in another process, whatever the arguments are."""
        return _restore, (type(self), self.args, self.__dict__)

    def __str__(self) -> str:
        return " | ".join(
            part for part in (self.message, self.location, self.hint) if part
        )


def _restore(
    kind: type[RsftError], args: tuple[Any, ...], fields: dict[str, Any]
) -> RsftError:
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(fields)
    return error


class RequestError(RsftError):
    """The request is wrong: a bad argument, a missing input, a faulty recipe."""

    exit_code = 2


class DataError(RsftError):
    """Data exists but cannot be used."""


class WeightsError(RsftError):
    """A checkpoint is missing, incomplete, altered or not safe to load."""


class NetworkError(RsftError):
    """A server cannot be reached, or does not send a file.

    The job stops and can be resumed.
    """


class Interrupted(RsftError):
    """A signal stopped the process, and its work is saved.

    Args:
        signal_number: the signal; the exit code is 128 plus this number, as in shells.
        location: the folder with the saved work.
        hint: how to continue.
    """

    def __init__(
        self, signal_number: int, location: object = "", hint: str = ""
    ) -> None:
        super().__init__(
            f"stopped by {signal.Signals(signal_number).name}", location, hint
        )
        self.exit_code = 128 + signal_number


@dataclass(frozen=True)
class Fault:
    """One fault in a recipe or sweep file.

    Attributes:
        file: path of the file, or "command line".
        line: line number from 1; 0 if the key came from the command line.
        key: dotted key, such as "train.lr".
        value: the value of the key, as text.
        allowed: the values that the key accepts.
        overridden: whether the value is from the command line.
    """

    file: str
    line: int
    key: str
    value: str
    allowed: str
    overridden: bool = False

    @property
    def found(self) -> str:
        """The value, and where it is from if not from the file."""
        if self.overridden:
            return f"{self.value} (command line)"
        return self.value

    def __str__(self) -> str:
        if self.line:
            location = f"{self.file}:{self.line}"
        else:
            location = self.file
        return f"{location}: {self.key}: found {self.found}; {self.allowed}"

    def as_json(self) -> dict[str, str | int]:
        """Return the fields under their keys in the JSON error event."""
        return {
            "file": self.file,
            "line": self.line,
            "key": self.key,
            "found": self.found,
            "allowed": self.allowed,
        }


class RecipeError(RequestError):
    """All faults of one file.

    Args:
        faults: at least one fault.
        subject: what the file is: "recipe" or "sweep".
    """

    def __init__(self, faults: list[Fault], subject: str = "recipe") -> None:
        super().__init__(
            f"{len(faults)} fault{'s' * (len(faults) != 1)} in the {subject}",
            faults[0].file,
        )
        self.faults = faults

    def __str__(self) -> str:
        return "\n".join([self.message, *map(str, self.faults)])
