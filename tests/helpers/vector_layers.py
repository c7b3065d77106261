"""Read vector layers without a process: one takes half a second, and
tests/data/imagery/test_vectors.py tests it."""

import io
import sys
from types import SimpleNamespace
from unittest import mock

from rsft.data.imagery import vectors


def read_layer_here(program: str, data: bytes) -> bytes:
    """Answer a request of `rsft.data.imagery.vectors` in this process; it replaces its
    `run_limited`."""
    source = SimpleNamespace(buffer=io.BytesIO(data))
    answer = SimpleNamespace(buffer=io.BytesIO())
    with (
        mock.patch.multiple(sys, stdin=source, stdout=answer),
        mock.patch.object(vectors, "enter_limits"),
    ):
        # what the limited process of the reader runs, in this process
        vectors._serve()
    return answer.buffer.getvalue()
