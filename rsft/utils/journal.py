"""The journal of an unfinished job: rows in an SQLite database, from which it resumes.

Every row has a checksum, and every journal the key of its job. A journal that is
damaged, or that another job wrote, is deleted, and the job starts from the beginning.
"""

import logging
import os
import sqlite3
import zlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any

from rsft.errors import RequestError, RsftError
from rsft.utils.write_errors import explain_os_error, writing

_NOTES = {"job": ("key",), "note": ("name", "value")}
_IN_USE = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL)
_NO_ACCESS = (
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
)
_log = logging.getLogger(__name__)


class Journal:
    """Notes and rows of one unfinished job.

    Args:
        path: the database, which is made if it does not exist.
        key: hash of everything that determines the results.
        tables: columns of each table, of which the first is its primary key.
        indexes: further columns by which a table is searched, as "table (column)".

    Raises:
        RequestError: another process uses the journal.
        RsftError: the disk is full, or the folder cannot be written.
    """

    def __init__(
        self,
        path: Path,
        key: str,
        tables: Mapping[str, Sequence[str]] = MappingProxyType({}),
        indexes: Sequence[str] = (),
    ) -> None:
        self.path = path
        self.key = key
        self.tables = tuple(tables)
        self._schema = [
            _create_table(name, columns)
            for name, columns in {**_NOTES, **tables}.items()
        ]
        for number, index in enumerate(indexes):
            self._schema.append(f"CREATE INDEX index_{number} ON {index}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with writing(path):
                self._open_or_restart()
        except OSError as error:
            raise explain_os_error(error, path) from error

    def execute(self, command: str, values: Sequence[Any] = ()) -> "sqlite3.Cursor":
        """Run a command of SQL; `commit` makes its changes permanent.

        Raises:
            OSError: the disk is full or cannot be written.
        """
        with writing(self.path):
            return self._database.execute(command, values)

    def insert(self, table: str, values: Sequence[Any]) -> None:
        """Add a row, or replace the one with the same primary key.

        Raises:
            OSError: the disk is full or cannot be written.
        """
        marks = ", ".join("?" * len(values))
        self.execute(f"REPLACE INTO {table} VALUES ({marks})", values)

    def commit(self) -> None:
        """Write all changes to the disk.

        Raises:
            OSError: the disk is full or cannot be written.
        """
        with writing(self.path):
            self._database.commit()

    def set_note(self, name: str, value: str) -> None:
        """Store a text under a name at once, replacing an earlier one.

        Raises:
            OSError: the disk is full or cannot be written.
        """
        self.insert("note", (name, value))
        self.commit()

    def get_note(self, name: str) -> str | None:
        """Return the text that is stored under a name; None for no text."""
        row = self.execute("SELECT value FROM note WHERE name = ?", (name,)).fetchone()
        return str(row[0]) if row else None

    def check(self) -> None:
        """Raise an error if the journal was damaged since it was opened.

        Raises:
            RsftError: a row does not have its checksum.
        """
        if not self._is_intact():
            raise RsftError(
                "the journal was damaged during the job",
                self.path,
                "check the disk, then run the same command again",
            )

    def close(self, finished: bool) -> None:
        """Close the database; delete it if the job is finished or has no rows."""
        is_used = any(
            self.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone()
            for table in ("note", *self.tables)
        )
        self._database.close()
        if finished or not is_used:
            # SQLite leaves its own journal if a killed job wrote it, and this only read
            remove_database(self.path)

    def _open_or_restart(self) -> None:
        fault = self._open()
        if not fault:
            return
        _log.warning("%s %s; the job starts from the beginning", self.path, fault)
        self._database.close()
        remove_database(self.path)
        self._open()

    def _open(self) -> str:
        """Open the database, and return why it cannot be used; "" if it can."""
        self._database = sqlite3.connect(self.path, timeout=0)
        self._database.create_function("crc", -1, _checksum, deterministic=True)
        try:
            return self._prepare()
        except sqlite3.Error as error:
            if _code(error) in _IN_USE:
                raise RequestError(
                    f"the journal is in use by another job: {error}",
                    self.path,
                    "wait until the other job has finished",
                ) from error
            if not is_damage(error, self.path):
                raise
            return f"is damaged ({error})"
        except (MemoryError, UnicodeDecodeError):  # pages of any size, bytes as text
            return "is damaged"

    def _prepare(self) -> str:
        """Make or check the tables, and return why they cannot be used."""
        database = self._database
        database.execute("PRAGMA locking_mode = EXCLUSIVE")
        database.execute("BEGIN EXCLUSIVE")
        query = "SELECT sql FROM sqlite_master WHERE sql NOT NULL ORDER BY rowid"
        schema = [command for (command,) in database.execute(query)]
        if not schema:
            for command in self._schema:
                database.execute(command)
            self.insert("job", (self.key,))
        elif schema != self._schema:
            return "is damaged, or another version of rsft wrote it"
        elif not self._is_intact():
            return "is damaged"
        elif database.execute("SELECT key FROM job").fetchall() != [(self.key,)]:
            return "contains results of a different job, which are deleted"
        database.commit()
        return ""

    def _is_intact(self) -> bool:
        """Return whether pages, indexes and the checksums of all rows are right."""
        faults = self._database.execute("PRAGMA integrity_check(1)").fetchall()
        return faults == [("ok",)]


def journal_path(output_path: Path) -> Path:
    """Return the path of the journal of the job that writes `output_path`."""
    return output_path.parent / f".{output_path.name}.journal"


def has_note(path: Path, key: str, name: str, value: str) -> bool:
    """Return whether a journal is of this job and has a note.

    The journal stays as it is. One that is damaged or in use has none.
    """
    with suppress(sqlite3.Error), closing(sqlite3.connect(path, timeout=0)) as database:
        query = "SELECT 1 FROM job, note WHERE key = ? AND name = ? AND value = ?"
        return database.execute(query, (key, name, value)).fetchone() is not None
    return False


def is_damage(error: sqlite3.Error, path: Path) -> bool:
    """Return whether a database is damaged.

    Else it is in use, the disk is full, or its permission is missing.
    """
    has_access = os.access(path, os.R_OK | os.W_OK)
    return has_access and _code(error) not in (*_IN_USE, *_NO_ACCESS)


def remove_database(path: Path) -> None:
    """Delete a database and the files that SQLite keeps beside it."""
    for suffix in ("", "-journal", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _create_table(name: str, columns: Iterable[str]) -> str:
    """Return the command for a table whose rows have checksums.

    The checksum is stored with its row, and the constraint computes it again, so that
    an integrity check notices every change of a row.
    """
    listed = ", ".join(columns)
    key = listed.partition(",")[0]
    return (
        f"CREATE TABLE {name} ({listed},"
        f" checksum INTEGER GENERATED ALWAYS AS (crc({listed})) STORED,"
        f" PRIMARY KEY ({key}), CHECK (checksum IS crc({listed}))) WITHOUT ROWID"
    )


def _checksum(*values: Any) -> int:
    """Return the CRC-32 of values, each with its type and length."""
    crc = 0
    for value in values:
        data = value if isinstance(value, bytes) else repr(value).encode()
        crc = zlib.crc32(f"{type(value).__name__} {len(data)}".encode(), crc)
        crc = zlib.crc32(data, crc)
    return crc


def _code(error: sqlite3.Error) -> int:
    return int(getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)) & 0xFF
