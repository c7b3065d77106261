"""The journal of a prediction job: the result of each batch, for a killed job."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain, groupby
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pyarrow as pa
import shapely

from rsft.types import Rejection
from rsft.utils.journal import Journal

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


class _StoredBatch(NamedTuple):
    rows: pa.Table
    rejected: list[Any]
    counts: dict[str, int]


class BatchJournal(Journal):
    """The results of the batches of one job, beside its output.

    Args:
        path: path of the database.
        key: hash of everything that determines the results.

    Raises:
        RequestError: another process uses the journal, or its folder cannot be written.
        RsftError: the disk is full.
    """

    def __init__(self, path: Path, key: str) -> None:
        super().__init__(path, key, {"batch": ("number", "rows", "counts")})
        finished = len(self.finished_batches())
        if finished:
            _log.warning("resuming an interrupted job after %d batches", finished)

    def finished_batches(self) -> set[int]:
        """Return the numbers of the batches that are recorded."""
        return {number for (number,) in self.execute("SELECT number FROM batch")}

    def record(self, number: int, result: BatchResult) -> None:
        """Write the result of a batch to disk under its number.

        Raises:
            OSError: the disk is full or cannot be written.
        """
        frame = result.rows
        if len(frame):
            shapes = [shapely.to_wkb(shape) for shape in frame["geometry"]]
            frame = frame.assign(geometry=shapes)
        table = pa.Table.from_pandas(frame, preserve_index=False)
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        counts = json.dumps([result.rejected, result.counts])
        self.insert("batch", (number, bytes(sink.getvalue()), counts))
        self.commit()

    def results(self, merged: int = 1) -> Iterator[BatchResult]:
        """Iterate over all recorded results, in the order of the batch numbers.

        Args:
            merged: up to so many consecutive batches become one result, if their
                columns have the same types.

        Yields:
            Rows, rejected chips and counts.

        Raises:
            RsftError: the journal was damaged since it was opened.
        """
        self.check()
        batches = enumerate(self._read_batches())
        groups = groupby(batches, lambda item: (item[0] // merged, item[1].rows.schema))
        for _, group in groups:
            yield _merge([batch for _, batch in group])

    def _read_batches(self) -> Iterator[_StoredBatch]:
        query = "SELECT rows, counts FROM batch ORDER BY number"
        for rows, counts in self.execute(query):
            rejected, numbers = json.loads(counts)
            with pa.ipc.open_stream(rows) as reader:
                yield _StoredBatch(reader.read_all(), rejected, numbers)


def _merge(batches: Sequence[_StoredBatch]) -> BatchResult:
    """Join batches whose columns have the same types."""
    table = pa.concat_tables([batch.rows for batch in batches])
    rows = table.combine_chunks().to_pandas()
    if len(rows):
        shapes = [shapely.from_wkb(shape) for shape in rows["geometry"]]
        rows["geometry"] = pd.Series(shapes, rows.index, object)
    counts = Counter[str]()
    for batch in batches:
        counts.update(batch.counts)
    rejections = chain.from_iterable(batch.rejected for batch in batches)
    return BatchResult(rows, [tuple(rejection) for rejection in rejections], counts)
