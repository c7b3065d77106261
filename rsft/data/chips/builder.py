"""Build chip stores from a stream of records; a store is written whole or not at all.

A store is built in a locked sibling of its root, which survives a killed build. Its
chips are lossless image files.
"""

import json
import logging
import os
import shlex
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from heapq import merge
from itertools import chain, groupby, islice
from operator import attrgetter, length_hint
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from rsft.data.chips.build_journal import BuildJournal, RecordOutcome
from rsft.data.chips.chip_content import make_chip, write_chip
from rsft.data.chips.class_names import Counts
from rsft.data.chips.manifest import MANIFEST, ROW_GROUP, SCHEMA
from rsft.data.chips.record import (
    ChipRecord,
    StoreDescription,
    describe_rejections,
    group_by_class,
    group_by_count,
)
from rsft.data.chips.sidecars import write_sidecars
from rsft.data.chips.store import (
    DATASET,
    REJECTED,
    ChipStore,
    read_dataset,
    write_rejected,
)
from rsft.errors import DataError, RequestError, RsftError
from rsft.types import JsonObject, Progress, Rejection
from rsft.utils.atomic_files import (
    process_lock,
    remove_stale_folders,
    remove_work_folder,
    resumable_folder,
)
from rsft.utils.cell.client import allow_reading
from rsft.utils.operating_system import (
    describe_name_fault,
    replace_path,
    sync_all,
    unique_name,
)
from rsft.utils.process_pool import imap_unordered
from rsft.utils.write_errors import explain_os_error, writing
from rsft.version import __version__

_OTHER_ROOT = "choose another --root"
_AGAIN = "run the same command again: it resumes where it stopped"
_log = logging.getLogger(__name__)


def check_root_is_free(root: Path, overwrite: bool) -> None:
    """Raise an error if a store cannot be written to `root`.

    `overwrite` accepts an existing store, and nothing else.

    Raises:
        RequestError: the root contains something else, or a store that must not be
            overwritten.
    """
    if (root.is_dir() and not any(root.iterdir())) or not root.exists():
        return
    if not (root / DATASET).is_file():
        raise RequestError(
            "the folder contains something that is not a chip store", root, _OTHER_ROOT
        )
    if not overwrite:
        raise RequestError(
            "a chip store already exists", root, f"add --overwrite, or {_OTHER_ROOT}"
        )


def find_finished_store(
    root: Path, command: str, overwrite: bool, counts: Counts | None = None
) -> ChipStore | None:
    """Return the store at `root` if the same command has built it, else None.

    So a repeated command succeeds.

    Work folders that a build left when it was killed in its last step are removed.

    Args:
        root: folder of the store to be built.
        command: the command that builds it; `--root` is not compared.
        overwrite: whether to build it again.
        counts: number of chips by split and class, if the command does not imply it.

    Returns:
        The finished store; None if the store must be built.

    Raises:
        RequestError: `root` contains something else, or a store that another command
            has built.
    """
    is_finished = False
    # a damaged store is not finished
    with suppress(OSError, ValueError, KeyError, DataError):
        is_finished = _request(str(read_dataset(root)["command"])) == _request(command)
    if (
        overwrite
        or not is_finished
        or (counts and ChipStore.open(root).counts != counts)
    ):
        check_root_is_free(root, overwrite)
        return None
    root = root.resolve()
    remove_work_folder(
        root.parent / f".{root.name}.partial", root.parent / f".{root.name}.lock"
    )
    for folder in work_folders(root):
        remove_work_folder(folder)
    remove_stale_folders(root.parent)
    _log.warning(
        "%s: the same command has built this store already; --overwrite builds it"
        " again",
        root,
    )
    return ChipStore.open(root)


def work_folders(root: Path) -> list[Path]:
    """Return the hidden folders beside a store.

    Its sources are extracted or simulated there.
    """
    root = root.resolve()
    names = [
        *(f"{name}.unpacked" for name in (root.name, *source_names(root))),
        f"{root.name}.simulated",
    ]
    return [root.parent / f".{name}" for name in names]


def source_names(root: Path) -> tuple[str, str]:
    """Return the names under which the two archives of FUSRS are extracted."""
    return f"{root.name}-fusar", f"{root.name}-srsdd"


