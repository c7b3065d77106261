"""Read vector layers without a reader cell: one takes half a second, and
tests/data/imagery/test_vectors.py tests it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class CellHere:
    """A cell that is this process."""

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        return function(*args)


@contextmanager
def reading_here(walls: object, seconds: float) -> Iterator[CellHere]:
    """Yield a cell that is this process; it replaces `reading_cell` of a module."""
    yield CellHere()
