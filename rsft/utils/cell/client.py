"""Call functions in the reader cell, and get their answers.

The files of a stranger are read by functions with the mark `in_cell`. While a cell is
open, these run there. Without one, as in a program that imports rsft, they run here.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from rsft.utils.cell.named import INSIDE, SETTING, read_setting, write_setting
from rsft.utils.cell.walls import Walls
from rsft.utils.remote_files import NO_SERVERS

if TYPE_CHECKING:
    from rsft.utils.cell.processes import ReaderCell

MAX_MEMORY = 2**34
"""Address space of a cell, or on macOS and Windows its resident memory: 16 GiB."""
MAX_SECONDS = 600
"""Seconds of one call."""

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


def in_cell(
    function: Callable[_Arguments, _Result],
) -> Callable[_Arguments, _Result]:
    """Let a function run in the reader cell while one is open.

    Its arguments can be pickled, except for functions that are called for their effect,
    such as `progress`: these are called here, and return nothing. Its result is plain
    data, see `rsft.utils.cell.answers`; other objects stay in the cell, and can be
    called and passed to such functions.

    Example:
        >>> @in_cell
        ... def count_bytes(path: Path) -> int:
        ...     return path.stat().st_size
    """

    @wraps(function)
    def call(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
        cell = current_cell()
        if not cell:
            return function(*args, **kwargs)
        result: _Result = cell.call(call, *args, **kwargs)
        return result

    return call


def open_cell(readable: Iterable[Path], *, connects: bool = False) -> None:
    """Open the cell of this program and of the processes that it starts.

    Args:
        readable: files and folders that it may read.
        connects: whether it may contact servers.
    """
    global _cell
    if _cell:
        _cell.close()
    _cell = None
    # a worker may have another working folder
    write_setting([str(path.absolute()) for path in readable], connects)


@contextmanager
def separate_cell() -> Iterator[None]:
    """Let a command that runs within another one open a cell of its own.

    At the end of the block, the cell and the servers are those of the outer command.
    """
    global _cell
    outer = _cell
    settings = {name: os.environ.get(name) for name in (SETTING, NO_SERVERS)}
    _cell = None
    try:
        yield
    finally:
        if _cell:
            _cell.close()
        _cell = outer
        for name, value in settings.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def allow_reading(path: Path) -> None:
    """Let the open cell also read a folder that this command has made.

    Processes that run already keep what they may read, and end when their objects are
    no longer used.
    """
    cell = current_cell()
    if not cell:
        return
    path = path.absolute()  # a worker may have another working folder
    paths, connects = read_setting(os.environ[SETTING])
    if not {str(path), *map(str, path.parents)}.intersection(paths):
        write_setting([*paths, str(path)], connects)
    cell.allow(path)


def is_inside() -> bool:
    """Return whether this process is that of a cell."""
    return INSIDE in os.environ


_cell: "ReaderCell | None" = None


def current_cell() -> "ReaderCell | None":
    """Return the open cell; each process that a command starts has its own."""
    global _cell
    if not _cell or _cell.owner != os.getpid():
        setting = os.environ.get(SETTING)
        if not setting or is_inside():
            return None
        # most commands read no foreign file, and start without NumPy
        from rsft.utils.cell.processes import ReaderCell

        paths, connects = read_setting(setting)
        walls = Walls(tuple(map(Path, paths)), MAX_MEMORY, connects)
        _cell = ReaderCell(walls, MAX_SECONDS)
    return _cell
