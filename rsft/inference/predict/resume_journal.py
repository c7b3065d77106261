"""Store the results of an unfinished job on disk, so that a killed job can be resumed."""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pyarrow as pa
import shapely

from rsft.errors import RequestError
from rsft.types import Rejection
from rsft.utils.write_errors import explain_os_error, writing

_SCHEMA = """
CREATE TABLE IF NOT EXISTS job (key TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS batch (number INTEGER PRIMARY KEY, rows BLOB NOT NULL, facts TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS note (name TEXT PRIMARY KEY, value TEXT NOT NULL);
"""
_log = logging.getLogger(__name__)


class BatchResult(NamedTuple):
    """The result of a batch.

    Attributes:
        rows: one row per chip that was classified.
        rejected: file, line and reason for every rejected chip.
        empty: number of tiles without data.
        gray: number of gray chips that were stored as RGB.
        clipped: number of values below the thermal noise, which the calibration raised to its smallest value.
        values: number of values that were read for the chips.
    """

    rows: pd.DataFrame
    rejected: list[Rejection]
    empty: int
    gray: int
    clipped: int = 0
    values: int = 0


class ResumeJournal:
    """The results of one job, in an SQLite database beside the output of the job.

    Args:
        path: path of the database.
        key: hash of everything that determines the results. Results of a job with another key are deleted.

    Raises:
        RequestError: another process uses the journal, or its folder cannot be written.
    """

    def __init__(self, path: Path, key: str) -> None:
        self.path, self.key = path, key
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with writing(path):
                self._open(key)
        except OSError as error:
            raise _unwritable(error, path) from error
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                message = f"the journal is in use by another job: {error}"
                raise RequestError(message, path, "wait until the other job has finished") from error
            message = f"the file is not a journal of this version of rsft: {error}"
            raise RequestError(message, path, "remove it, and run the same command again") from error
        except sqlite3.DatabaseError:  # the file is not a database, or is damaged
            _log.warning("%s is damaged; the job starts again from the beginning", path)
            path.unlink()
            self._open(key)
        if self.finished_batches():
            _log.warning("resuming an interrupted job after %d batches", len(self.finished_batches()))

    def _open(self, key: str) -> None:
        self.database = sqlite3.connect(self.path, timeout=0)
        self.database.execute("PRAGMA locking_mode = EXCLUSIVE")
        self.database.executescript(_SCHEMA)
        row = self.database.execute("SELECT key FROM job").fetchone()
        if row is not None and row[0] != key:
            _log.warning("%s belongs to a different job that was interrupted; its results are deleted", self.path)
            for table in ("job", "batch", "note"):
                self.database.execute(f"DELETE FROM {table}")
            row = None
        if row is None:
            self.database.execute("INSERT INTO job VALUES (?)", (key,))
        self.database.commit()

    def finished_batches(self) -> set[int]:
        """Return the numbers of the batches that are recorded."""
        return {number for (number,) in self.database.execute("SELECT number FROM batch")}

    def record(self, number: int, result: BatchResult) -> None:
        """Write the result of a batch to disk.

        Args:
            number: number of the batch.
            result: its result.

        Raises:
            OSError: the disk is full or cannot be written.
        """
        counts = json.dumps([result.rejected, *result[2:]])
        with writing(self.path):
            self.database.execute("INSERT INTO batch VALUES (?, ?, ?)", (number, _pack(result.rows), counts))
            self.database.commit()

    def results(self) -> Iterator[BatchResult]:
        """Iterate over all recorded results.

        Yields:
            The results, in the order of the batch numbers.
        """
        for rows, counts in self.database.execute("SELECT rows, facts FROM batch ORDER BY number"):
            rejected, *numbers = json.loads(counts)
            yield BatchResult(_unpack(rows), [(file, line, reason) for file, line, reason in rejected], *numbers)

    def set_note(self, name: str, value: str) -> None:
        """Store a text under a name, replacing an earlier one.

        Args:
            name: the name.
            value: the text.

        Raises:
            OSError: the disk is full or cannot be written.
        """
        with writing(self.path):
            self.database.execute("REPLACE INTO note VALUES (?, ?)", (name, value))
            self.database.commit()

    def get_note(self, name: str) -> str | None:
        """Return the text that `set_note` stored under a name.

        Args:
            name: the name.

        Returns:
            The text; None if nothing was stored.
        """
        row = self.database.execute("SELECT value FROM note WHERE name = ?", (name,)).fetchone()
        return None if row is None else str(row[0])

    def close(self, finished: bool) -> None:
        """Close the database. Delete its file if the job is finished or nothing was recorded."""
        used = any(self.database.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone() for table in ("batch", "note"))
        self.database.close()
        if finished or not used:
            self.path.unlink()


def _unwritable(error: OSError, path: Path) -> RequestError:
    reason = explain_os_error(error, path)
    return RequestError(f"the journal of the job cannot be written: {reason.message}", reason.location, reason.hint)


def _pack(rows: pd.DataFrame) -> bytes:
    flat = rows.assign(geometry=[shapely.to_wkb(shape) for shape in rows["geometry"]]) if len(rows) else rows
    table = pa.Table.from_pandas(flat, preserve_index=False)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def _unpack(data: bytes) -> pd.DataFrame:
    with pa.ipc.open_stream(data) as reader:
        rows: pd.DataFrame = reader.read_all().to_pandas()
    if len(rows):
        rows["geometry"] = pd.Series([shapely.from_wkb(shape) for shape in rows["geometry"]], rows.index, object)
    return rows
