"""The journal of a store build: a killed build resumes from it.

Rows of the manifest are in it too, so that they need no memory.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rsft.data.chips.record import ChipRecord
from rsft.errors import DataError
from rsft.types import Rejection
from rsft.utils.atomic_files import sha256
from rsft.utils.journal import Journal
from rsft.utils.operating_system import path_to_text, unique_name

ManifestRow = dict[str, Any]
"""Values of one row of the manifest, by column."""

RecordOutcome = tuple[str, ManifestRow | Rejection]
"""Path stem of a record, and the manifest row of its chip or the reason of its
rejection."""

_CHIP_COLUMNS = ("path", "sha256", "split", "class", "bands")
_COLUMNS = (
    "place",  # path stem of the record
    "key",
    "round",  # the last run that contained the record
    *_CHIP_COLUMNS,  # of a chip that was written
    "row",
    "file",  # of a record that was rejected
    "line",
    "reason",
)
_NOT_UTF8 = "the name of the file is not UTF-8 text: rename it"


class BuildJournal(Journal):
    """Records of a build; each is pending, stored or rejected.

    Opening the journal starts a new round. A record keeps its outcome from an earlier
    round if its key is unchanged (so its files are unchanged too) and its chip is
    intact on the disk. `close_round` removes the records that only earlier rounds
    contained.

    Args:
        file: path of the database, which is created if it does not exist.
        store: folder of the store that is built.
    """

    def __init__(self, file: Path, store: Path) -> None:
        super().__init__(file, "build", {"entry": _COLUMNS}, ["entry (path)"])
        self.store = store
        (last_round,) = self.execute("SELECT max(round) FROM entry").fetchone()
        self.round = (last_round or 0) + 1

    def __len__(self) -> int:
        return int(self.execute("SELECT count(*) FROM entry").fetchone()[0])

    def claim(self, record: ChipRecord) -> bool:
        """Register a record in this round.

        Returns:
            False if an earlier round wrote its chip or rejected it.

        Raises:
            DataError: this round has another record of the same split, class and name.
        """
        stem = unique_name(record.path_stem)
        if path_to_text(stem) != stem:  # neither SQLite nor Parquet can store it
            self._add(path_to_text(stem), record, _NOT_UTF8)
            return False
        entry = self.execute(
            "SELECT round, key, path, sha256, reason FROM entry WHERE place = ?",
            (stem,),
        ).fetchone()
        if entry is not None:
            last_round, key, path, digest, reason = entry
            if last_round == self.round:
                raise DataError(
                    f"two chips of {record.label} are called {record.name}",
                    record.source_path,
                    "rename one of them",
                )
            is_done = reason is not None or self._has_file(path, digest)
            if key == record.key() and is_done:
                self.execute(
                    "UPDATE entry SET round = ? WHERE place = ?", (self.round, stem)
                )
                return False
        self._add(stem, record)
        return True

    def record(self, outcomes: list[RecordOutcome]) -> None:
        """Save and commit the outcomes of claimed records."""
        for stem, outcome in outcomes:
            values: dict[str, Any]
            if isinstance(outcome, dict):
                values = {name: outcome[name] for name in _CHIP_COLUMNS}
                values["row"] = json.dumps(outcome, default=_to_json)
            else:
                file, line, reason = outcome
                values = {
                    "file": path_to_text(file),
                    "line": line,
                    "reason": path_to_text(reason),
                }
            changes = ", ".join(f"{name} = ?" for name in values)
            command = f"UPDATE entry SET {changes} WHERE place = ?"
            self.execute(command, (*values.values(), stem))
        self.commit()

    def close_round(self) -> str:
        """Remove the records of earlier rounds.

        Returns:
            The most frequent bands, joined by commas; "" without a chip.

        Raises:
            RsftError: the journal was damaged since it was opened.
        """
        self.commit()
        self.check()
        self.execute("DELETE FROM entry WHERE round < ?", (self.round,))
        self.commit()
        first = self.execute(
            "SELECT bands FROM entry WHERE path NOT NULL GROUP BY bands"
            " ORDER BY count(*) DESC, bands LIMIT 1"
        ).fetchone()
        return str(first[0]) if first else ""

    def counts(self, bands: str) -> Mapping[tuple[str, str], int]:
        """Count the chips with `bands` (joined by commas), by split and class."""
        query = (
            "SELECT split, class, count(*) FROM entry WHERE bands = ?"
            " GROUP BY split, class"
        )
        rows = self.execute(query, (bands,))
        return {(split, name): count for split, name, count in rows}

    def paths(self, name: str, bands: str, numbers: list[int]) -> list[str]:
        """Select chips of one class by their numbers, from 0 in the order of paths.

        Args:
            name: the class.
            bands: names of the bands, joined by commas.
            numbers: numbers of the chips to select.

        Returns:
            Paths relative to the store, in ascending order.
        """
        numbered = (
            "SELECT path, row_number() OVER (ORDER BY path) - 1 AS number FROM entry"
            " WHERE class = ? AND bands = ?"
        )
        listed = ", ".join(map(str, numbers))
        query = f"SELECT path FROM ({numbered}) WHERE number IN ({listed})"
        rows = self.execute(f"{query} ORDER BY number", (name, bands))
        return [path for (path,) in rows]

    def rows(self, bands: str) -> Iterator[ManifestRow]:
        """Yield the manifest rows of chips with `bands`, ordered by path."""
        query = "SELECT row FROM entry WHERE bands = ? ORDER BY path"
        for (row,) in self.execute(query, (bands,)):
            yield json.loads(row)

    def rejections(self, bands: str) -> Iterator[Rejection]:
        """Yield file, line and reason of all rejected records in ascending order.

        Chips with other bands than `bands` (joined by commas) are among them.
        """
        reason = "coalesce(reason, bands || ', but most chips have ' || ?)"
        query = f"SELECT file, line, {reason} FROM entry"
        query += " WHERE bands IS NULL OR bands <> ? ORDER BY 1, 2, 3"
        yield from self.execute(query, (bands, bands))

    def has_chip(self, path: str, bands: str) -> bool:
        """Return whether `path`, relative to the store, is a chip with these bands."""
        query = "SELECT 1 FROM entry WHERE path = ? AND bands = ?"
        return self.execute(query, (path, bands)).fetchone() is not None

    def _add(self, stem: str, record: ChipRecord, reason: str | None = None) -> None:
        """Replace the entry of a record by one without a chip."""
        first = (stem, record.key(), self.round)
        no_chip = [None] * (len(_CHIP_COLUMNS) + 1)
        source = path_to_text(record.source_path)
        self.insert("entry", (*first, *no_chip, source, record.line, reason))

    def _has_file(self, path: str | None, digest: str) -> bool:
        """Return whether a chip is on the disk as it was written."""
        if path is None or not (self.store / path).is_file():
            return False
        return sha256(self.store / path) == digest


def _to_json(value: Any) -> Any:
    """Return a number or array of NumPy as a value of JSON."""
    return value.tolist()
