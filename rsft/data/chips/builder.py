"""Writes chip stores: one stream of records in, a whole root out or none at all."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import groupby
from operator import attrgetter, length_hint
from pathlib import Path

from rsft.data.chips.build_directory import check_free, workplace
from rsft.data.chips.build_journal import Journal, Outcome, Row
from rsft.data.chips.encode import band_names, encode, unit_of
from rsft.data.chips.record import Plan, Record
from rsft.data.chips.sidecars import describe
from rsft.data.chips.store import ChipStore
from rsft.data.imagery.reader import read_chip
from rsft.errors import DataError, RequestError, RsftError
from rsft.types import Progress, Rejection
from rsft.utils.process_pool import unordered

__all__ = ["Plan", "Progress", "Record", "Rejection", "build_store", "check_free"]

_CHUNK = 16  # records that go to a process together, or more where they have one origin
_NEW = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0)
_log = logging.getLogger(__name__)


def build_store(
    root: Path,
    records: Iterable[Record],
    plan: Plan,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
    jobs: int = 1,
) -> ChipStore:
    """Write the chip store `root`, whole or not at all; the same records give the same bytes, in whatever order.

    Records are drawn as they are needed and not kept. Those of one origin should follow each other: they go to one
    process. A record that cannot be read, or whose unit or bands do not fit, goes to rejected.csv with the reason. A
    build that was killed goes on where it stopped if it is called again with the same plan.

    Raises:
        RequestError: `root` holds something already, or another process builds there.
        DataError: no record can be used, or two have one name.
        RsftError: the disk is full or not to be written; a source has gone. The work so far is kept.
    """
    if jobs < 1:
        raise RequestError(f"{jobs} jobs", "--jobs", "give 1 or more")
    check_free(root, overwrite)
    with workplace(root, plan.fingerprint(), overwrite) as folder:
        store = folder / "store"
        journal = Journal(folder / "journal.sqlite", store)
        try:
            if len(journal):
                _log.warning("going on with a build that was stopped after %d records", len(journal))
            _store_all(store, records, journal, progress, jobs)
            bands = journal.close_round()
            _sweep(store, journal, bands)
            describe(store, journal, bands, plan, jobs)
        finally:
            journal.close()
    return ChipStore.open(root)


def _store_all(store: Path, records: Iterable[Record], journal: Journal, progress: Progress | None, jobs: int) -> None:
    total, met, waiting = length_hint(records), 0, 0

    def claimed() -> Iterator[Record]:
        nonlocal met, waiting
        for record in records:
            met += 1
            if journal.claim(record):
                waiting += 1
                yield record

    def report() -> None:
        if progress is not None:
            progress(met - waiting, max(total, met), "writing chips")

    for outcomes in unordered(partial(_store_chunk, store), _chunks(claimed()), jobs):
        journal.settle(outcomes)
        waiting -= len(outcomes)
        report()
    report()


def _chunks(records: Iterable[Record]) -> Iterator[list[Record]]:
    """Runs of records, each origin whole in one of them."""
    chunk: list[Record] = []
    for _, same in groupby(records, attrgetter("origin")):
        chunk += same
        if len(chunk) >= _CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _store_chunk(store: Path, records: list[Record]) -> list[Outcome]:
    return [(record.place, _store_chip(store, record)) for record in records]


def _store_chip(store: Path, record: Record) -> Row | Rejection:
    """Write one chip and return its row, or why not."""
    try:
        pixels = read_chip(record.origin) if record.cut is None else record.cut()
        unit, bands = unit_of(pixels, record.facts.get("unit")), band_names(pixels, record.bands)
    except DataError as error:
        cause = error.__cause__
        if isinstance(cause, FileNotFoundError):  # no fault of the data: it was there when it was listed
            fix = "bring it back and run the same command again: it goes on where it stopped"
            raise RsftError("a source file has gone during the build", cause.filename, fix) from error
        return (error.where, 0, error.what) if error.where else (str(record.origin), record.line, error.what)
    if record.cut is None:
        data, suffix = record.origin.read_bytes(), record.origin.suffix.lower()
    else:
        data, suffix = encode(pixels)
    path = record.place + suffix
    write_chip(f"{store}/{path}", data)
    row = {"name": record.name, "path": path, "split": record.split, "class": record.label, "flags": ""}
    row |= {"unit": unit, "bands": ",".join(bands), "sha256": hashlib.sha256(data).hexdigest()}
    return row | dict(record.facts)


def write_chip(path: str, data: bytes) -> None:
    """Write a file of a store in the making, and its folder.

    Not by a temporary name, and not synced: until the journal knows the chip the file counts for nothing, and the build
    syncs once, at its end. Past `open`, whose layers take as long as the kernel does.
    """
    try:
        file = os.open(path, _NEW, 0o666)
    except FileNotFoundError:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        file = os.open(path, _NEW, 0o666)
    try:
        left = memoryview(data)
        while left:  # a full disk takes a part, and says why at the next
            left = left[os.write(file, left) :]
    finally:
        os.close(file)


def _sweep(store: Path, journal: Journal, bands: str) -> None:
    """Remove what the manifest will not name: chips with other bands, and what earlier attempts left."""
    for folder, folders, names in os.walk(store, topdown=False):
        for file in (Path(folder, name) for name in names):
            if not journal.knows(file.relative_to(store).as_posix(), bands):
                file.unlink()
        for inner in (Path(folder, name) for name in folders):
            if not any(inner.iterdir()):
                inner.rmdir()
