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

import numpy as np
import pandas as pd

from rsft.data.chips.chip_content import make_chip
from rsft.data.chips.manifest import MANIFEST
from rsft.data.chips.record import ChipRecord
from rsft.data.chips.store import ChipStore
from rsft.data.imagery.contract import Contract
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
from rsft.types import Bands, JsonObject, Progress
from rsft.utils.atomic_files import sha256, write_text
from rsft.utils.cell.client import allow_reading
from rsft.utils.input_paths import expand_path
from rsft.utils.operating_system import walk_files
from rsft.utils.process_pool import imap_unordered
from rsft.utils.progress import track

IS_EVALUATED = "validation or test chip of the data set"
IS_SIMILAR = "near-duplicate of a validation or test chip"
IS_SAME_SCENE = "scene or vessel of a validation or test chip"
IS_LABELED = "training chip, which has a label"
IS_REPEATED = "same content as another chip of the pool"

_VERSION = "3"  # increase it if the same files would give other hashes, units or bands
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

    def metadata(self) -> JsonObject:
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
    root = Path()
    if (Path(source) / MANIFEST).is_file():
        root = Path(source)
    described = _read_table(source, store.bands, progress)
    table = described[described["fault"] == ""].reset_index(drop=True)
    expected = ",".join(store.bands)
    for _, chip in table.drop_duplicates(["bands", "spacing_m"]).iterrows():
        try:
            if chip["bands"] != expected:
                raise DataError(
                    f"bands {chip['bands']}, but the data set has {expected}"
                )
            if pd.notna(chip["spacing_m"]):
                contract.check_spacing([float(chip["spacing_m"])])
        except DataError as error:
            raise DataError(
                error.message,
                root / chip["path"],
                "prepare the chips like those of the data set",
            ) from error
    reasons = _find_reasons(table, root, store, progress)
    left_out = Counter(described["fault"]) + Counter(reasons)
    del left_out[""]
    table = table[reasons == ""].reset_index(drop=True)
    if table.empty:
        counts = [f"{count:,} x {reason}" for reason, count in left_out.items()]
        raise RequestError(
            f"no chip without a label remains: {', '.join(counts)}",
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


_COLUMNS = ["path", "name", "unit", "bands", "sha256", "group_key", "mmsi", "spacing_m"]


def _read_table(source: str, bands: Bands, progress: Progress | None) -> pd.DataFrame:
    """Return one row per chip, as in a manifest.

    It also has hashes of file and pixels, and the fault of the file, which has one if
    its bands are not the `bands` of the data set.
    """
    root = Path(source)
    if (root / MANIFEST).is_file():
        known = ChipStore.open(root).table.reindex(columns=_COLUMNS)
        paths = [root / path for path in known["path"]]
    else:
        allow_reading(next(x for x in (root, *root.parents) if x.exists()))
        paths = _find_images(source)
        names = [path.stem for path in paths]
        known = pd.DataFrame({"path": map(str, paths), "name": names})
        root = Path()
    described = _describe_chips(paths, root, bands, progress)
    table = known.combine_first(pd.DataFrame(described))
    columns = [*_COLUMNS, "pixels", "hash", "fault"]
    return table.reindex(columns=columns).assign(**{"class": ""})


def _find_images(source: str) -> list[Path]:
    """Return the image files of a folder, or of what matches a pattern, in order.

    Raises:
        RequestError: the folder is missing, nothing matches, or there are no images.
    """
    images: set[Path] = set()
    for path in expand_path(Path(source)):
        files = map(Path, walk_files(path)) if path.is_dir() else [path]
        images.update(
            file.absolute()
            for file in files
            if file.suffix.lower() in IMAGE_SUFFIXES and file.is_file()
        )
    if not images:
        raise RequestError(
            "no chips without labels",
            source,
            "a folder must contain image files, with a suffix of"
            f" {' '.join(sorted(IMAGE_SUFFIXES))}",
        )
    return sorted(images)


def _describe_chips(
    paths: Sequence[Path], root: Path, bands: Bands, progress: Progress | None
) -> list[JsonObject]:
    """Return `_describe` of each chip.

    Results are kept in the cache of `root`, by path, size and time of the file.

    Args:
        paths: the files.
        root: the chip store; another folder for chips without a manifest.
        bands: bands of the data set.
        progress: called while files are read.
    """
    keys = [_file_key(path) for path in paths]
    digest = hashlib.sha256("\n".join([*bands, *map(str, paths)]).encode()).hexdigest()
    cache = cache_folder(root) / f"contents-{digest}.json"
    known = {}
    with suppress(OSError, ValueError, KeyError):  # the files are read again
        known = json.loads(cache.read_text("utf-8"))[_VERSION]
    tasks = [
        (key, path, bands)
        for key, path in zip(keys, paths, strict=True)
        if key not in known
    ]
    jobs = 2 if len(tasks) >= _MIN_CHIPS_FOR_TWO_JOBS else 1
    rows = imap_unordered(_describe, tasks, jobs)
    task = "reading unlabeled and validation chips"
    known |= track(rows, len(tasks), progress, task)
    if tasks:
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


def _describe(task: tuple[str, Path, Bands]) -> tuple[str, JsonObject]:
    """Return the key of a chip, and its unit, bands, hashes, or its fault."""
    key, path, bands = task
    try:
        chip = make_chip(ChipRecord(path.stem, "", "", path, bands=bands))
    except OSError as error:
        return key, {"fault": str(error.strerror)}
    except DataError as error:
        return key, {"fault": error.message}
    row = {name: chip.row[name] for name in ("unit", "bands")}
    return key, row | {
        "sha256": sha256(path),
        "pixels": pixel_digest(chip.pixels),
        "hash": f"{hash_similarity(chip.pixels):016x}",
        "fault": "",
    }


def _find_reasons(
    table: pd.DataFrame, root: Path, store: ChipStore, progress: Progress | None
) -> "pd.Series[str]":
    """Return why each chip of a pool is left out; "" if it stays."""
    is_train = store.table["split"] == "train"
    train = store.table[is_train]
    evaluated = store.table[~is_train]
    files = [store.root / path for path in evaluated["path"]]
    contents = pd.DataFrame(
        _describe_chips(files, store.root, store.bands, progress),
        index=files,
        columns=["sha256", "pixels", "hash"],
    )
    contents = contents[contents["hash"].notna()]  # a test chip may be missing here
    digests = {*evaluated["sha256"], *contents["sha256"]} - {"", None}
    compared = [root / path for path in table["path"]] + list(contents.index)

    def read(row: int) -> Thumbnail:
        return make_thumbnail(read_chip(compared[row]))

    hashes = [int(text, 16) for text in [*table["hash"], *contents["hash"]]]
    is_evaluated = np.arange(len(compared)) >= len(table)
    similar = [row for row, _ in find_similar(hashes, is_evaluated, read)]
    is_same_scene = pd.Series(data=False, index=table.index)
    for key in ("group_key", "mmsi"):
        is_same_scene |= table[key].isin(set(evaluated[key].dropna()) - {""})
    is_evaluated_too = table["sha256"].isin(digests) | table["pixels"].isin(
        contents["pixels"]
    )
    reasons = pd.Series("", index=table.index)
    for reason, applies in (
        (IS_SIMILAR, table.index.isin(similar)),
        (IS_SAME_SCENE, is_same_scene),
        (IS_LABELED, table["sha256"].isin(train["sha256"])),
        (IS_EVALUATED, is_evaluated_too),
    ):
        reasons[applies] = reason
    remaining = reasons == ""  # a chip that is left out does not replace another
    reasons[remaining & table["pixels"].where(remaining).duplicated()] = IS_REPEATED
    return reasons
