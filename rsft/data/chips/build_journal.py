"""What a build has done so far, on disk, so that it can be killed at any moment and needs no memory for its rows."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rsft.data.chips.record import Record
from rsft.errors import DataError
from rsft.types import Rejection
from rsft.utils.atomic_files import sha256

Row = dict[str, Any]  # of the manifest
Outcome = tuple[str, Row | Rejection]  # the place of a record, and what became of it

_TABLE = """
CREATE TABLE IF NOT EXISTS entry (
    place TEXT PRIMARY KEY,
    key TEXT NOT NULL,
    round INTEGER NOT NULL,  -- the last run that met the record
    path TEXT, sha256 TEXT, split TEXT, class TEXT, bands TEXT, row TEXT,  -- of a chip that was written
    file TEXT NOT NULL, line INTEGER NOT NULL, reason TEXT  -- of a record that was rejected
) WITHOUT ROWID
"""


class Journal:
    """The records of the build in `folder`, each open, stored or rejected.

    Each opening is a new round. A record of an earlier round keeps its outcome if its `key` is the same, so that none
    of its files has changed, and its chip is on disk, whole; one that no longer comes is forgotten by `close_round`.
    """

    def __init__(self, file: Path, folder: Path) -> None:
        self.folder = folder
        self.database = sqlite3.connect(file)
        self.database.execute(_TABLE)
        self.database.execute("CREATE INDEX IF NOT EXISTS by_path ON entry (path)")
        self.round: int = self.database.execute("PRAGMA user_version").fetchone()[0] + 1
        self.database.execute(f"PRAGMA user_version = {self.round}")
        self.database.commit()

    def __len__(self) -> int:
        return int(self.database.execute("SELECT count(*) FROM entry").fetchone()[0])

    def claim(self, record: Record) -> bool:
        """Whether the record is still to be worked on.

        Raises:
            DataError: this round has met another of its name.
        """
        place, key = record.place, record.key()
        columns = "round, key, path, sha256, reason"
        found = self.database.execute(f"SELECT {columns} FROM entry WHERE place = ?", (place,)).fetchone()
        if found is not None:
            last, old_key, path, digest, reason = found
            if last == self.round:
                what = f"two chips of {record.label} are called {record.name}"
                raise DataError(what, record.origin, "rename one of them")
            if key == old_key and (reason is not None or (path is not None and self._is_whole(path, digest))):
                self.database.execute("UPDATE entry SET round = ? WHERE place = ?", (self.round, place))
                return False
        values = (place, key, self.round, str(record.origin), record.line)
        self.database.execute("REPLACE INTO entry (place, key, round, file, line) VALUES (?, ?, ?, ?, ?)", values)
        return True

    def settle(self, outcomes: list[Outcome]) -> None:
        """Note what became of records, for good."""
        for place, outcome in outcomes:
            if isinstance(outcome, dict):
                values = [outcome[name] for name in ("path", "sha256", "split", "class", "bands")]
                command = (
                    "UPDATE entry SET path = ?, sha256 = ?, split = ?, class = ?, bands = ?, row = ? WHERE place = ?"
                )
                self.database.execute(command, (*values, json.dumps(outcome, default=_plain), place))
            else:
                command = "UPDATE entry SET file = ?, line = ?, reason = ? WHERE place = ?"
                self.database.execute(command, (*outcome, place))
        self.database.commit()

    def close_round(self) -> str:
        """Forget what this round has not met; return the commonest bands, joined by commas ("" without a chip)."""
        self.database.execute("DELETE FROM entry WHERE round < ?", (self.round,))
        self.database.commit()
        command = "SELECT bands FROM entry WHERE path NOT NULL GROUP BY bands ORDER BY count(*) DESC, bands LIMIT 1"
        found = self.database.execute(command).fetchone()
        return str(found[0]) if found else ""

    def counts(self, bands: str) -> Mapping[tuple[str, str], int]:
        """Chips with these bands, by split and class."""
        command = "SELECT split, class, count(*) FROM entry WHERE bands = ? GROUP BY split, class"
        return {(split, name): count for split, name, count in self.database.execute(command, (bands,))}

    def paths(self, name: str, bands: str, numbers: list[int]) -> list[str]:
        """Of the chips of a class with these bands, by path, those with these numbers from 0."""
        counted = (
            "SELECT path, row_number() OVER (ORDER BY path) - 1 AS number FROM entry WHERE class = ? AND bands = ?"
        )
        wanted = ", ".join(map(str, numbers))
        command = f"SELECT path FROM ({counted}) WHERE number IN ({wanted}) ORDER BY number"
        return [path for (path,) in self.database.execute(command, (name, bands))]

    def rows(self, bands: str) -> Iterator[Row]:
        """The rows of the manifest with these bands, by path."""
        for (row,) in self.database.execute("SELECT row FROM entry WHERE bands = ? ORDER BY path", (bands,)):
            yield json.loads(row)

    def rejections(self, bands: str) -> Iterator[Rejection]:
        """What was rejected, and chips with other bands than these, by file and line."""
        reason = "coalesce(reason, bands || ', but most chips have ' || ?)"
        command = f"SELECT file, line, {reason} FROM entry WHERE bands IS NULL OR bands <> ? ORDER BY 1, 2, 3"
        yield from self.database.execute(command, (bands, bands))

    def knows(self, path: str, bands: str) -> bool:
        """Whether `path` is a chip with these bands."""
        found = self.database.execute("SELECT 1 FROM entry WHERE path = ? AND bands = ?", (path, bands))
        return found.fetchone() is not None

    def close(self) -> None:
        """Let go of the file."""
        self.database.close()

    def _is_whole(self, path: str, digest: str) -> bool:
        """A power cut may leave less of a file than was written."""
        chip = self.folder / path
        return chip.is_file() and sha256(chip) == digest


def _plain(value: object) -> object:
    """NumPy's numbers and arrays as JSON has them."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is nothing that the manifest can hold")
