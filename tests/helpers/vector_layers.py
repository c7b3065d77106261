"""Read vector layers without a reader cell: one takes half a second, and
tests/data/imagery/test_vectors.py tests it."""

from collections.abc import Callable
from typing import Any


class CellHere:
    """A cell that is this process; it replaces `ReaderCell` of a module."""

    def __init__(self, walls: object, seconds: float) -> None:
        """Take what a cell takes."""

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        return function(*args)

    def close(self) -> None:
        """End no process."""
