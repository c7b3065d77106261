"""Tracker for TensorBoard that writes event files without the package, as the format of scalars is simple and stable.

A file is a sequence of records (TFRecord: length, checksum, content, checksum). A record is a protocol buffer `Event`
(tensorflow/core/util/event.proto). Each record is appended and flushed at once, so that a killed run loses at most the
last record, which readers skip. This tracker needs no package and is on by default.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from rsft.recipe.registries import TRACKERS

if TYPE_CHECKING:
    from rsft.recipe.schema import Recipe

_SESSION_START = 1
_DOUBLE, _BYTES, _FLOAT, _VARINT = 1, 2, 5, 0  # wire types of protocol buffers


@TRACKERS.register
@dataclass(frozen=True)
class TensorBoard:
    """TensorBoard: event files in the folder `tensorboard` of the run."""

    name: ClassVar[str] = "tensorboard"
    title: ClassVar[str] = "TensorBoard"
    packages: ClassVar[tuple[str, ...]] = ()  # TensorBoard is only needed to view the files

    def open(self, recipe: Recipe, folder: Path, record_id: str | None) -> EventFile:
        """Begin an event file. A resumed run begins another file, which replaces the steps that it repeats.

        Args:
            recipe: the recipe of the run.
            folder: the run folder.
            record_id: id of the record to continue; None begins a new one.

        Returns:
            The open record.
        """
        return EventFile(folder / "tensorboard")


class EventFile:
    """One file of scalars.

    Args:
        folder: where the file is created.

    Attributes:
        id: name of the folder, the only information that a resumed run needs.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.id = folder.name
        now = time.time()
        name = f"events.out.tfevents.{now:017.6f}.{socket.gethostname()}.{os.getpid()}"  # readers sort by name
        self._file = (folder / name).open("ab")
        self._begun = False
        self._write(_field(1, now) + _field(3, b"brain.Event:2"))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Append the numbers of a step; the first call replaces this step and later ones in older files.

        Args:
            step: number of training batches since the start of the run.
            values: name -> number.
        """
        if not self._begun:
            self._write(_field(1, time.time()) + _field(2, step) + _field(7, _field(1, _SESSION_START)))
            self._begun = True
        summary = b"".join(_field(1, _field(1, tag.encode()) + _scalar(2, value)) for tag, value in values.items())
        self._write(_field(1, time.time()) + _field(2, step) + _field(5, summary))

    def close(self, failed: bool) -> None:
        """Close the file.

        Args:
            failed: whether the run ended with an error, which the file does not record.
        """
        self._file.close()

    def _write(self, event: bytes) -> None:
        length = struct.pack("<Q", len(event))
        self._file.write(length + _checksum(length) + event + _checksum(event))
        self._file.flush()


def _field(number: int, value: float | int | bytes) -> bytes:
    """Return a field of a protocol buffer: a double, a whole number, or bytes (also for text and messages)."""
    if isinstance(value, bytes):
        return _varint(number << 3 | _BYTES) + _varint(len(value)) + value
    if isinstance(value, int):
        return _varint(number << 3 | _VARINT) + _varint(value)
    return _varint(number << 3 | _DOUBLE) + struct.pack("<d", value)


def _scalar(number: int, value: float) -> bytes:
    """Return a single-precision field of a protocol buffer."""
    return _varint(number << 3 | _FLOAT) + struct.pack("<f", value)


def _varint(value: int) -> bytes:
    low, high = value & 0x7F, value >> 7
    return bytes([low | 0x80]) + _varint(high) if high else bytes([low])


def _crc_table(polynomial: int = 0x82F63B78) -> list[int]:
    """Return the table of CRC-32C (Castagnoli), bits reversed."""
    table = list(range(256))
    for _ in range(8):
        table = [value >> 1 ^ (polynomial if value & 1 else 0) for value in table]
    return table


_CRC_TABLE = _crc_table()


def _checksum(data: bytes) -> bytes:
    """Return TFRecord's masked CRC-32C."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _CRC_TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)
