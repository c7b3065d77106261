"""Messages between a command and its reader cell: one text and parts of bytes."""

import struct
from collections.abc import Sequence
from typing import IO, Any, NamedTuple

MAX_BYTES = 2**32
"""Largest message: 4 GiB, as the largest image."""

_HEAD = struct.Struct("<QI")  # bytes of the text, number of parts
_SIZE = struct.Struct("<Q")


class Frame(NamedTuple):
    """A message: a text and parts that it refers to."""

    text: bytes
    parts: Sequence[Any]


def write_frame(stream: IO[bytes], frame: Frame) -> None:
    """Write a message, and send it."""
    sizes = [_SIZE.pack(memoryview(part).nbytes) for part in frame.parts]
    head = _HEAD.pack(len(frame.text), len(frame.parts))
    stream.write(b"".join([head, *sizes, frame.text]))
    for part in frame.parts:
        stream.write(part)
    stream.flush()


def read_frame(stream: IO[bytes]) -> Frame | None:
    """Read a message; None if the other side has ended.

    Raises:
        ValueError: the message is larger than `MAX_BYTES`.
    """
    head = stream.read(_HEAD.size)
    if len(head) < _HEAD.size:
        return None
    length, count = _HEAD.unpack(head)
    if length + count * _SIZE.size > MAX_BYTES:
        raise ValueError(f"an answer of more than {MAX_BYTES:,} bytes")
    table = _read(stream, count * _SIZE.size)
    text = _read(stream, length)
    sizes = [size for (size,) in _SIZE.iter_unpack(table)] if table else []
    if sum(sizes) > MAX_BYTES:
        raise ValueError(f"an answer of more than {MAX_BYTES:,} bytes")
    return Frame(bytes(text), [_read(stream, size) for size in sizes])


def _read(stream: IO[bytes], size: int) -> bytearray:
    """Read exactly `size` bytes."""
    data = bytearray(size)
    rest = memoryview(data)
    while rest:
        # buffered streams have it
        count = stream.readinto(rest)  # type: ignore[attr-defined]
        if not count:
            raise EOFError
        rest = rest[count:]
    return data
