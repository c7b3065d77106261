"""SQLite journal of a store build: a killed build resumes from it, and manifest rows need no memory."""

import json
import logging
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rsft.data.chips.record import ChipRecord
from rsft.errors import DataError, RsftError
from rsft.types import Rejection
from rsft.utils.atomic_files import compute_checksum, is_damage, remove_database, sha256
from rsft.utils.operating_system import unique_name

ManifestRow = dict[str, Any]
"""Values of one row of the manifest, by column."""

RecordOutcome = tuple[str, ManifestRow | Rejection]
"""Path stem of a record, and the manifest row of its chip or the reason of its
rejection."""

_TABLE = """
CREATE TABLE entry (
    place TEXT PRIMARY KEY,  -- path stem of the record
    key TEXT NOT NULL,
    round INTEGER NOT NULL,  -- the last run that contained the record
    path TEXT, sha256 TEXT, split TEXT, class TEXT, bands TEXT, row TEXT,  -- of a chip that was written
    file TEXT NOT NULL, line INTEGER NOT NULL, reason TEXT,  -- of a record that was rejected
    checksum INTEGER  -- of all other columns
) WITHOUT ROWID
"""
_COLUMNS = [
    "place",
    "key",
    "round",
    "path",
    "sha256",
    "split",
    "class",
    "bands",
    "row",
    "file",
    "line",
    "reason",
]
_CHECKSUM = f"crc({', '.join(f'CAST({name} AS BLOB)' for name in _COLUMNS)})"
_IS_DAMAGED = (
    f"checksum IS NOT {_CHECKSUM} OR 'blob' IN"
    f" ({', '.join(f'typeof({name})' for name in _COLUMNS)})"
)

_NOT_UTF8 = "the name of the file is not UTF-8 text: rename it"
_log = logging.getLogger(__name__)


