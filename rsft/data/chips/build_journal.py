"""The journal of a store build: a killed build resumes from it.

Rows of the manifest are in it too, so that they need no memory.
"""

import json
from collections.abc import Iterator
from operator import methodcaller
from pathlib import Path

from rsft.data.chips.record import ChipRecord
from rsft.errors import DataError
from rsft.types import JsonObject, Rejection
from rsft.utils.atomic_files import sha256
from rsft.utils.journal import Journal
from rsft.utils.operating_system import path_to_text, unique_name

RecordOutcome = tuple[str, JsonObject | Rejection]
"""Path stem of a record, and the manifest row of its chip or the reason of its
rejection."""

_COLUMNS = (
    "place",  # path stem of the record
    "key",
    "round",  # the last run that contained the record
    "file",
    "line",
    "row",  # of the manifest, for a chip that was written
    "reason",  # of a rejection
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

    Attributes:
        bands: the most frequent bands of the chips, joined by commas; "" without a
            chip. Chips with other bands are rejected.
    """

    bands = ""

    def __init__(self, file: Path, store: Path) -> None:
        super().__init__(
            file, "build", {"entry": _COLUMNS}, ["entry (json_extract(row, '$.path'))"]
        )
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
            "SELECT round, key, row, reason FROM entry WHERE place = ?", (stem,)
        ).fetchone()
        if entry:
            last_round, key, row, reason = entry
            if last_round == self.round:
                raise DataError(
                    f"two chips of {record.label} are called {record.name}",
                    record.source_path,
                    "rename one of them",
                )
            is_done = reason is not None or self._has_file(row)
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
            if isinstance(outcome, dict):
                # numbers and arrays of NumPy
                row = json.dumps(outcome, default=methodcaller("tolist"))
                self.execute("UPDATE entry SET row = ? WHERE place = ?", (row, stem))
            else:
                file, line, reason = outcome
                self.execute(
                    "UPDATE entry SET file = ?, line = ?, reason = ? WHERE place = ?",
                    (path_to_text(file), line, path_to_text(reason), stem),
                )
        self.commit()

    def close_round(self) -> None:
        """Remove the records of earlier rounds, and set `bands`.

        Raises:
            RsftError: the journal was damaged since it was opened.
        """
        self.commit()
        self.check()
        self.execute("DELETE FROM entry WHERE round < ?", (self.round,))
        self.commit()
        first = self.execute(
            "SELECT json_extract(row, '$.bands') AS bands FROM entry WHERE row NOT NULL"
            " GROUP BY bands ORDER BY count(*) DESC, bands LIMIT 1"
        ).fetchone()
        self.bands = str(first[0]) if first else ""

    def train_counts(self) -> dict[str, int]:
        """Count the training chips with the most frequent bands by class."""
        rows = self.execute(
            "SELECT json_extract(row, '$.class'), count(*) FROM entry"
            " WHERE json_extract(row, '$.bands') = ?"
            " AND json_extract(row, '$.split') = 'train' GROUP BY 1",
            (self.bands,),
        )
        return dict(rows)

    def sources(self) -> set[str]:
        """Return the sources of the chips with the most frequent bands."""
        rows = self.execute(
            "SELECT DISTINCT json_extract(row, '$.source') FROM entry"
            " WHERE json_extract(row, '$.bands') = ?",
            (self.bands,),
        )
        return {source for (source,) in rows}

    def rows(self) -> Iterator[JsonObject]:
        """Yield the manifest rows of chips with the most frequent bands, by path."""
        for (row,) in self.execute(
            "SELECT row FROM entry WHERE json_extract(row, '$.bands') = ?"
            " ORDER BY json_extract(row, '$.path')",
            (self.bands,),
        ):
            yield json.loads(row)

    def rejections(self) -> Iterator[Rejection]:
        """Yield file, line and reason of all rejected records in ascending order.

        Chips with other bands than the most frequent ones are among them.
        """
        yield from self.execute(
            "SELECT file, line, coalesce(reason, json_extract(row, '$.bands')"
            " || ', but most chips have ' || ?) FROM entry"
            " WHERE row IS NULL OR json_extract(row, '$.bands') <> ? ORDER BY 1, 2, 3",
            (self.bands, self.bands),
        )

    def has_chip(self, path: str) -> bool:
        """Return whether `path`, relative to the store, is a chip of the manifest."""
        row = self.execute(
            "SELECT 1 FROM entry WHERE json_extract(row, '$.path') = ?"
            " AND json_extract(row, '$.bands') = ?",
            (path, self.bands),
        ).fetchone()
        return row is not None

    def _add(self, stem: str, record: ChipRecord, reason: str | None = None) -> None:
        """Replace the entry of a record by one without a chip."""
        source = path_to_text(record.source_path)
        values = (stem, record.key(), self.round, source, record.line, None, reason)
        self.insert("entry", values)

    def _has_file(self, row: str | None) -> bool:
        """Return whether the chip of a row is on the disk as it was written."""
        if not row:
            return False
        chip: JsonObject = json.loads(row)
        file = self.store / chip["path"]
        return file.is_file() and sha256(file) == str(chip["sha256"])
