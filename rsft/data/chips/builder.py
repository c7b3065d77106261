"""Build chip stores from a stream of records; a store is written whole or not at all."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import groupby
from operator import attrgetter, length_hint
from pathlib import Path

from rsft.data.chips.build_directory import check_root_is_free, find_finished_store, open_build_directory
from rsft.data.chips.build_journal import BuildJournal, ManifestRow, RecordOutcome
from rsft.data.chips.encode import encode_chip, resolve_unit, select_bands
from rsft.data.chips.manifest_columns import describe_column_fault
from rsft.data.chips.record import ChipRecord, StoreDescription
from rsft.data.chips.sidecars import write_sidecars
from rsft.data.chips.store import ChipStore
from rsft.data.imagery.band_names import check_declared_bands, read_band_names_of
from rsft.data.imagery.products.stored_values import read_unit_of
from rsft.data.imagery.reader import read_chip
from rsft.errors import DataError, RequestError, RsftError
from rsft.types import Pixels, Progress, Rejection
from rsft.utils.process_pool import imap_unordered

__all__ = [
    "ChipRecord",
    "Progress",
    "Rejection",
    "StoreDescription",
    "build_store",
    "check_root_is_free",
    "find_finished_store",
]

_CHUNK = 16  # records per task of a worker process, or more if one source file has more
_LONGEST_NAME = 250  # bytes; names of files have at most 255, with their suffix
_WRITE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0)
_log = logging.getLogger(__name__)


def build_store(
    root: Path,
    records: Iterable[ChipRecord],
    description: StoreDescription,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
    jobs: int = 1,
    finish: Callable[[ChipStore], None] | None = None,
) -> ChipStore:
    """Build a chip store; the same records in any order give the same bytes.

    A record goes to rejected.csv with the reason if it cannot be read, or if its unit or bands do not fit. A killed
    build resumes where it stopped if it is called again with the same description.

    Args:
        root: folder of the new store.
        records: read lazily and not kept in memory. Records of one source file should be consecutive, because one
            worker process takes all of them.
        description: name, classes, groups and command of the store.
        overwrite: replace an existing store.
        progress: called after each group of chips.
        jobs: number of worker processes; 1 works in this process.
        finish: writes further files into the complete store before it gets its name `root`.

    Returns:
        The new store.

    Raises:
        RequestError: `root` is not free, or another process builds there.
        DataError: no record can be used, a required source has no chip, or two records have the same name.
        RsftError: the disk is full or not writable, or a source file disappeared. The finished work is kept.
    """
    if jobs < 1:
        raise RequestError(f"cannot build with {jobs} jobs", "--jobs", "give 1 or more")
    check_root_is_free(root, overwrite)
    with open_build_directory(root, description.fingerprint(), overwrite) as folder:
        store = folder / "store"
        journal = BuildJournal(folder / "journal.sqlite", store)
        try:
            if len(journal):
                _log.warning("resuming a build that was stopped after %d records", len(journal))
            _store_all(store, records, journal, progress, jobs)
            bands = journal.close_round()
            _remove_strays(store, journal, bands)
            write_sidecars(store, journal, bands, description, jobs)
            if finish is not None:
                finish(ChipStore.open(store))
        finally:
            journal.close()
    return ChipStore.open(root)


def _store_all(
    store: Path, records: Iterable[ChipRecord], journal: BuildJournal, progress: Progress | None, jobs: int
) -> None:
    """Write the chips of all records that are not in the journal yet."""
    total, seen, unfinished = length_hint(records), 0, 0

    def pending() -> Iterator[ChipRecord]:
        nonlocal seen, unfinished
        for record in records:
            seen += 1
            if journal.claim(record):
                unfinished += 1
                yield record

    def report() -> None:
        if progress is not None:
            progress(seen - unfinished, max(total, seen), "writing chips")

    for outcomes in imap_unordered(partial(_store_chunk, store), _chunks(pending()), jobs):
        journal.record(outcomes)
        unfinished -= len(outcomes)
        report()
    report()


def _chunks(records: Iterable[ChipRecord]) -> Iterator[list[ChipRecord]]:
    """Yield lists of consecutive records; all records of a source file are in one list."""
    chunk: list[ChipRecord] = []
    for _, records_of_file in groupby(records, attrgetter("source_path")):
        chunk += records_of_file
        if len(chunk) >= _CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _store_chunk(store: Path, records: list[ChipRecord]) -> list[RecordOutcome]:
    return [(record.path_stem, _store_chip(store, record)) for record in records]


def _store_chip(store: Path, record: ChipRecord) -> ManifestRow | Rejection:
    """Write one chip; return its manifest row, or the reason of its rejection."""
    if len(os.fsencode(record.name)) > _LONGEST_NAME:
        reason = f"the name of the chip has {len(record.name):,} letters; the limit is {_LONGEST_NAME} bytes"
        return str(record.source_path), record.line, reason
    try:
        pixels, names, is_copy = _read_pixels(record)
        selected, bands = select_bands(pixels, names, record.selected_bands)
        unit = resolve_unit(selected, record.extra_columns.get("unit") or _file_unit(record, selected))
    except DataError as error:
        cause = error.__cause__
        if isinstance(cause, FileNotFoundError):  # the file existed when it was listed
            hint = "restore it and run the same command again: it resumes where it stopped"
            raise RsftError("a source file disappeared during the build", cause.filename, hint) from error
        file, line = (error.location, 0) if error.location else (str(record.source_path), record.line)
        return file, line, error.message
    if fault := describe_column_fault(record.extra_columns):
        return str(record.source_path), record.line, fault
    if is_copy and selected is pixels:
        data, suffix = record.source_path.read_bytes(), record.source_path.suffix.lower()
    else:
        data, suffix = encode_chip(selected)
    path = record.path_stem + suffix
    write_chip(f"{store}/{path}", data)
    row = {"name": record.name, "path": path, "split": record.split, "class": record.label, "flags": ""}
    row |= {"unit": unit, "bands": ",".join(bands), "sha256": hashlib.sha256(data).hexdigest()}
    return row | dict(record.extra_columns)


def _read_pixels(record: ChipRecord) -> tuple[Pixels, tuple[str, ...] | None, bool]:
    """Return the pixels of a record, the names of its bands, and whether its file can be copied as it is."""
    if record.read_pixels is not None:
        return record.read_pixels(), record.bands, False
    pixels = read_chip(record.source_path)
    file_names = read_band_names_of(record.source_path)
    check_declared_bands(record.bands, file_names, record.source_path)
    return pixels, record.bands or file_names, True


def _file_unit(record: ChipRecord, pixels: Pixels) -> str | None:
    """Return the unit that the file of a chip declares; None for integers, whose unit is their data type."""
    is_float = record.read_pixels is None and pixels.dtype.kind == "f"
    return read_unit_of(record.source_path) if is_float else None


def write_chip(path: str, data: bytes) -> None:
    """Write a file of a store that is being built, and its folder if it is missing.

    The file is neither renamed nor synced: a chip that is not in the journal is written again, and the build syncs once
    at its end. `os.open` avoids the overhead of `open`, which takes as long as the system call.

    Args:
        path: path of the file.
        data: its content.
    """
    try:
        file = os.open(path, _WRITE_FLAGS, 0o666)
    except FileNotFoundError:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        file = os.open(path, _WRITE_FLAGS, 0o666)
    try:
        unwritten = memoryview(data)
        while unwritten:  # a full disk accepts a part of the data; the next call raises
            unwritten = unwritten[os.write(file, unwritten) :]
    finally:
        os.close(file)


def _remove_strays(store: Path, journal: BuildJournal, bands: str) -> None:
    """Remove files that are not in the manifest: chips with other bands, and files of earlier attempts."""
    for folder, subfolders, names in os.walk(store, topdown=False):
        for file in (Path(folder, name) for name in names):
            if not journal.has_chip(file.relative_to(store).as_posix(), bands):
                file.unlink()
        for subfolder in (Path(folder, name) for name in subfolders):
            if not any(subfolder.iterdir()):
                subfolder.rmdir()
