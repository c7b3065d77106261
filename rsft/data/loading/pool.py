"""The pool: chips without labels.

Chips like those on which a run is validated or tested are left out.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rsft.data.chips.builder import resolve_band_names, resolve_unit
from rsft.data.chips.store import MANIFEST, ChipStore
from rsft.data.imagery.contract import Contract
from rsft.data.imagery.rasters import read_band_names, read_tiff_tags, read_unit
from rsft.data.imagery.reader import IMAGE_SUFFIXES, read_chip
from rsft.data.loading.batches import ChipImages
from rsft.data.loading.packing import cache_folder
from rsft.data.similarity import (
    Thumbnail,
    find_similar,
    hash_similarity,
    make_thumbnail,
    pixel_digest,
)
from rsft.errors import DataError, RequestError
from rsft.types import Progress
from rsft.utils.atomic_files import sha256, write_text
from rsft.utils.operating_system import walk_files
from rsft.utils.process_pool import imap_unordered

IS_EVALUATED = "validation or test chip of the data set"
IS_SIMILAR = "near-duplicate of a validation or test chip"
IS_SAME_SCENE = "scene or vessel of a validation or test chip"
IS_LABELED = "training chip, which has a label"
IS_REPEATED = "same content as another chip of the pool"

_VERSION = "2"  # increase it if the same files would give other hashes, units or bands
_MIN_CHIPS_FOR_TWO_JOBS = (
    256  # for fewer chips, starting processes takes longer than reading
)


@dataclass(frozen=True)
class Pool:
    """Chips without labels.

    Attributes:
        chips: the chips.
        left_out: number of chips that are not in the pool, by reason.
        sha256: hash of the contents of the chips, in order.
    """

    chips: ChipImages
    left_out: Mapping[str, int]
    sha256: str

    def metadata(self) -> dict[str, Any]:
        """Return the entry "pool" of run.json."""
        return {
            "chips": len(self.chips),
            "sha256": self.sha256,
            "left_out": dict(self.left_out),
        }

    def describe(self) -> str:
        """Return in words how many chips there are, and how many are left out.

        Chips are left out by reason.
        """
        left_out = "".join(
            f"; left out: {count:,} x {reason}"
            for reason, count in self.left_out.items()
        )
        return f"{len(self.chips):,} unlabeled chips{left_out}"


def open_pool(
    source: str, store: ChipStore, contract: Contract, progress: Progress | None = None
) -> Pool:
    """Read the chips of a folder, a chip store or a glob pattern.

    Labels in a chip store are ignored.

    Args:
        source: folder (searched recursively), chip store, or pattern.
        store: the data set of the run, whose validation and test chips must not be in
            the pool.
        contract: what the chips must be.
        progress: called while chips are read.

    Returns:
        The pool.

    Raises:
        RequestError: no file matches, or no chip remains.
        DataError: a chip does not fulfill the contract.
    """
    table = _read_table(source, progress)
    if (Path(source) / MANIFEST).is_file():
        root = Path(source)
    else:
        root = Path()
    left_out = Counter(table["fault"][table["fault"] != ""])
    table = table[table["fault"] == ""].reset_index(drop=True)
    expected = ",".join(store.bands)
    for chip in table.itertuples():
        if chip.bands != expected:
            raise DataError(
                f"bands {chip.bands}, but the data set has {expected}",
                root / str(chip.path),
                "prepare the chips with the bands of the data set",
            )
        if isinstance(chip.spacing_m, float) and np.isfinite(chip.spacing_m):
            try:
                contract.check_spacing([chip.spacing_m])
            except DataError as error:
                raise DataError(
                    error.message, root / str(chip.path), "give chips of this spacing"
                ) from error
    reasons = _find_reasons(table, root, store, progress)
    left_out += Counter(reasons[reasons != ""])
    table = table[reasons == ""].reset_index(drop=True)
    if table.empty:
        reasons_text = ", ".join(
            f"{count:,} {reason}" for reason, count in left_out.items()
        )
        raise RequestError(
            f"no chip without a label remains: {reasons_text}",
            source,
            "give other chips",
        )
    digest = hashlib.sha256("".join(table["sha256"]).encode()).hexdigest()
    return Pool(ChipImages(root, table, (), contract, progress), dict(left_out), digest)


def hash_files(source: str) -> str:
    """Return a hash that changes with the chips; "" if there are none.

    They are those of a folder, a chip store or a pattern.
    """
    manifest = Path(source) / MANIFEST
    if manifest.is_file():
        return sha256(manifest)
    try:
        files = _find_images(source)
    except RequestError:
        return ""
    return hashlib.sha256("\n".join(map(_file_key, files)).encode()).hexdigest()


def _read_table(source: str, progress: Progress | None) -> pd.DataFrame:
    """Return one row per chip, as in a manifest.

    It also has hashes of file and pixels, and the fault of the file.
    """
    folder = Path(source)
    root = Path()
    if (folder / MANIFEST).is_file():
        root = folder
        table = ChipStore.open(folder).table
        paths = [folder / path for path in table["path"]]
        columns = table.to_dict("records")
    else:
        paths = _find_images(source)
        columns = [{"path": str(path), "name": path.stem} for path in paths]
    rows: list[dict[Any, Any]] = []
    for row, column in zip(
        _describe_chips(paths, root, progress), columns, strict=True
    ):
        rows.append(
            row | {key: value for key, value in column.items() if value is not None}
        )
    names = [
        "path",
        "name",
        "unit",
        "bands",
        "class",
        "sha256",
        "pixels",
        "hash",
        "fault",
        "group_key",
        "mmsi",
    ]
    return (
        pd.DataFrame(rows)
        .reindex(columns=[*names, "spacing_m"])
        .assign(**{"class": ""})
    )


def _find_images(source: str) -> list[Path]:
    """Return the image files of a folder, or of what matches a pattern, in order.

    Raises:
        RequestError: the folder is missing, nothing matches, or there are no images.
    """
    folder = Path(source)
    start = Path(Path(source).anchor)
    matches = [folder]
    if not folder.exists():
        try:
            matches = list(start.glob(str(folder.relative_to(start))))
        except ValueError:  # not a valid pattern
            matches = []
    if not matches:
        hint = (
            "check the path: data.unlabeled is a folder, a chip store or a glob pattern"
        )
        raise RequestError(
            "no such folder, and no match as a glob pattern", source, hint
        )
    files = (
        file
        for path in matches
        for file in (map(Path, walk_files(path)) if path.is_dir() else [path])
    )
    images = {
        file.absolute()
        for file in files
        if file.suffix.lower() in IMAGE_SUFFIXES and file.is_file()
    }
    if not images:
        hint = (
            "a folder must contain image files, with a suffix of"
            f" {' '.join(sorted(IMAGE_SUFFIXES))}"
        )
        raise RequestError("no chips without labels", source, hint)
    return sorted(images)


def _describe_chips(
    paths: Sequence[Path], root: Path, progress: Progress | None
) -> list[dict[str, Any]]:
    """Return `_describe` of each chip.

    Results are kept in the cache of `root`, by path, size and time of the file.

    Args:
        paths: the files.
        root: the chip store; another folder for chips without a manifest.
        progress: called while files are read.
    """
    keys = [_file_key(path) for path in paths]
    digest = hashlib.sha256("\n".join(map(str, paths)).encode()).hexdigest()[:16]
    cache = cache_folder(root) / f"contents-{digest}.json"
    known = dict[str, dict[str, Any]]()
    with suppress(OSError, ValueError):  # the files are read again
        known = {
            str(key): dict(row)
            for key, row in json.loads(cache.read_text("utf-8"))[_VERSION].items()
        }
    new = [index for index, key in enumerate(keys) if key not in known]
    jobs = 2 if len(new) >= _MIN_CHIPS_FOR_TWO_JOBS else 1
    tasks = [(keys[index], paths[index]) for index in new]
    for done, (key, row) in enumerate(imap_unordered(_describe, tasks, jobs), 1):
        known[key] = row
        if progress is not None:
            progress(done, len(new), "reading unlabeled and validation chips")
    if new:
        with suppress(OSError):  # a full disk: only a cache
            intact = {key: known[key] for key in keys if not known[key]["fault"]}
            write_text(cache, json.dumps({_VERSION: intact}))
    return [known[key] for key in keys]


def _file_key(path: Path) -> str:
    """Return path, size and time of a file, which change with its content."""
    try:
        state = path.stat()
    except OSError:
        return f"{path} missing"
    return f"{path} {state.st_size} {state.st_mtime_ns}"


def _describe(task: tuple[str, Path]) -> tuple[str, dict[str, Any]]:
    """Return the key of a chip, and its unit, bands, hashes, or its fault."""
    key, path = task
    try:
        digest = sha256(path)
        pixels = read_chip(path)
        if pixels.dtype.kind == "f":
            unit = read_tiff_tags(path, lambda file: read_unit([file], path))
        else:
            unit = None
        bands = ",".join(
            resolve_band_names(pixels, read_tiff_tags(path, read_band_names))
        )
        row = {"sha256": digest, "unit": resolve_unit(pixels, unit), "bands": bands}
    except (OSError, DataError) as error:
        return key, {
            "fault": str(
                error.strerror if isinstance(error, OSError) else error.message
            )
        }
    return key, row | {
        "pixels": pixel_digest(pixels),
        "hash": f"{hash_similarity(pixels):016x}",
        "fault": "",
    }


def _find_similar(
    pool: Sequence[tuple[Path, str]], evaluated: Sequence[tuple[Path, str]]
) -> set[Path]:
    """Return the files of a pool that are near-duplicates of an evaluated chip.

    Turned and mirrored ones count as well.

    Args:
        pool: files with their hash in hexadecimal digits, see `hash_similarity`.
        evaluated: files of the evaluated chips, likewise.
    """
    chips = [*pool, *evaluated]
    hashes = [int(value, 16) for _, value in chips]
    is_evaluated = np.arange(len(chips)) >= len(pool)

    def read(row: int) -> Thumbnail:
        return make_thumbnail(read_chip(chips[row][0]))

    return {chips[row][0] for row, _ in find_similar(hashes, is_evaluated, read)}


def _find_reasons(
    table: pd.DataFrame, root: Path, store: ChipStore, progress: Progress | None
) -> "pd.Series[str]":
    """Return why each chip of a pool is left out; "" if it stays."""
    evaluated = store.table[store.table["split"] != "train"].reset_index(drop=True)
    files = [store.root / path for path in evaluated["path"]]
    contents = _describe_chips(files, store.root, progress)
    known = pd.DataFrame(contents).reindex(columns=["sha256", "pixels", "hash"])
    # a test chip may be missing on this machine
    digests = {*evaluated["sha256"], *known["sha256"]} - {
        "",
        None,
    }
    paths = [root / path for path in table["path"]]
    hashed = [
        (path, value)
        for path, value in zip(files, known["hash"], strict=True)
        if isinstance(value, str)
    ]
    similar = _find_similar(list(zip(paths, table["hash"], strict=True)), hashed)
    groups = {key: set(evaluated[key].dropna()) - {""} for key in ("group_key", "mmsi")}
    train = store.table[store.table["split"] == "train"]
    checks = {
        IS_EVALUATED: (
            table["sha256"].isin(digests)
            | table["pixels"].isin(known["pixels"].dropna())
        ),
        IS_LABELED: table["sha256"].isin(train["sha256"]),
        IS_SAME_SCENE: (
            table["group_key"].isin(groups["group_key"])
            | table["mmsi"].isin(groups["mmsi"])
        ),
        IS_SIMILAR: pd.Series(
            [path in similar for path in paths], table.index, dtype=bool
        ),
    }
    reasons = pd.Series("", index=table.index)
    for reason, applies in checks.items():
        reasons[applies & (reasons == "")] = reason
    remaining = reasons == ""  # a chip that is left out does not replace another
    reasons[remaining & table["pixels"].where(remaining).duplicated()] = IS_REPEATED
    return reasons
