"""The pool: chips without labels. Chips like those on which a run is validated or tested are left out."""

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rsft.data.audit import find_near_duplicates, hash_similarity
from rsft.data.chips.additions import pixel_digest
from rsft.data.chips.builder import resolve_band_names, resolve_unit
from rsft.data.chips.store import MANIFEST, ChipStore
from rsft.data.imagery.contract import Contract, resize_image
from rsft.data.imagery.reader import IMAGE_SUFFIXES, read_band_names, read_chip, read_tiff_tags, read_unit
from rsft.data.loading.batches import ChipImages
from rsft.errors import DataError, RequestError
from rsft.types import Progress
from rsft.utils.atomic_files import sha256
from rsft.utils.process_pool import imap_unordered

MIN_CORRELATION = 0.95
"""Of the pixels of near-duplicates. Re-encoded copies have more; different views of one vehicle on MSTAR have 0.9."""

IS_EVALUATED = "validation or test chip of the data set"
IS_SIMILAR = "near-duplicate of a validation or test chip"
IS_SAME_SCENE = "scene or vessel of a validation or test chip"
IS_LABELED = "training chip, which has a label"
IS_REPEATED = "same content as another chip of the pool"


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
        return {"chips": len(self.chips), "sha256": self.sha256, "left_out": dict(self.left_out)}

    def describe(self) -> str:
        """Return the number of chips, and of those that are left out by reason, in words."""
        left_out = "".join(f"; left out: {count:,} x {reason}" for reason, count in self.left_out.items())
        return f"{len(self.chips):,} unlabeled chips{left_out}"


def open_pool(source: str, store: ChipStore, contract: Contract, progress: Progress | None = None) -> Pool:
    """Read the chips of a folder, a chip store or a glob pattern; labels in a chip store are ignored.

    Args:
        source: folder (searched recursively), chip store, or pattern.
        store: the data set of the run, whose validation and test chips must not be in the pool.
        contract: what the chips must be.
        progress: called while chips are read.

    Returns:
        The pool.

    Raises:
        RequestError: no file matches, or no chip remains.
        DataError: a chip does not fulfill the contract.
    """
    table = _read_table(source, progress)
    left_out = Counter(table["fault"][table["fault"] != ""])
    table = table[table["fault"] == ""].reset_index(drop=True)
    expected = ",".join(store.bands)
    for chip in table.itertuples():
        if chip.bands != expected:
            hint = "prepare the chips with the bands of the data set"
            raise DataError(f"bands {chip.bands}, but the data set has {expected}", chip.path, hint)
        if isinstance(chip.spacing_m, float) and np.isfinite(chip.spacing_m):
            contract.check_spacing([chip.spacing_m])
    reasons = _find_reasons(table, store, progress)
    left_out += Counter(reasons[reasons != ""])
    table = table[reasons == ""].reset_index(drop=True)
    if table.empty:
        reasons_text = ", ".join(f"{count:,} {reason}" for reason, count in left_out.items())
        raise RequestError(f"no chip without a label remains: {reasons_text}", source, "give other chips")
    digest = hashlib.sha256("".join(table["sha256"]).encode()).hexdigest()
    root = Path(source) if (Path(source) / MANIFEST).is_file() else Path()
    return Pool(ChipImages(root, table, (), contract, progress), dict(left_out), digest)


def _read_table(source: str, progress: Progress | None) -> pd.DataFrame:
    """Return one row per chip, with the columns of a manifest, hashes of file and pixels, and the fault of the file."""
    folder = Path(source)
    if (folder / MANIFEST).is_file():
        table = ChipStore.open(folder).table
        paths, columns = [folder / path for path in table["path"]], table.to_dict("records")
    else:
        files = folder.rglob("*") if folder.is_dir() else folder.parent.glob(folder.name)
        paths = sorted(path for path in files if path.is_file() and path.suffix.lower() in IMAGE_SUFFIXES)
        columns = [{"path": str(path.absolute()), "name": path.stem} for path in paths]
    if not paths:
        hint = f"a folder must contain image files, with a suffix of {' '.join(sorted(IMAGE_SUFFIXES))}"
        raise RequestError("no chips without labels", source, hint)
    rows: dict[int, dict[Any, Any]] = {}
    for index, row in imap_unordered(_describe, enumerate(paths), 1):
        rows[index] = row | {key: value for key, value in columns[index].items() if value is not None}
        if progress is not None:
            progress(len(rows), len(paths), "reading unlabeled chips")
    names = ["path", "name", "unit", "bands", "class", "sha256", "spacing_m", "group_key", "mmsi"]
    names += ["file", "pixels", "hash", "fault"]
    table = pd.DataFrame([rows[index] for index in range(len(paths))]).reindex(columns=names)
    return table.fillna({"fault": ""}).assign(**{"class": ""})


