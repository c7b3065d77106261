"""Store the results of an unfinished job on disk, so that a killed job can be resumed."""

from __future__ import annotations

import errno
import json
import logging
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import asdict
from itertools import chain, groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd
import pyarrow as pa
import shapely

from rsft.errors import DataError, RequestError
from rsft.types import Rejection
from rsft.utils.atomic_files import (
    compute_checksum,
    is_damage,
    is_in_use,
    is_intact,
    remove_database,
)
from rsft.utils.write_errors import explain_os_error, writing

if TYPE_CHECKING:
    from rsft.scenes.locations import SceneLocations

_TABLES = {
    "job": "CREATE TABLE job (key TEXT NOT NULL, checksum INTEGER NOT NULL)",
    "batch": (
        "CREATE TABLE batch (number INTEGER PRIMARY KEY, rows BLOB NOT NULL, counts"
        " TEXT NOT NULL, checksum INTEGER NOT NULL)"
    ),
    "note": (
        "CREATE TABLE note (name TEXT PRIMARY KEY, value TEXT NOT NULL, checksum"
        " INTEGER NOT NULL) WITHOUT ROWID"
    ),
}
_log = logging.getLogger(__name__)


class BatchResult(NamedTuple):
    """The result of a batch.

    Attributes:
        rows: one row per chip that was classified.
        rejected: file, line and reason for every rejected chip.
        counts: number of tiles without data ("empty"), of gray chips that were stored
            as RGB ("gray"), of values that were read ("values"), and of those below the
            thermal noise, which the calibration raised ("clipped"); and of chips that
            do not name their bands ("unnamed").
    """

    rows: pd.DataFrame
    rejected: list[Rejection]
    counts: Counter[str]


def journal_path(output_path: Path) -> Path:
    """Return the path of the journal of the job that writes `output_path`."""
    return output_path.parent / f".{output_path.name}.journal"


def has_note(path: Path, key: str, name: str, value: str) -> bool:
    """Return whether a journal is of this job and has a note, without any change; False if it is damaged or in use."""
    with suppress(sqlite3.Error), closing(sqlite3.connect(path, timeout=0)) as database:
        query = "SELECT 1 FROM job, note WHERE key = ? AND name = ? AND value = ?"
        return database.execute(query, (key, name, value)).fetchone() is not None
    return False


