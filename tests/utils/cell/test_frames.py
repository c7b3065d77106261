"""Messages as bytes."""

import io

import numpy as np
import pytest

from rsft.utils.cell import frames
from rsft.utils.cell.frames import read_blocks, write_blocks


def test_a_message_is_read_as_it_was_written():
    stream = io.BytesIO()
    array = np.arange(3, dtype=np.uint16)
    write_blocks(stream, [b"text", b"ab", array.data, b""])
    write_blocks(stream, [])
    stream.seek(0)
    assert read_blocks(stream) == [b"text", b"ab", array.tobytes(), b""]
    assert read_blocks(stream) == []
    assert read_blocks(stream) is None


@pytest.mark.parametrize("blocks", [[b"text", b"1" * 50], [b""] * 3])
def test_a_message_has_a_largest_size(monkeypatch, blocks):
    """Also one of empty blocks, which need memory as well."""
    stream = io.BytesIO()
    write_blocks(stream, blocks)
    size = sum(len(block) + 64 for block in blocks)
    for limit, is_read in ((size - 1, False), (size, True)):
        stream.seek(0)
        monkeypatch.setattr(frames, "MAX_BYTES", limit)
        if is_read:
            assert read_blocks(stream) == blocks
            continue
        with pytest.raises(ValueError, match="more than"):
            read_blocks(stream)


def test_a_message_that_ends_early():
    stream = io.BytesIO()
    write_blocks(stream, [b"text", b"12345"])
    for size in (9, 20, 26):
        with pytest.raises(EOFError):
            read_blocks(io.BytesIO(stream.getvalue()[:size]))