class BuildJournal:
    """Records of a build; each is pending, stored or rejected.

    Opening the journal starts a new round. A record keeps its outcome from an earlier
    round if its key is unchanged (so its files are unchanged too) and its chip is
    intact on the disk. `close_round` removes the records that only earlier rounds
    contained.

    Every entry has a checksum. A damaged entry is deleted, so that its chip is written
    again; any other damage deletes the journal, and the build starts from the
    beginning.

    Args:
        file: path of the database, which is created if it does not exist.
        store: folder of the store that is built.
    """

    def __init__(self, file: Path, store: Path) -> None:
        self.store = store
        self.file = file
        self.database = _open_or_restart(file)
        self.round: int = (
            self.database.execute("SELECT max(round) FROM entry").fetchone()[0] or 0
        ) + 1

    def __len__(self) -> int:
        return int(self.database.execute("SELECT count(*) FROM entry").fetchone()[0])

    def claim(self, record: ChipRecord) -> bool:
        """Register a record in this round; return False if an earlier round wrote its chip or rejected it.

        Raises:
            DataError: this round has another record of the same split, class and name.
        """
        stem = unique_name(record.path_stem)
        key = record.key()
        if (
            stem != stem.encode(errors="replace").decode()
        ):  # neither SQLite nor Parquet can store it
            columns = "place, key, round, file, line, reason"
            rejection = (
                _as_text(stem),
                key,
                self.round,
                _as_text(record.source_path),
                record.line,
                _NOT_UTF8,
            )
            self.database.execute(
                f"REPLACE INTO entry ({columns}) VALUES (?, ?, ?, ?, ?, ?)", rejection
            )
            self._seal(rejection[0])
            return False
        columns = "round, key, path, sha256, reason"
        entry = self.database.execute(
            f"SELECT {columns} FROM entry WHERE place = ?", (stem,)
        ).fetchone()
        if entry is not None:
            last_round, old_key, path, digest, reason = entry
            if last_round == self.round:
                raise DataError(
                    f"two chips of {record.label} are called {record.name}",
                    record.source_path,
                    "rename one of them",
                )
            is_written = path is not None and (self.store / path).is_file()
            if key == old_key and (
                reason is not None
                or (is_written and sha256(self.store / path) == digest)
            ):
                self.database.execute(
                    "UPDATE entry SET round = ? WHERE place = ?", (self.round, stem)
                )
                self._seal(stem)
                return False
        values = (stem, key, self.round, _as_text(record.source_path), record.line)
        self.database.execute(
            "REPLACE INTO entry (place, key, round, file, line) VALUES (?, ?, ?, ?, ?)",
            values,
        )
        self._seal(stem)
        return True

    def record(self, outcomes: list[RecordOutcome]) -> None:
        """Save and commit the outcomes of claimed records."""
        for stem, outcome in outcomes:
            if isinstance(outcome, dict):
                values = [
                    outcome[name]
                    for name in ("path", "sha256", "split", "class", "bands")
                ]
                names = "path = ?, sha256 = ?, split = ?, class = ?, bands = ?, row = ?"
                command = f"UPDATE entry SET {names} WHERE place = ?"
                row = json.dumps(
                    outcome, default=lambda value: value.tolist()
                )  # a number or array of NumPy
                self.database.execute(command, (*values, row, stem))
            else:
                command = (
                    "UPDATE entry SET file = ?, line = ?, reason = ? WHERE place = ?"
                )
                file, line, reason = outcome
                self.database.execute(
                    command, (_as_text(file), line, _as_text(reason), stem)
                )
            self._seal(stem)
        self.database.commit()

    def close_round(self) -> str:
        """Remove records of earlier rounds; return the most frequent bands, joined by commas; "" without a chip.

        Raises:
            RsftError: the journal was damaged since it was opened.
        """
        if self.database.execute(
            f"SELECT 1 FROM entry WHERE {_IS_DAMAGED} LIMIT 1"
        ).fetchone():
            raise RsftError(
                "the journal was damaged during the build",
                self.file,
                (
                    "check the disk, then run the same command again: it resumes where it"
                    " stopped"
                ),
            )
        self.database.execute("DELETE FROM entry WHERE round < ?", (self.round,))
        self.database.commit()
        command = (
            "SELECT bands FROM entry WHERE path NOT NULL GROUP BY bands ORDER BY"
            " count(*) DESC, bands LIMIT 1"
        )
        first = self.database.execute(command).fetchone()
        if first:
            return str(first[0])
        return ""

    def counts(self, bands: str) -> Mapping[tuple[str, str], int]:
        """Count the chips with `bands` (joined by commas), by split and class."""
        command = (
            "SELECT split, class, count(*) FROM entry WHERE bands = ? GROUP BY split,"
            " class"
        )
        return {
            (split, name): count
            for split, name, count in self.database.execute(command, (bands,))
        }

    def paths(self, name: str, bands: str, numbers: list[int]) -> list[str]:
        """Select paths of chips of one class, which are numbered from 0 in the order of their paths.

        Args:
            name: the class.
            bands: names of the bands, joined by commas.
            numbers: numbers of the chips to select.

        Returns:
            Paths relative to the store, in ascending order.
        """
        numbered = (
            "SELECT path, row_number() OVER (ORDER BY path) - 1 AS number FROM entry"
        )
        numbered += " WHERE class = ? AND bands = ?"
        command = (
            f"SELECT path FROM ({numbered}) WHERE number IN"
            f" ({', '.join(map(str, numbers))}) ORDER BY number"
        )
        return [path for (path,) in self.database.execute(command, (name, bands))]

    def rows(self, bands: str) -> Iterator[ManifestRow]:
        """Yield the manifest rows of chips with `bands` (joined by commas), in ascending order of paths."""
        for (row,) in self.database.execute(
            "SELECT row FROM entry WHERE bands = ? ORDER BY path", (bands,)
        ):
            yield json.loads(row)

    def rejections(self, bands: str) -> Iterator[Rejection]:
        """Yield the rejected records, and chips with other bands than `bands`: file, line and reason, ascending."""
        reason = "coalesce(reason, bands || ', but most chips have ' || ?)"
        command = (
            f"SELECT file, line, {reason} FROM entry WHERE bands IS NULL OR bands <> ?"
            " ORDER BY 1, 2, 3"
        )
        yield from self.database.execute(command, (bands, bands))

    def has_chip(self, path: str, bands: str) -> bool:
        """Return True if `path`, relative to the store, is a chip with these bands (joined by commas)."""
        cursor = self.database.execute(
            "SELECT 1 FROM entry WHERE path = ? AND bands = ?", (path, bands)
        )
        return cursor.fetchone() is not None

    def close(self) -> None:
        """Close the database."""
        self.database.close()

    def _seal(self, stem: str) -> None:
        """Store the checksum of an entry that was changed."""
        self.database.execute(
            f"UPDATE entry SET checksum = {_CHECKSUM} WHERE place = ?", (stem,)
        )


def _open_or_restart(file: Path) -> sqlite3.Connection:
    """Open a journal; start a new one if it is damaged."""
    database = sqlite3.connect(file)
    try:
        is_usable = _prepare(database, file)
    except (
        sqlite3.Error,
        MemoryError,
    ) as error:  # a damaged header asks for pages of any size
        if isinstance(error, sqlite3.Error) and not is_damage(error, file):
            raise
        is_usable = False
    if not is_usable:
        _log.warning("%s is damaged; the build starts from the beginning", file)
        database.close()
        remove_database(file)
        database = sqlite3.connect(file)
        _prepare(database, file)
    return database


def _prepare(database: sqlite3.Connection, file: Path) -> bool:
    """Make the table, verify its entries, and delete damaged ones; return False if the database is damaged."""
    database.create_function("crc", -1, compute_checksum, deterministic=True)
    columns = [name for _, name, *_ in database.execute("PRAGMA table_info(entry)")]
    if not columns:
        database.execute(_TABLE)
        database.execute("CREATE INDEX by_path ON entry (path)")
    elif columns != [*_COLUMNS, "checksum"]:
        return False
    if database.execute("PRAGMA integrity_check(1)").fetchall() != [("ok",)]:
        return False
    damaged = database.execute(f"DELETE FROM entry WHERE {_IS_DAMAGED}").rowcount
    if damaged:
        _log.warning(
            "%s: %d entries are damaged; their chips are written again", file, damaged
        )
    database.commit()
    return True


def _as_text(value: object) -> str:
    return str(value).encode(errors="backslashreplace").decode()