def _request(command: str) -> list[str]:
    """Return the words of a command without the name of the store."""
    words = shlex.split(command)
    if "--root" in words:
        del words[words.index("--root") : words.index("--root") + 2]
    return words


@contextmanager
def open_build_directory(
    root: Path, fingerprint: str, overwrite: bool
) -> Iterator[Path]:
    """Yield a folder whose subfolder `store/` becomes `root` in the end.

    It does so if the block ends without an exception.

    The folder is `.<name>.partial/<fingerprint>/` beside the root. Folders of other
    fingerprints are removed. The folder is removed after a DataError or RequestError,
    and stays after any other error, so that the build can be resumed.

    Raises:
        RequestError: `root` is not free, or another process builds there.
        RsftError: the disk is full or not writable.
    """
    root = root.resolve()
    partial = root.parent / f".{root.name}.partial"
    old = partial / "old"
    try:
        with writing(partial / "journal"), store_lock(root):
            # a build was killed in its last step
            if old.is_dir() and not root.exists():
                old.replace(root)
            check_root_is_free(root, overwrite)
            if old.is_dir():  # of a build that was killed after its last step
                shutil.rmtree(partial)
            with resumable_folder(partial, fingerprint) as folder:
                (folder / "store").mkdir(exist_ok=True)
                allow_reading(folder)
                yield folder
                sync_all()  # the chips must be on the disk before the root is named so
                if root.exists() and any(root.iterdir()):
                    replace_path(root, old)
                replace_path(folder / "store", root)
                allow_reading(root)
    except OSError as error:
        raise explain_os_error(error, partial, _AGAIN) from error


def store_lock(root: Path) -> AbstractContextManager[None]:
    """Return the lock of a store, in which no other process builds or changes it.

    Entering it raises a RequestError if another process has it.
    """
    lock_file = root.parent / f".{root.name}.lock"
    return process_lock(lock_file, root, "is building or changing this store")


_CHUNK = 16  # records per task of a worker process, or more if one source file has more


def build_store(
    root: Path,
    records: Iterable[ChipRecord],
    description: StoreDescription,
    *,
    total: int = 0,
    overwrite: bool = False,
    progress: Progress | None = None,
    jobs: int = 1,
    finish: Callable[[ChipStore], None] | None = None,
) -> ChipStore:
    """Build a chip store; the same records in any order give the same bytes.

    A record goes to rejected.csv with the reason if it cannot be read, or if its unit
    or bands do not fit. A killed build resumes where it stopped if it is called again
    with the same description.

    Args:
        root: folder of the new store.
        records: read lazily and not kept in memory. Records of one source file should
            be consecutive, because one worker process takes all of them.
        description: name, classes, groups and command of the store.
        total: number of records, for `progress`; 0 takes the length of `records`.
        overwrite: replace an existing store.
        progress: called after each group of chips.
        jobs: number of worker processes; 1 works in this process.
        finish: writes further files into the complete store before it gets its name
            `root`.

    Returns:
        The new store.

    Raises:
        RequestError: `root` is not free, or another process builds there.
        DataError: no record can be used, a required source has no chip, two records
            have the same name, or this system cannot hold the folder of a class.
        RsftError: the disk is full or not writable, or a source file disappeared. The
            finished work is kept.
    """
    if jobs < 1:
        raise RequestError(f"cannot build with {jobs} jobs", "--jobs", "give 1 or more")
    check_root_is_free(root, overwrite)
    _check_class_folders(root, description.classes)
    with open_build_directory(root, description.fingerprint(), overwrite) as folder:
        store = folder / "store"
        journal = BuildJournal(folder / "journal.sqlite", store)
        try:
            if len(journal):
                _log.warning(
                    "resuming a build that was stopped after %d records", len(journal)
                )
            _store_all(records, total or length_hint(records), journal, progress, jobs)
            journal.close_round()
            _remove_strays(journal)
            _write_tables(journal, description)
            write_sidecars(store, jobs=jobs)
            if finish:
                finish(ChipStore.open(store))
        finally:
            journal.close(finished=False)
    return ChipStore.open(root)


def _check_class_folders(root: Path, classes: Sequence[str]) -> None:
    folders: dict[str, str] = {}
    for name in classes:
        other = folders.setdefault(unique_name(name), name)
        fault = describe_name_fault(
            name
        ) or f"{other} and {name} are one folder on this system" * (other != name)
        if fault:
            raise DataError(fault, root, f"rename the class {name}")


