"""Detect damage in SQLite databases that keep the results of unfinished jobs."""

from __future__ import annotations

import os
import sqlite3
import zlib
from pathlib import Path

_IN_USE = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL)
_NO_ACCESS = (sqlite3.SQLITE_PERM, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN)
_NO_VALUE = b"\xff" * 8  # in place of the length of a value


def compute_checksum(*parts: bytes | str | int | None) -> int:
    """Return the CRC-32 of values, each with its length.

    Args:
        *parts: the values; a text has the checksum of its bytes in UTF-8.
    """
    crc = 0
    for part in parts:
        data = part if isinstance(part, bytes) else str(part).encode()
        crc = zlib.crc32(_NO_VALUE, crc) if part is None else zlib.crc32(data, zlib.crc32(_length(data), crc))
    return crc


def is_intact(stored_checksum: object, *parts: object) -> bool:
    """Return whether values of a database have types that `compute_checksum` takes, and their checksum.

    Args:
        stored_checksum: the checksum that was stored with the values.
        *parts: the values.
    """
    values = [part for part in parts if part is None or isinstance(part, bytes | str | int)]
    return len(values) == len(parts) and stored_checksum == compute_checksum(*values)


def is_in_use(error: sqlite3.Error) -> bool:
    """Return whether another process uses a database.

    Args:
        error: an error of SQLite.
    """
    return _code(error) in _IN_USE


def is_damage(error: sqlite3.Error, path: Path) -> bool:
    """Return whether a database is damaged, rather than in use, on a full disk or without permission.

    Args:
        error: an error of SQLite.
        path: path of the database.
    """
    return _code(error) not in (*_IN_USE, *_NO_ACCESS) and os.access(path, os.R_OK | os.W_OK)


def remove_database(path: Path) -> None:
    """Delete a database and the files that SQLite keeps beside it.

    Args:
        path: path of the database.
    """
    for suffix in ("", "-journal", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _length(data: bytes) -> bytes:
    return len(data).to_bytes(8, "little")


def _code(error: sqlite3.Error) -> int:
    return int(getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)) & 0xFF
