"""What a job has done so far, on disk, so that it can be killed at any moment and go on."""

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

_SCHEMA = """
CREATE TABLE IF NOT EXISTS job (key TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS batch (number INTEGER PRIMARY KEY, rows BLOB NOT NULL, facts TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS note (name TEXT PRIMARY KEY, value TEXT NOT NULL);
"""
_log = logging.getLogger(__name__)


class Done(NamedTuple):
    """What became of a batch.

    Attributes:
        rows: of the chips that were classified.
        refused: file, line and reason of each that was not.
        empty: tiles without data.
        grey: chips of which one band out of three equal ones was used.
    """

    rows: pd.DataFrame
    refused: list[tuple[str, int, str]]
    empty: int
    grey: int


class Journal:
    """The batches of one job, in a database beside its output."""

    def __init__(self, file: Path, key: str) -> None:
        """Open the journal of the job `key`; that of another job in its place is given up."""
        self.file, self.key = file, key
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._open(key)
        except sqlite3.OperationalError as error:
            raise RequestError(
                f"another job writes there, or nothing can: {error}", file, "wait until it is done"
            ) from error
        except sqlite3.DatabaseError:  # no database, or a damaged one
            _log.warning("%s is damaged; the job begins anew", file)
            file.unlink()
            self._open(key)
        if self.done():
            _log.warning("going on with a job that was stopped after %d batches", len(self.done()))

    def _open(self, key: str) -> None:
        self.database = sqlite3.connect(self.file, timeout=0)
        self.database.execute("PRAGMA locking_mode = EXCLUSIVE")
        self.database.executescript(_SCHEMA)
        found = self.database.execute("SELECT key FROM job").fetchone()
        if found is not None and found[0] != key:
            _log.warning("%s: another job was stopped there; its work is given up", self.file)
            for table in ("job", "batch", "note"):
                self.database.execute(f"DELETE FROM {table}")
            found = None
        if found is None:
            self.database.execute("INSERT INTO job VALUES (?)", (key,))
        self.database.commit()

    def done(self) -> set[int]:
        """The batches that need not be done again."""
        return {number for (number,) in self.database.execute("SELECT number FROM batch")}

    def settle(self, number: int, batch: Done) -> None:
        """Note what became of a batch, for good."""
        facts = json.dumps([batch.refused, batch.empty, batch.grey])
        self.database.execute("INSERT INTO batch VALUES (?, ?, ?)", (number, _pack(batch.rows), facts))
        self.database.commit()

    def batches(self) -> Iterator[Done]:
        """What became of all, in order."""
        for rows, facts in self.database.execute("SELECT rows, facts FROM batch ORDER BY number"):
            refused, empty, grey = json.loads(facts)
            yield Done(_unpack(rows), [(file, line, reason) for file, line, reason in refused], empty, grey)

    def note(self, name: str, value: str) -> None:
        """Keep a text by name."""
        self.database.execute("REPLACE INTO note VALUES (?, ?)", (name, value))
        self.database.commit()

    def noted(self, name: str) -> str | None:
        """The text of that name."""
        found = self.database.execute("SELECT value FROM note WHERE name = ?", (name,)).fetchone()
        return None if found is None else str(found[0])

    def close(self, finished: bool) -> None:
        """Let go of the file, which goes when the job is finished, or had not begun."""
        used = any(self.database.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone() for table in ("batch", "note"))
        self.database.close()
        if finished or not used:
            self.file.unlink()


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
