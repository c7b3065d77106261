"""Messages as bytes."""

import io

import numpy as np
import pytest

from rsft.utils.cell import frames
from rsft.utils.cell.frames import Frame, read_frame, write_frame


def test_a_message_is_read_as_it_was_written():
    stream = io.BytesIO()
    array = np.arange(3, dtype=np.uint16)
    write_frame(stream, Frame(b"text", [b"ab", array.data, b""]))
    write_frame(stream, Frame(b"", []))
    stream.seek(0)
    text, parts = read_frame(stream)
    assert text == b"text"
    assert [bytes(part) for part in parts] == [b"ab", array.tobytes(), b""]
    assert read_frame(stream) == (b"", [])
    assert read_frame(stream) is None


def test_a_message_has_a_largest_size(monkeypatch):
    stream = io.BytesIO()
    write_frame(stream, Frame(b"text", [b"1" * 50]))
    data = stream.getvalue()
    for limit in (3, 20):
        monkeypatch.setattr(frames, "MAX_BYTES", limit)
        with pytest.raises(ValueError, match="more than"):
            read_frame(io.BytesIO(data))


def test_a_message_that_ends_early():
    stream = io.BytesIO()
    write_frame(stream, Frame(b"text", [b"12345"]))
    with pytest.raises(EOFError):
        read_frame(io.BytesIO(stream.getvalue()[:-1]))
