"""Show control characters in the names of files, classes and scenes instead of sending them to the terminal.

A name may contain the escape sequences that move the cursor, set the title or hide text, and line breaks that imitate
messages.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import IO, Any

from rich.console import Console, ConsoleDimensions, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text
from typer.core import TyperGroup

PIPED_WIDTH = 10_000
"""Characters in a line of output that does not go to a terminal, so that no line is cut or wrapped."""

_DIRECTIONS = r"\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # change the order of letters
_CONTROLS = re.compile(rf"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029{_DIRECTIONS}]")
_CONTROLS_IN_LINES = re.compile(rf"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029{_DIRECTIONS}]")


def escape_controls(text: str) -> str:
    r"""Return a text in one line, in which control characters are written as in Python, such as \x1b and \n.

    Args:
        text: the text; tabs stay.

    Example:
        >>> print(escape_controls("ship\x1b[2J\nerror:"))
        ship\x1b[2J\nerror:
    """
    return _CONTROLS.sub(_escape, text)


class PlainConsole(Console):
    """A console that prints every text in one line without control characters.

    Texts of several lines are `Text`; it keeps its line breaks, but no other control characters. Output to a file or to
    another program is not fitted to a window, unless the environment variable COLUMNS sets the width.
    """

    @property
    def is_terminal(self) -> bool:
        """Whether the output goes to a terminal.

        FORCE_COLOR does not make it one. Jupyter sets it for the commands of a notebook, and progress bars would fill
        the notebook with control codes.
        """
        is_stated = self._force_terminal is not None or self._environ.get("TTY_COMPATIBLE") == "1"
        return super().is_terminal and (is_stated or self._environ.get("FORCE_COLOR") is None or _is_tty(self.file))

    @property
    def size(self) -> ConsoleDimensions:
        """Width and height in characters; without a terminal, the width is `PIPED_WIDTH`."""
        size = super().size
        is_fitted = self.is_terminal or self._width is not None or "COLUMNS" in os.environ
        return size if is_fitted else ConsoleDimensions(PIPED_WIDTH, size.height)

    @size.setter
    def size(self, size: tuple[int, int]) -> None:
        """Set width and height in characters."""
        self._width, self._height = size

    def render_str(self, text: str, **options: Any) -> Text:
        """Return a text, or a cell of a table, as it is printed."""
        return super().render_str(escape_controls(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Yield the parts of anything that is printed."""
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else _CONTROLS_IN_LINES.sub(_escape, text), style, control)


class PlainFormatter(logging.Formatter):
    """Formats the message of a log record in one line without control characters."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the message, and the traceback of an exception."""
        message = escape_controls(record.getMessage())
        return f"{message}\n{self.formatException(record.exc_info)}" if record.exc_info else message


class PlainGroup(TyperGroup):
    """A group of commands that shows arguments in usage errors without control characters."""

    def make_context(self, *arguments: Any, **options: Any) -> Any:
        """Parse the options of the group."""
        with _plain_usage_errors():
            return super().make_context(*arguments, **options)

    def invoke(self, ctx: Any) -> Any:  # typer has several classes of contexts
        """Parse the arguments of the command, and run it."""
        with _plain_usage_errors():
            return super().invoke(ctx)


def _is_tty(file: IO[str]) -> bool:
    try:
        return file.isatty()
    except ValueError:  # it is closed
        return False


@contextmanager
def _plain_usage_errors() -> Iterator[None]:
    try:
        yield
    except Exception as exception:
        error: Any = exception
        if hasattr(error, "format_message") and isinstance(message := getattr(error, "message", None), str):
            error.message = escape_controls(message)
        raise


def format_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """Return a warning in one line without control characters; replaces `warnings.formatwarning`.

    Args:
        message: the warning.
        category: its type.
        filename: not shown, as `lineno` and `line`, which name code of rsft and not the user's input.
        lineno: not shown.
        line: not shown.
    """
    return f"{category.__name__}: {escape_controls(str(message))}\n"


def _escape(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode()
