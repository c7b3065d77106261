"""TensorBoard's event files, written without TensorBoard: scalars are all that a run has, and their format is frozen.

A file is a sequence of records (TFRecord: length, checksum, content, checksum), a record is a protocol buffer `Event`
(tensorflow/core/util/event.proto). Records are appended and flushed one by one, so that a killed run loses at most the
last, which readers skip. Needing no package, it is on by default.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Mapping
from pathlib import Path

from rsft.recipe.schema import Recipe

_SESSION_START = 1
_DOUBLE, _BYTES, _FLOAT, _VARINT = 1, 2, 5, 0  # protobuf's wire types


def open_run(recipe: Recipe, folder: Path, known: str | None) -> EventFile:
    """Event files in tensorboard/; a resumed run begins another one, from which readers know what is void."""
    return EventFile(folder / "tensorboard")


class EventFile:
    """One file of scalars.

    Attributes:
        id: the folder's name: nothing else is needed to go on.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.id = folder.name
        now = time.time()
        name = f"events.out.tfevents.{now:017.6f}.{socket.gethostname()}.{os.getpid()}"  # readers go by the name
        self._file = (folder / name).open("ab")
        self._begun = False
        self._write(_field(1, now) + _field(3, b"brain.Event:2"))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Append the numbers; before the first of them, that what other files hold from this step on is void."""
        if not self._begun:
            self._write(_field(1, time.time()) + _field(2, step) + _field(7, _field(1, _SESSION_START)))
            self._begun = True
        summary = b"".join(_field(1, _field(1, tag.encode()) + _scalar(2, value)) for tag, value in values.items())
        self._write(_field(1, time.time()) + _field(2, step) + _field(5, summary))

    def close(self, failed: bool) -> None:
        """Nothing more comes."""
        self._file.close()

    def _write(self, event: bytes) -> None:
        length = struct.pack("<Q", len(event))
        self._file.write(length + _checksum(length) + event + _checksum(event))
        self._file.flush()


def _field(number: int, value: float | int | bytes) -> bytes:
    """A field of a protocol buffer: a double, a whole number, or bytes (text and messages too)."""
    if isinstance(value, bytes):
        return _varint(number << 3 | _BYTES) + _varint(len(value)) + value
    if isinstance(value, int):
        return _varint(number << 3 | _VARINT) + _varint(value)
    return _varint(number << 3 | _DOUBLE) + struct.pack("<d", value)


def _scalar(number: int, value: float) -> bytes:
    """A single-precision field."""
    return _varint(number << 3 | _FLOAT) + struct.pack("<f", value)


def _varint(value: int) -> bytes:
    low, rest = value & 0x7F, value >> 7
    return bytes([low | 0x80]) + _varint(rest) if rest else bytes([low])


def _table(polynomial: int = 0x82F63B78) -> list[int]:
    """Of CRC-32C (Castagnoli), bits reversed."""
    table = list(range(256))
    for _ in range(8):
        table = [value >> 1 ^ (polynomial if value & 1 else 0) for value in table]
    return table


_TABLE = _table()


def _checksum(data: bytes) -> bytes:
    """TFRecord's masked CRC-32C."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)