def _describe(task: tuple[int, Path]) -> tuple[int, dict[str, Any]]:
    """Return the index of a chip, and its unit, bands, hashes, or its fault."""
    index, path = task
    try:
        digest, pixels = sha256(path), read_chip(path)
        unit = read_tiff_tags(path, lambda file: read_unit([file], path)) if pixels.dtype.kind == "f" else None
        bands = ",".join(resolve_band_names(pixels, read_tiff_tags(path, read_band_names)))
        row = {"sha256": digest, "unit": resolve_unit(pixels, unit), "bands": bands}
    except (OSError, DataError) as error:
        return index, {"file": str(path), "fault": str(error.strerror if isinstance(error, OSError) else error.message)}
    row |= {"pixels": pixel_digest(pixels), "hash": f"{hash_similarity(pixels):016x}"}
    return index, row | {"file": str(path), "fault": ""}


def _files_by_hash(table: pd.DataFrame) -> dict[int, list[Path]]:
    """Return the files of the chips with each pHash; chips that cannot be read have none."""
    files: dict[int, list[Path]] = {}
    for value, file in table.loc[table["hash"].notna(), ["hash", "file"]].itertuples(index=False):
        files.setdefault(int(value, 16), []).append(Path(file))
    return files


def _find_similar(pool: Mapping[int, list[Path]], evaluated: Mapping[int, list[Path]]) -> set[str]:
    """Return the files of a pool that show the same as an evaluated chip: similar pHash, and correlated pixels.

    The pHash alone also agrees for different views of similar objects.
    """
    pairs = {(value, value) for value in pool if value in evaluated}
    for pair in find_near_duplicates([*pool, *evaluated]):
        pairs |= {(x, y) for x, y in (pair, pair[::-1]) if x in pool and y in evaluated}
    similar = set[str]()
    for x, y in pairs:
        others = np.stack([_read_small(path) for path in evaluated[y]])
        similar |= {str(path) for path in pool[x] if (others @ _read_small(path)).max() >= MIN_CORRELATION}
    return similar


@lru_cache(maxsize=4096)
def _read_small(path: Path) -> NDArray[np.float64]:
    """Read a chip as 64 x 64 pixels of its mean band, with mean 0 and norm 1, flat."""
    small = resize_image(read_chip(path).astype(np.float32).mean(axis=2, keepdims=True), (64, 64), by_area=True)
    centered = (small - small.mean()).ravel().astype(np.float64)
    return np.asarray(centered / max(float(np.linalg.norm(centered)), 1e-12))


def _find_reasons(table: pd.DataFrame, store: ChipStore, progress: Progress | None) -> "pd.Series[str]":
    """Return why each chip of a pool is left out; "" if it stays."""
    evaluated = store.table[store.table["split"] != "train"].reset_index(drop=True)
    contents = [_describe((0, store.root / path))[1] for path in evaluated["path"]]
    known = pd.DataFrame(contents).reindex(columns=["sha256", "pixels", "hash", "file"])
    evaluated = pd.concat([evaluated.drop(columns="sha256"), known], axis=1)
    groups = {key: set(evaluated[key].dropna()) - {""} for key in ("group_key", "mmsi")}
    train = store.table[store.table["split"] == "train"]
    checks = {
        IS_EVALUATED: table["sha256"].isin(evaluated["sha256"]) | table["pixels"].isin(evaluated["pixels"]),
        IS_LABELED: table["sha256"].isin(train["sha256"]),
        IS_SAME_SCENE: table["group_key"].isin(groups["group_key"]) | table["mmsi"].isin(groups["mmsi"]),
        IS_SIMILAR: table["file"].isin(_find_similar(_files_by_hash(table), _files_by_hash(evaluated))),
        IS_REPEATED: table["pixels"].duplicated(),
    }
    reasons = pd.Series("", index=table.index)
    for reason, applies in checks.items():
        reasons[applies & (reasons == "")] = reason
    return reasons
