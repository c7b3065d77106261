"""Build chip stores from a stream of records; a store is written whole or not at all.

A store is built in a locked sibling of its root, which survives a killed build. Its
chips are lossless image files.
"""

import hashlib
import logging
import os
import shlex
import shutil
import socket
import sqlite3
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from itertools import groupby
from operator import attrgetter, length_hint
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rasterio.errors import NotGeoreferencedWarning
from rasterio.io import MemoryFile

from rsft.data.chips.build_journal import BuildJournal, ManifestRow, RecordOutcome
from rsft.data.chips.record import ChipRecord, StoreDescription
from rsft.data.chips.sidecars import write_sidecars
from rsft.data.chips.store import (
    DATASET,
    ChipStore,
    Counts,
    describe_column_fault,
    read_dataset,
)
from rsft.data.imagery.rasters import read_band_names, read_tiff_tags, read_unit
from rsft.data.imagery.reader import check_declared_bands, read_chip
from rsft.data.imagery.units import (
    DIGITAL_UNITS,
    UNITS,
    as_float32,
    check_unit,
    parse_unit,
)
from rsft.errors import DataError, RequestError, RsftError
from rsft.types import Pixels, Progress, Rejection
from rsft.utils.atomic_files import (
    process_lock,
    remove_stale_folders,
    remove_work_folder,
)
from rsft.utils.operating_system import (
    describe_name_fault,
    replace_path,
    sync_all,
    unique_name,
)
from rsft.utils.process_pool import imap_unordered
from rsft.utils.write_errors import as_os_error, explain_os_error

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
    fingerprints are removed. The folder is removed after a DataError, and stays after
    any other error, so that the build can be resumed.

    Raises:
        RequestError: `root` is not free, or another process builds there.
        RsftError: the disk is full or not writable.
    """
    root = root.resolve()
    partial = root.parent / f".{root.name}.partial"
    try:
        with _locked(root, partial):
            folder = partial / fingerprint
            old = partial / "old"
            # a build was killed in its last step
            if old.is_dir() and not root.exists():
                old.replace(root)
            check_root_is_free(root, overwrite)
            for other in partial.iterdir():
                if other.is_dir() and (
                    other != folder or not (folder / "store").is_dir()
                ):
                    # of a build that was killed after its last step
                    if other.name != "old":
                        _log.warning(
                            "%s: removing an unfinished build with other arguments",
                            partial,
                        )
                    shutil.rmtree(other)
            (folder / "store").mkdir(parents=True, exist_ok=True)
            try:
                yield folder
            except DataError:
                shutil.rmtree(folder)
                raise
            sync_all()  # the chips must be on the disk before the root has its name
            if root.exists() and any(root.iterdir()):
                replace_path(root, old)
            replace_path(folder / "store", root)
            shutil.rmtree(partial)
    except OSError as error:
        raise explain_os_error(error, partial, _AGAIN) from error
    except sqlite3.Error as error:
        # as_os_error opens a file to learn the cause, which it cannot do with a folder
        failure = as_os_error(error, partial / "journal")
        if isinstance(failure, OSError):
            raise explain_os_error(failure, partial, _AGAIN) from error
        raise RsftError(
            f"the journal of the build cannot be written: {error}",
            partial,
            f"check the disk (or remove this folder), then {_AGAIN}",
        ) from error


@contextmanager
def _locked(root: Path, partial: Path) -> Iterator[None]:
    """Hold the lock of `root`, and write the name of this process to the owner file."""
    owner_file = partial / "owner"

    def conflict() -> RequestError:
        if owner_file.is_file():
            owner = owner_file.read_text("utf-8")
        else:
            owner = "another process"
        return RequestError(
            f"{owner} is building this store",
            root,
            "wait until it has finished, or stop it",
        )

    with process_lock(root.parent / f".{root.name}.lock", conflict):
        try:
            partial.mkdir(exist_ok=True)
            owner_file.write_text(
                f"process {os.getpid()} on {socket.gethostname()}", "utf-8"
            )
            yield
        finally:
            owner_file.unlink(missing_ok=True)
            if partial.is_dir() and not any(partial.iterdir()):
                partial.rmdir()


_DEFAULT_BANDS = {1: ("gray",), 3: ("R", "G", "B")}
_PNG_DTYPES = (np.dtype("uint8"), np.dtype("uint16"))


def resolve_unit(pixels: Pixels, declared: str | None) -> str:
    """Return the unit of a chip (H, W, B).

    It is the declared one in lower case, or the data type of integers.

    Raises:
        DataError: the unit is unknown or missing, or the pixels cannot be in this unit.
    """
    dtype = str(pixels.dtype)
    unit = (
        parse_unit(declared) if declared else dtype if dtype in DIGITAL_UNITS else None
    )
    if unit is None:
        float_units = ", ".join(unit for unit in UNITS if unit not in DIGITAL_UNITS)
        raise DataError(
            f"{pixels.dtype} pixels; a chip is uint8, uint16, or float32 with a unit"
            f" ({float_units})"
        )
    check_unit(pixels, unit)
    return unit


def resolve_band_names(
    pixels: Pixels, names: tuple[str, ...] | None
) -> tuple[str, ...]:
    """Return the band names of a chip (H, W, B).

    They are the declared `names`, or gray (1 band) or R, G, B (3 bands).

    Returns:
        One name per band.

    Raises:
        DataError: the number of names does not match, or names are missing.
    """
    count = pixels.shape[2]
    bands = names or _DEFAULT_BANDS.get(count)
    if bands is None or len(bands) != count:
        if names:
            expected = f"{len(names)} names"
        else:
            expected = "a chip without band names has 1 (gray) or 3 (R, G, B)"
        raise DataError(f"{count} bands, but {expected}")
    return bands


def select_bands(
    pixels: Pixels, names: tuple[str, ...] | None, selected: tuple[str, ...] | None
) -> tuple[Pixels, tuple[str, ...]]:
    """Select bands of a chip by name.

    Args:
        pixels: the chip (H, W, B).
        names: names of its bands; None if they are unknown.
        selected: names of the bands to select, or without `names` the names of all
            bands; None selects all bands.

    Returns:
        Pixels (H, W, S), and their names.

    Raises:
        DataError: the number of names does not match, names are missing, or a band is
            missing.
    """
    if selected is None or names is None:
        return pixels, resolve_band_names(pixels, names or selected)
    names = resolve_band_names(pixels, names)
    missing = [name for name in selected if name not in names]
    if missing:
        raise DataError(f"bands {', '.join(names)}, without {', '.join(missing)}")
    return (
        pixels
        if selected == names
        else pixels[:, :, [names.index(name) for name in selected]]
    ), selected


def encode_chip(pixels: Pixels) -> tuple[bytes, str]:
    """Encode a chip (H, W, B) without loss; float64 becomes float32.

    Returns:
        Content and suffix of the file: PNG for 1 or 3 bands of uint8 or uint16, else
            TIFF.

    Raises:
        DataError: a value does not fit into float32.
    """
    pixels = as_float32(pixels)
    if pixels.dtype in _PNG_DTYPES and pixels.shape[2] in _DEFAULT_BANDS:
        if pixels.shape[2] == 3:
            ordered = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
        else:
            ordered = pixels
        return cv2.imencode(".png", ordered)[1].tobytes(), ".png"
    height, width, count = pixels.shape
    is_float = pixels.dtype == np.float32
    options: dict[str, Any] = {
        "dtype": pixels.dtype,
        "compress": "deflate",
        "predictor": 3 if is_float else 2,
    }
    options["photometric"] = "minisblack"
    if is_float and np.isnan(pixels).any():
        options["nodata"] = np.nan
    with MemoryFile() as memory, warnings.catch_warnings():
        # chips have no georeference
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with memory.open(
            driver="GTiff", height=height, width=width, count=count, **options
        ) as file:
            file.write(pixels.transpose(2, 0, 1))
        return bytes(memory.read()), ".tif"


_CHUNK = 16  # records per task of a worker process, or more if one source file has more
_LONGEST_NAME = 250  # bytes; names of files have at most 255, with their suffix
_WRITE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0)


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
            bands = journal.close_round()
            _remove_strays(journal, bands)
            write_sidecars(store, journal, bands, description, jobs)
            if finish is not None:
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
        chunk: list[ChipRecord] = []
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


def _store_chip(store: Path, record: ChipRecord) -> ManifestRow | Rejection:
    """Write one chip; return its manifest row, or the reason of its rejection."""
    if len(os.fsencode(record.name)) > _LONGEST_NAME:
        reason = (
            f"the name of the chip has {len(record.name):,} letters; the limit is"
            f" {_LONGEST_NAME} bytes"
        )
        return str(record.source_path), record.line, reason
    reason = describe_name_fault(record.name)
    if reason:
        return str(record.source_path), record.line, reason
    try:
        pixels, names, is_copy = _read_pixels(record)
        selected, bands = select_bands(pixels, names, record.selected_bands)
        unit = record.extra_columns.get("unit")
        # the unit of integers is their data type
        if not unit and is_copy and pixels.dtype.kind == "f":
            source = record.source_path
            unit = read_tiff_tags(source, lambda file: read_unit([file], source))
        unit = resolve_unit(selected, unit)
    except DataError as error:
        cause = error.__cause__
        if isinstance(cause, FileNotFoundError):  # the file existed when it was listed
            raise RsftError(
                "a source file disappeared during the build",
                cause.filename,
                (
                    "restore it and run the same command again: it resumes where"
                    " it stopped"
                ),
            ) from error
        file, line = (
            (error.location, 0)
            if error.location
            else (str(record.source_path), record.line)
        )
        return file, line, error.message
    fault = describe_column_fault(record.extra_columns)
    if fault:
        return str(record.source_path), record.line, fault
    if is_copy and selected is pixels:
        data = record.source_path.read_bytes()
        suffix = record.source_path.suffix.lower()
    else:
        data, suffix = encode_chip(selected)
    path = record.path_stem + suffix
    write_chip(f"{store}/{path}", data)
    row = {
        "name": record.name,
        "path": path,
        "split": record.split,
        "class": record.label,
        "flags": "",
    }
    row |= {
        "unit": unit,
        "bands": ",".join(bands),
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    return row | dict(record.extra_columns)


def _read_pixels(record: ChipRecord) -> tuple[Pixels, tuple[str, ...] | None, bool]:
    """Return pixels, band names, and whether the record's file can be copied."""
    if record.read_pixels is not None:
        return record.read_pixels(), record.bands, False
    pixels = read_chip(record.source_path)
    file_names = read_tiff_tags(record.source_path, read_band_names)
    check_declared_bands(record.bands, file_names, record.source_path)
    return pixels, record.bands or file_names, True


def write_chip(path: str, data: bytes) -> None:
    """Write a file of a store that is being built, and its folder if it is missing.

    The file is neither renamed nor synced: a chip that is not in the journal is written
    again, and the build syncs once at its end. `os.open` avoids the overhead of `open`,
    which takes as long as the system call.
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


def _remove_strays(journal: BuildJournal, bands: str) -> None:
    """Remove files that are not in the manifest.

    They are chips with other bands, and files of earlier attempts.
    """
    for folder, subfolders, names in os.walk(journal.store, topdown=False):
        for file in (Path(folder, name) for name in names):
            if not journal.has_chip(file.relative_to(journal.store).as_posix(), bands):
                file.unlink()
        for subfolder in (Path(folder, name) for name in subfolders):
            if not any(subfolder.iterdir()):
                subfolder.rmdir()
