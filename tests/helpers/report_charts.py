"""Draw equal charts of reports once: tests change one section, and the charts take most
of the time of a report."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import lru_cache
from typing import Any
from unittest import mock

from rsft.evaluation.report import charts


@lru_cache(maxsize=200)
def _draw(draw: Callable[..., object], arguments: bytes) -> object:
    args, kwargs = pickle.loads(arguments)
    return draw(*args, **kwargs)


def equal_charts_drawn_once() -> AbstractContextManager[Any]:
    """Return a context in which a chart with the arguments of an earlier one is not
    drawn again."""

    def drawn_once(draw: Callable[..., object]) -> Callable[..., object]:
        return lambda *args, **kwargs: _draw(draw, pickle.dumps((args, kwargs)))

    functions = {
        name: value
        for name, value in vars(charts).items()
        if hasattr(value, "__wrapped__")
    }
    ours = {
        name: drawn_once(draw)
        for name, draw in functions.items()
        if draw.__module__ == charts.__name__
    }
    return mock.patch.multiple(charts, **ours)
