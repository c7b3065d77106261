"""Messages between a command and its reader cell: blocks of bytes."""

import struct
from collections.abc import Sequence
from typing import IO, Any

MAX_BYTES = 2**32
"""Largest message: 4 GiB, as the largest image."""

_SIZE = struct.Struct("<Q")
_BLOCK_OVERHEAD = 64
"""Bytes of memory for any block, so that empty ones are limited as well."""


def write_blocks(stream: IO[bytes], blocks: Sequence[Any]) -> None:
    """Write a message, and send it."""
    stream.write(_SIZE.pack(len(blocks)))
    for block in blocks:
        stream.write(_SIZE.pack(memoryview(block).nbytes))
        stream.write(block)
    stream.flush()


def read_blocks(stream: IO[bytes]) -> list[bytearray] | None:
    """Read a message; None if the other side has ended.

    Raises:
        ValueError: the message is larger than `MAX_BYTES`.
        EOFError: it ends early.
    """
    head = stream.read(_SIZE.size)
    if len(head) < _SIZE.size:
        return None
    blocks = []
    total = 0
    (count,) = _SIZE.unpack(head)
    for _ in range(count):
        (size,) = _SIZE.unpack(_read(stream, _SIZE.size))
        total += size + _BLOCK_OVERHEAD
        if total > MAX_BYTES:
            raise ValueError(f"an answer of more than {MAX_BYTES:,} bytes")
        blocks.append(_read(stream, size))
    return blocks


def _read(stream: IO[bytes], size: int) -> bytearray:
    """Read exactly `size` bytes."""
    data = bytearray(size)
    # a buffered stream has it, and fills the array unless it ends
    if stream.readinto(data) < size:  # type: ignore[attr-defined]
        raise EOFError
    return data
