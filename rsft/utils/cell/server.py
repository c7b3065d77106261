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
from collections.abc import Callable, Iterator
from itertools import count
from typing import IO, Any, NamedTuple, cast

from rsft.utils.cell.answers import encode
from rsft.utils.cell.frames import Frame, read_frame, write_frame
from rsft.utils.cell.named import SETTING
from rsft.utils.cell.walls import Walls, build_walls
from rsft.utils.operating_system import wait_for_end

OUT_OF_MEMORY = 12
"""Exit status of a process that needs more memory than it may have."""
_MAX_NOTE = 10_000  # letters of a traceback
_PLAIN = (str, int, float, bytes, type(None))


class Callback(NamedTuple):
    """Stands for a function of the command among the arguments of a call."""

    number: int


def serve() -> None:
    """Answer the calls on the standard input until it ends."""
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb", 2**20)
    os.dup2(2, 1)  # what libraries print must not come between the answers
    first = read_frame(requests)
    if first is None:
        return
    walls: Walls = pickle.loads(first.text)
    for name in walls.hidden:
        sys.modules[name] = None  # type: ignore[assignment]  # imports of it fail
    paths = [str(path) for path in (*walls.readable, *walls.writable)]
    os.environ[SETTING] = json.dumps([paths, walls.connects])
    build_walls(walls)
    threading.Thread(target=_end_with_command, daemon=True).start()
    _Server(requests, answers).run()


def _end_with_command() -> None:
    """End this process as soon as the command has ended, also during a call.

    On Windows, a call first comes to its end.
    """
    if wait_for_end(sys.stdin.fileno()):
        os._exit(1)


class _Server(logging.Handler):
    def __init__(self, requests: IO[bytes], answers: IO[bytes]) -> None:
        super().__init__()
        self._requests = requests
        self._answers = answers
        logging.getLogger().addHandler(self)
        warnings.showwarning = cast("Any", self._show_warning)

    def run(self) -> None:
        while (frame := read_frame(self._requests)) is not None:
            try:
                self._send("return", self._answer(frame))
            except MemoryError:
                os._exit(OUT_OF_MEMORY)
            except Exception as error:  # whatever a reader raises is an answer
                self._send("raise", describe_error(error))

    def _answer(self, frame: Frame) -> Any:
        function, args, kwargs = pickle.loads(frame.text)
        for number in pickle.loads(frame.parts[0]):
            _kept.pop(number, None)
        kwargs = {name: self._take(value) for name, value in kwargs.items()}
        return function(*map(self._take, args), **kwargs)

    def emit(self, record: logging.LogRecord) -> None:
        """Send a line of the log, or a warning."""
        self._send("log", (record.name, record.levelno, record.getMessage()))

    def _show_warning(
        self, message: Warning | str, category: type[Warning], *_: Any, **__: Any
    ) -> None:
        self._send("warning", (category.__name__, str(message)))

    def _take(self, argument: Any) -> Any:
        """Return an argument; for a callback a function that calls it."""
        if not isinstance(argument, Callback):
            return argument

        def call(*args: Any, **kwargs: Any) -> None:
            self._send("callback", (argument.number, args, kwargs))

        return call

    def _send(self, kind: str, content: Any) -> None:
        """Send "return" or "raise", which end a call, or what comes before it.

        That is "log", "warning" or "callback".
        """
        write_frame(self._answers, encode([kind, content], _keep))


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
    """Return module and name of the class of an error, its values, and a traceback."""
    kinds = [
        kind
        for kind in type(error).__mro__
        if kind.__module__ == "builtins" or kind.__module__.startswith("rsft.")
    ]
    kind = type(error) if kinds[0] is Exception else kinds[0]
    args: tuple[Any, ...] = error.args
    if isinstance(error, OSError) and error.filename is not None:
        args = (*args[:2], error.filename)
    fields = dict(vars(error))
    if not kind.__module__.startswith("rsft."):
        args = tuple(arg if isinstance(arg, _PLAIN) else str(arg) for arg in args)
        fields = {}
    note = "".join(traceback.format_exception(error))[-_MAX_NOTE:]
    return kind.__module__, kind.__qualname__, args, fields, note


def call(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call an object that stayed in the cell."""
    return function(*args, **kwargs)


def take(iterator: Iterator[Any]) -> tuple[bool, Any]:
    """Return whether an iterator has a next item, and this item."""
    for item in iterator:
        return True, item
    return False, None