def _store_all(
    records: Iterable[ChipRecord],
    total: int,
    journal: BuildJournal,
    progress: Progress | None,
    jobs: int,
) -> None:
    """Write the chips of all records that are not in the journal yet."""
    seen = unfinished = 0

    def chunks() -> Iterator[list[ChipRecord]]:
        """Yield lists of consecutive records, one list for all of a source file."""
        nonlocal seen, unfinished
        chunk = []
        for _, records_of_file in groupby(records, attrgetter("source_path")):
            for record in records_of_file:
                seen += 1
                if journal.claim(record):
                    unfinished += 1
                    chunk.append(record)
            if len(chunk) >= _CHUNK:
                yield chunk
                chunk = []
        yield chunk

    for outcomes in imap_unordered(
        partial(_store_chunk, journal.store), chunks(), jobs
    ):
        journal.record(outcomes)
        unfinished -= len(outcomes)
        if progress is not None:
            progress(seen - unfinished, max(total, seen), "writing chips")


def _store_chunk(store: Path, records: list[ChipRecord]) -> list[RecordOutcome]:
    return [
        (unique_name(record.path_stem), _store_chip(store, record))
        for record in records
    ]


def _store_chip(store: Path, record: ChipRecord) -> JsonObject | Rejection:
    """Write one chip; return its manifest row, or the reason of its rejection."""
    try:
        chip = make_chip(record)
    except DataError as error:
        cause = error.__cause__
        if isinstance(cause, FileNotFoundError):  # the file existed when it was listed
            raise RsftError(
                "a source file disappeared during the build",
                cause.filename,
                f"restore it and {_AGAIN}",
            ) from error
        if error.location:
            return error.location, 0, error.message
        return str(record.source_path), record.line, error.message
    write_chip(store / chip.row["path"], chip.data)
    return chip.row


def _remove_strays(journal: BuildJournal) -> None:
    """Remove files that are not in the manifest.

    They are chips with other bands, and files of earlier attempts.
    """
    for folder, subfolders, names in os.walk(journal.store, topdown=False):
        for file in (Path(folder, name) for name in names):
            if not journal.has_chip(file.relative_to(journal.store).as_posix()):
                file.unlink()
        for subfolder in (Path(folder, name) for name in subfolders):
            if not any(subfolder.iterdir()):
                subfolder.rmdir()


def _write_tables(journal: BuildJournal, description: StoreDescription) -> None:
    """Write manifest, dataset.json and rejected.csv of a store.

    Raises:
        DataError: the store has no chip, or none of a required source.
    """
    _check_sources(journal, description)
    counts = journal.train_counts()
    train = {name: counts.get(name, 0) for name in description.classes}
    groups = description.groups or group_by_count(train)
    group_of = group_by_class(groups)
    rows = journal.rows()
    schema = pa.schema([*SCHEMA, *description.columns.items()])
    with pq.ParquetWriter(journal.store / MANIFEST, schema) as writer:
        while batch := list(islice(rows, ROW_GROUP)):
            for row in batch:
                row["group"] = group_of[row["class"]]
            writer.write_table(pa.Table.from_pylist(batch, schema))
    dataset = {
        "name": description.name,
        "classes": list(description.classes),
        "groups": groups,
        "bands": journal.bands.split(","),
        "skipped": description.skipped,
        "command": description.command,
        "license": description.license,
        "rsft_version": __version__,
    }
    if description.notes:
        dataset["notes"] = list(description.notes)
    text = json.dumps(dataset, indent=2) + "\n"
    (journal.store / DATASET).write_text(text, "utf-8")
    rejected = merge(sorted(description.rejected), journal.rejections())
    write_rejected(journal.store / REJECTED, rejected)


def _check_sources(journal: BuildJournal, description: StoreDescription) -> None:
    """Raise DataError if there is no chip, or none of a required source."""
    sources = journal.sources()
    missing = [name for name in description.required_sources if name not in sources]
    if journal.bands and not missing:
        return
    fault = "no chip can be used"
    hint = ""
    if journal.bands:
        fault = f"{missing[0]} gives no chip"
        hint = description.required_sources[missing[0]]
    rejected = chain(description.rejected, journal.rejections())
    reasons = describe_rejections(rejected, description.skipped, hint)
    raise DataError(fault, description.name, reasons or "the input is empty")
