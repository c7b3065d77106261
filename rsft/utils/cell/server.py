"""The process of the reader cell: it builds its walls, and answers calls.

Requests come from the command, which is trusted, as pickles. Answers are plain data.
"""

import json
import logging
import os
import pickle
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator
from itertools import count
from typing import IO, Any, NamedTuple

from rsft.utils.cell.answers import encode
from rsft.utils.cell.frames import read_blocks, write_blocks
from rsft.utils.cell.named import SETTING
from rsft.utils.cell.walls import Walls, build_walls
from rsft.utils.operating_system import wait_for_end

OUT_OF_MEMORY = 12
"""Exit status of a process that needs more memory than it may have."""
_MAX_NOTE = 10_000  # letters of a traceback
_KNOWN = ("builtins", "rsft.")
"""Starts of the modules whose errors the command knows."""
_PLAIN = (str, int, float, bytes, type(None))

_answers: IO[bytes]
"""Where the messages of this process go, since `serve`."""


class Callback(NamedTuple):
    """A function of the command, which is called there, and returns nothing here."""

    number: int

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        """Send the arguments."""
        _send("call", (self.number, args, kwargs))


LOG = Callback(0)
"""Takes a line of the log: the name of the logger, the level and the text."""
WARN = Callback(1)
"""Takes the text of a warning."""


def serve() -> None:
    """Answer the calls on the standard input until it ends."""
    global _answers
    requests = sys.stdin.buffer
    _answers = os.fdopen(os.dup(1), "wb", 2**20)
    os.dup2(2, 1)  # what libraries print must not come between the answers
    walls: Walls = pickle.load(requests)
    for name in walls.hidden:
        sys.modules[name] = None  # type: ignore[assignment]  # imports of it fail
    paths = [str(path) for path in (*walls.readable, *walls.writable)]
    os.environ[SETTING] = json.dumps([paths, walls.connects])
    build_walls(walls)
    threading.Thread(target=_end_with_command, daemon=True).start()
    logging.getLogger().addHandler(_LogHandler())
    warnings.showwarning = lambda message, *_, **__: WARN(str(message))
    sys.unraisablehook = _print_unraisable
    while (blocks := read_blocks(requests)) is not None:
        try:
            request, dropped = blocks
            function, args, kwargs = pickle.loads(request)
            for number in pickle.loads(dropped):
                _kept.pop(number, None)
            _send("return", function(*args, **kwargs))
        except MemoryError:
            os._exit(OUT_OF_MEMORY)
        except Exception as error:  # whatever a reader raises is an answer
            _send("raise", describe_error(error))


def _end_with_command() -> None:
    """End this process as soon as the command has ended, also during a call.

    On Windows, a call first comes to its end.
    """
    if wait_for_end(sys.stdin.fileno()):
        os._exit(1)


def _print_unraisable(fault: Any) -> None:
    """Print an exception that cannot be raised.

    Left out is that of rasterio for a message of GDAL that is not UTF-8: the error of
    the file is also raised.
    """
    if not isinstance(fault.exc_value, UnicodeDecodeError):
        sys.__unraisablehook__(fault)


class _LogHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        """Send a line of the log."""
        LOG(record.name, record.levelno, record.getMessage())


def _send(kind: str, content: Any) -> None:
    """Send "call", or "return" or "raise", which end a call of the command."""
    write_blocks(_answers, encode([kind, content], _keep))


_kept: dict[int, Any] = {}
"""Objects that stay here, by their number."""
_numbers = count(1)


def _keep(value: Any) -> int:
    number = next(_numbers)
    _kept[number] = value
    return number


def find_kept(number: int) -> Any:
    """Return an object that stays in this process."""
    return _kept[number]


def describe_error(error: Exception) -> tuple[str, str, tuple[Any, ...], Any, str]:
    """Return module and name of the class of an error, its values, and a traceback.

    The class is the first one of Python or rsft. An error that only a library knows is
    a RuntimeError which names it.
    """
    kind = next(x for x in type(error).__mro__ if x.__module__.startswith(_KNOWN))
    note = "".join(traceback.format_exception(error))[-_MAX_NOTE:]
    args: tuple[Any, ...] = error.args
    values = dict(vars(error))
    if kind.__module__ == "builtins":
        values = {}
        if isinstance(error, OSError) and error.filename is not None:
            args = (*args[:2], error.filename)
        if kind is Exception:
            kind = RuntimeError
            args = (f"{type(error).__module__}.{type(error).__qualname__}: {error}",)
        args = tuple(arg if isinstance(arg, _PLAIN) else str(arg) for arg in args)
    return kind.__module__, kind.__qualname__, args, values, note


def take(iterator: Iterator[Any]) -> tuple[bool, Any]:
    """Return whether an iterator has a next item, and this item."""
    for item in iterator:
        return True, item
    return False, None