class ResumeJournal:
    """The results of one job, in an SQLite database beside the output of the job.

    Every batch and every note has a checksum, which is verified before its content is
    decoded. A damaged batch is deleted and computed again. Any other damage deletes the
    journal, and the job starts from the beginning.

    Args:
        path: path of the database.
        key: hash of everything that determines the results. Results of a job with
            another key are deleted.

    Raises:
        RequestError: another process uses the journal, or its folder cannot be written.
        RsftError: the disk is full.
    """

    def __init__(self, path: Path, key: str) -> None:
        self.path = path
        self.key = key
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists() and not (path.is_file() or path.is_dir()):
                message = (
                    "the journal of the job cannot be written: a pipe or a device has"
                    " its name"
                )
                raise RequestError(message, path, "remove it, or write another output")
            with writing(path):
                self._open_or_restart()
        except OSError as error:
            reason = explain_os_error(error, path)
            if error.errno in (
                errno.ENOSPC,
                errno.EDQUOT,
                errno.EFBIG,
                errno.EIO,
            ):  # the request is right
                raise reason from error
            message = f"the journal of the job cannot be written: {reason.message}"
            raise RequestError(message, reason.location, reason.hint) from error
        finished = self.finished_batches()
        if finished:
            _log.warning("resuming an interrupted job after %d batches", len(finished))

    def _open_or_restart(self) -> None:
        """Open the journal; start a new one if it is damaged or belongs to a different job."""
        try:
            reason = self._open()
        except sqlite3.Error as error:
            if is_in_use(error):
                raise RequestError(
                    f"the journal is in use by another job: {error}",
                    self.path,
                    "wait until the other job has finished",
                ) from error
            if not is_damage(error, self.path):
                raise
            reason = f"is damaged ({error})"
        except (
            MemoryError,
            UnicodeDecodeError,
        ):  # a damaged header asks for pages of any size, or is no text
            reason = "is damaged"
        if reason:
            _log.warning("%s %s; the job starts from the beginning", self.path, reason)
            self.database.close()
            remove_database(self.path)
            self._open()

    def _open(self) -> str:
        """Open the database, delete damaged batches, and return why the journal cannot be used; "" if it can."""
        self.database = sqlite3.connect(self.path, timeout=0)
        self.database.text_factory = bytes  # text of a damaged journal may not be UTF-8
        self.database.execute("PRAGMA locking_mode = EXCLUSIVE")
        self.database.execute("BEGIN EXCLUSIVE")
        tables = dict(
            self.database.execute(
                "SELECT name, sql FROM sqlite_master WHERE sql NOT NULL"
            )
        )
        if not tables:
            for command in _TABLES.values():
                self.database.execute(command)
            self.database.execute(
                "INSERT INTO job VALUES (?, ?)", (self.key, compute_checksum(self.key))
            )
            self.database.commit()
            return ""
        if tables != {
            name.encode(): command.encode() for name, command in _TABLES.items()
        }:
            return "is damaged, or another version of rsft wrote it"
        if self.database.execute("PRAGMA quick_check(1)").fetchall() != [(b"ok",)]:
            return "is damaged"
        jobs = self.database.execute("SELECT key, checksum FROM job").fetchall()
        if len(jobs) != 1 or not is_intact(jobs[0][1], jobs[0][0]):
            return "is damaged"
        if jobs[0][0] != self.key.encode():
            return (
                "contains results of a different job, which was interrupted; they are"
                " deleted"
            )
        notes = self.database.execute("SELECT name, value, checksum FROM note")
        if not all(
            is_intact(checksum, self.key, name, value)
            for name, value, checksum in notes
        ):
            return "is damaged"
        batches = self.database.execute(
            "SELECT number, checksum, rows, counts FROM batch"
        )
        damaged = [
            (number,)
            for number, *row in batches
            if not is_intact(row[0], self.key, number, *row[1:])
        ]
        if damaged:
            _log.warning(
                "%s: %d batches are damaged; they are computed again",
                self.path,
                len(damaged),
            )
            self.database.executemany("DELETE FROM batch WHERE number = ?", damaged)
        self.database.commit()
        return ""

    def finished_batches(self) -> set[int]:
        """Return the numbers of the batches that are recorded."""
        return {
            number for (number,) in self.database.execute("SELECT number FROM batch")
        }

    def record(self, number: int, result: BatchResult) -> None:
        """Write the result of a batch to disk under its number.

        Raises:
            OSError: the disk is full or cannot be written.
        """
        frame = result.rows
        counts = json.dumps([result.rejected, result.counts])
        if len(frame):
            frame = frame.assign(
                geometry=[shapely.to_wkb(shape) for shape in frame["geometry"]]
            )
        table = pa.Table.from_pandas(frame, preserve_index=False)
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        rows = bytes(sink.getvalue())
        checksum = compute_checksum(self.key, number, rows, counts)
        with writing(self.path):
            self.database.execute(
                "INSERT INTO batch VALUES (?, ?, ?, ?)",
                (number, rows, counts, checksum),
            )
            self.database.commit()

    def results(self, merged: int = 1) -> Iterator[BatchResult]:
        """Iterate over all recorded results, in the order of the batch numbers.

        Args:
            merged: up to so many consecutive batches become one result, if their
                columns have the same types.

        Yields:
            Rows, rejected chips and counts.

        Raises:
            DataError: a batch was damaged since the journal was opened.
        """
        batches = enumerate(self._batches())
        for _, group in groupby(
            batches, lambda item: (item[0] // merged, item[1][0].schema)
        ):
            tables, rejected, counts = zip(*(batch for _, batch in group), strict=True)
            rows = pa.concat_tables(tables).combine_chunks().to_pandas()
            total = Counter[str]()
            if len(rows):
                shapes = [shapely.from_wkb(shape) for shape in rows["geometry"]]
                rows["geometry"] = pd.Series(shapes, rows.index, object)
            for numbers in counts:
                total.update(numbers)
            yield BatchResult(
                rows,
                [(file, line, reason) for file, line, reason in chain(*rejected)],
                total,
            )

    def _batches(self) -> Iterator[tuple[pa.Table, list[list[Any]], dict[str, int]]]:
        """Yield the recorded rows, rejected chips and counts of each batch."""
        command = "SELECT number, checksum, rows, counts FROM batch ORDER BY number"
        for number, checksum, rows, counts in self.database.execute(command):
            if not is_intact(checksum, self.key, number, rows, counts):
                raise DataError(
                    "the journal was damaged during the job",
                    self.path,
                    "run the same command again",
                )
            rejected, numbers = json.loads(counts)
            with pa.ipc.open_stream(rows) as reader:
                yield reader.read_all(), rejected, numbers

    def set_note(self, name: str, value: str) -> None:
        """Store a text under a name, replacing an earlier one.

        Raises:
            OSError: the disk is full or cannot be written.
        """
        values = (name, value, compute_checksum(self.key, name, value))
        with writing(self.path):
            self.database.execute("REPLACE INTO note VALUES (?, ?, ?)", values)
            self.database.commit()

    def get_note(self, name: str) -> str | None:
        """Return the text that `set_note` stored under a name; None if nothing was stored."""
        row = self.database.execute(
            "SELECT value FROM note WHERE name = ?", (name,)
        ).fetchone()
        return None if row is None else row[0].decode()

    def find_once(
        self, name: str, find: Callable[[], SceneLocations]
    ) -> SceneLocations:
        """Return the objects that an earlier run of the job recorded under a name; else find and record them."""
        from rsft.scenes.locations import Location, SceneLocations

        record = self.get_note(name)
        if record is None:
            objects = find()
            record = json.dumps(
                {
                    "locations": [asdict(x) for x in objects.locations],
                    "notes": objects.notes,
                }
            )
            self.set_note(name, record)
        content = json.loads(record)
        locations = [
            Location(**{**row, "box": tuple(row["box"])})
            for row in content["locations"]
        ]
        return SceneLocations(locations, notes=content["notes"], are_boxes=True)

    def close(self, finished: bool) -> None:
        """Close the database.

        Delete its file if the job is finished or nothing was recorded.
        """
        used = any(
            self.database.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone()
            for table in ("batch", "note")
        )
        self.database.close()
        if finished or not used:
            self.path.unlink()
