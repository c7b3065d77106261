"""The journal of a prediction job: the result of each batch, for a killed job."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import shapely

from rsft.inference.writers.columns import DECIMALS, probability_columns
from rsft.types import Rejection
from rsft.utils.journal import Journal

_SCALE = 10.0**DECIMALS
_log = logging.getLogger(__name__)


class BatchResult(NamedTuple):
    """The result of a batch.

    Attributes:
        rows: one row per chip that was classified.
        rejected: file, line and reason for every rejected chip.
        counts: number of tiles without data ("empty"), of gray chips that were stored
            as RGB ("gray"), of values below the thermal noise, which the calibration
            raised ("clipped"), and of chips that do not name their bands ("unnamed").
    """

    rows: pd.DataFrame
    rejected: list[Rejection]
    counts: Counter[str]


class BatchJournal(Journal):
    """The results of the batches of one job, beside its output.

    Args:
        path: path of the database.
        key: hash of everything that determines the results.
        classes: names of the C classes. A journal stores the probabilities of a chip as
            one list of C integers: multiples of the last decimal of a table.

    Raises:
        RequestError: another process uses the journal, or its folder cannot be written.
        RsftError: the disk is full.
    """

    def __init__(self, path: Path, key: str, classes: Sequence[str]) -> None:
        super().__init__(path, key, {"batch": ("number", "chips", "counts")})
        self._columns = probability_columns(classes)
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
            shapes = shapely.to_wkb(frame["geometry"].to_numpy(object))
            values = np.rint(frame[self._columns].to_numpy() * _SCALE).astype(np.int32)
            frame = frame.drop(columns=self._columns)
            frame = frame.assign(geometry=shapes, probabilities=list(values))
        table = pa.Table.from_pandas(frame, preserve_index=False)
        sink = pa.BufferOutputStream()
        options = pa.ipc.IpcWriteOptions(compression="zstd")
        with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
            writer.write_table(table)
        counts = json.dumps([result.rejected, result.counts])
        self.insert("batch", (number, bytes(sink.getvalue()), counts))
        self.commit()

    def collect(self) -> BatchResult:
        """Return all recorded results together, in the order of the batch numbers.

        Raises:
            RsftError: the journal was damaged since it was opened.
        """
        self.check()
        tables = []
        rejected = []
        counts = Counter[str]()
        for chips, text in self.execute(
            "SELECT chips, counts FROM batch ORDER BY number"
        ):
            batch_rejected, batch_counts = json.loads(text)
            rejected += [tuple(rejection) for rejection in batch_rejected]
            counts.update(batch_counts)
            with pa.ipc.open_stream(chips) as reader:
                table = reader.read_all()
            if len(table):
                tables.append(table)
        if not tables:
            return BatchResult(pd.DataFrame(), rejected, counts)
        frame = pa.concat_tables(tables, promote_options="permissive").to_pandas()
        shapes = shapely.from_wkb(frame["geometry"].to_numpy(object))
        frame["geometry"] = pd.Series(shapes, frame.index, object)
        values = np.stack(frame.pop("probabilities")) / _SCALE
        return BatchResult(
            frame.join(pd.DataFrame(values, columns=self._columns)), rejected, counts
        )
