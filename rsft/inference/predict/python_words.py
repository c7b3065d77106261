"""Messages of the command line in words of Python: options become arguments."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from rsft.errors import RsftError

# a whole command stays, with its options
_OPTION = re.compile(r"rsft [a-z][^;,:)]*|(?<![\w-])--([a-z][a-z-]*)")


def name_arguments(text: str) -> str:
    """Return a message that names the arguments of functions.

    The options of a command and the arguments of the function that it calls have the
    same names.

    Example:
        >>> name_arguments("declare the unit with --unit, or give --resample-to 10")
        'declare the unit with `unit`, or give `resample_to` 10'
    """
    return _OPTION.sub(_name_argument, text)


def _name_argument(match: re.Match[str]) -> str:
    option = match[1]
    return match[0] if option is None else f"`{option.replace('-', '_')}`"


@contextmanager
def python_words() -> Iterator[None]:
    """Let the errors of the block name arguments in place of options."""
    try:
        yield
    except RsftError as error:
        error.message = name_arguments(error.message)
        error.location = name_arguments(error.location)
        error.hint = name_arguments(error.hint)
        raise
