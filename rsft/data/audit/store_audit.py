"""Audit of chips in a chip store or in class folders: duplicates, leaks between splits, contradictions."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import combinations, product
from pathlib import Path

import imagehash
import numpy as np
import pandas as pd
from PIL import Image

from rsft.data.audit.findings import AuditFinding, AuditResult, count_finding
from rsft.data.chips.store import SPLITS, ChipStore, missing_classes
from rsft.data.datasets._label_files import LabeledFiles
from rsft.data.datasets._srsdd_files import REPEATED_ROW_FLAG
from rsft.data.imagery.reader import read_chip
from rsft.errors import DataError
from rsft.types import Pixels, Progress
from rsft.utils.atomic_files import sha256
from rsft.utils.process_pool import imap_unordered

MAX_HASH_DISTANCE = 3
"""Chips whose 64-bit hashes differ in at most this number of bits are near-duplicates."""
SATURATION_SHARE = 0.25
"""A chip is saturated if at least this share of its pixels has the largest value of the data type."""

_BIT_OFFSETS = range(0, 64, 16)  # hashes that differ in at most 3 bits agree in at least one of 4 runs of 16 bits
_COLUMNS = ("name", "path", "split", "class", "source", "group_key", "mmsi", "flags", "sha256")


def audit_store(store: ChipStore, *, jobs: int = 1, progress: Progress | None = None) -> AuditResult:
    """Audit the manifest of a chip store and every chip in it, with `jobs` processes."""
    table = store.table.reindex(columns=list(_COLUMNS))
    return _audit_table(store.root, table, str(store.root), True, jobs, progress)


def audit_folder(folder: Path, *, jobs: int = 1, progress: Progress | None = None) -> AuditResult:
    """Audit class folders or list files, as `ImageFolderLT` reads them; a chip is called class/file stem.

    Returns:
        Counts of chips, and one finding per check with examples.

    Raises:
        RequestError: the folder contains no labeled image.
    """
    rows = [
        (f"{file.label}/{file.path.stem}", str(file.path), file.split, file.label)
        for file in LabeledFiles(folder).files
    ]
    table = pd.DataFrame(rows, columns=list(_COLUMNS[:4])).reindex(columns=list(_COLUMNS))
    return _audit_table(Path(), table, str(folder), False, jobs, progress)


def _audit_table(
    root: Path, table: pd.DataFrame, subject: str, has_digests: bool, jobs: int, progress: Progress | None
) -> AuditResult:
    table = table.astype({"flags": object, "source": object}).fillna({"flags": "", "source": "all"})
    contents: dict[int, tuple[str, int | None, float, str]] = {}
    for index, content in imap_unordered(_read_content, enumerate(root / path for path in table["path"]), jobs):
        contents[index] = content
        if progress is not None:
            progress(len(contents), len(table), "auditing chips")
    rows = [contents[index] for index in range(len(table))]
    frame = pd.DataFrame(rows, table.index, ["content", "hash", "saturated", "fault"], dtype=object)  # 64-bit hashes
    table = pd.concat([table, frame.astype({"saturated": float})], axis=1)
    splits = [split for split in SPLITS if (table["split"] == split).any()]
    totals: dict[str, int | str] = {f"{split} rows": int((table["split"] == split).sum()) for split in splits}
    totals["distinct contents"] = table["content"].nunique()
    totals["groups (scenes, vessels)"] = table["group_key"].nunique()
    findings = [*_check_rows(table), *_check_pixels(table), _check_classes(table)]
    if has_digests:
        altered = table["name"][table["content"] != table["sha256"]]
        findings.append(count_finding("chips whose file differs from the manifest", altered, len(table)))
    classes: dict[str, dict[str, dict[str, int]]] = {}
    for label, source, split in sorted(zip(table["class"], table["source"], table["split"], strict=True)):
        classes.setdefault(label, {}).setdefault(source, dict.fromkeys(splits, 0))[split] += 1
    return AuditResult(subject, totals, findings, classes)


def _read_content(task: tuple[int, Path]) -> tuple[int, tuple[str, int | None, float, str]]:
    """Read one chip.

    Args:
        task: an index and the file.

    Returns:
        The index; the SHA-256 of the file, the 64-bit perceptual hash, the share of saturated pixels, and "". For a
        constant, damaged or missing file, the last one is the reason.
    """
    index, path = task
    try:
        digest = sha256(path)
        pixels = read_chip(path)
    except OSError as error:
        return index, ("", None, 0.0, f"the file cannot be read: {error.strerror}")
    except DataError as error:
        return index, (digest, None, 0.0, error.message)
    is_integer = np.issubdtype(pixels.dtype, np.integer)
    saturated = float((pixels == np.iinfo(pixels.dtype).max).mean()) if is_integer else 0.0
    return index, (digest, _perceptual_hash(pixels), saturated, "")


def _perceptual_hash(pixels: Pixels) -> int:
    """Return the pHash (Zauner 2010) of the mean band, stretched first because 16-bit chips are dark."""
    gray = pixels.astype(np.float32).mean(axis=2)
    low, high = np.percentile(gray, (1, 99.5))
    gray = np.clip((gray - low) / max(high - low, 1e-6), 0, 1) * 255
    return int(str(imagehash.phash(Image.fromarray(gray.astype(np.uint8)))), 16)


def find_near_duplicates(hashes: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Find pairs of distinct hashes that differ in at most MAX_HASH_DISTANCE bits.

    By the pigeonhole principle, such a pair agrees in at least one run of 16 bits. Only hashes that share a run are
    compared.

    Args:
        hashes: 64-bit hashes.

    Yields:
        Each pair once, the smaller hash first.
    """
    distinct = sorted(set(hashes))
    for offset in _BIT_OFFSETS:
        buckets: dict[int, list[int]] = defaultdict(list)
        for value in distinct:
            buckets[value >> offset & 0xFFFF].append(value)
        for bucket in buckets.values():
            for first, second in combinations(bucket, 2):
                difference = first ^ second
                is_repeated = any(not difference >> before & 0xFFFF for before in range(0, offset, 16))
                if difference.bit_count() <= MAX_HASH_DISTANCE and not is_repeated:
                    yield first, second


def _check_rows(table: pd.DataFrame) -> Iterator[AuditFinding]:
    """Yield the findings that need no pixels."""
    flags = table["flags"].str.split(",").explode()
    flagged = {flag: flags.index[flags == flag] for flag in sorted(set(flags) - {""})}
    firsts = table.drop(flagged.get(REPEATED_ROW_FLAG, []))  # repeated rows have other names
    yield count_finding("names in two splits", _keys_in_several(firsts, "name", "split"))
    yield count_finding("scenes or vessels in two splits", _keys_in_several(table, "group_key", "split"))
    yield count_finding("vessels (MMSI) in two splits", _keys_in_several(table, "mmsi", "split"))
    leaking = set(_keys_in_several(table, "group_key", "split"))
    test = table[table["split"] == "test"]
    yield count_finding(
        "test chips of a scene or vessel of another split", test["name"][test["group_key"].isin(leaking)], len(test)
    )
    for flag, rows in flagged.items():
        yield count_finding(f"chips with the flag {flag}", table["name"][rows], len(table))


def _check_pixels(table: pd.DataFrame) -> Iterator[AuditFinding]:
    """Yield the findings on contents, near-duplicates and unusable or saturated chips."""
    usable = table[table["fault"] == ""]
    yield count_finding(
        "chips that repeat the content of another in their split",
        usable["name"][usable.duplicated(["content", "split"])],
        len(table),
    )
    for key, description in (("split", "contents in two splits"), ("class", "contents in two classes")):
        firsts = usable.drop_duplicates("content").set_index("content")["name"]
        yield count_finding(description, firsts[_keys_in_several(usable, "content", key)])
    yield count_finding(
        f"pairs of near-duplicates across splits (pHash, at most {MAX_HASH_DISTANCE} of 64 bits)",
        _near_duplicates_across_splits(usable),
    )
    faulty = table[table["fault"] != ""]
    yield count_finding(
        "chips that are constant or cannot be read", faulty["name"] + ": " + faulty["fault"], len(table)
    )
    yield count_finding(
        f"chips with {SATURATION_SHARE:.0%} of the pixels saturated",
        usable["name"][usable["saturated"] >= SATURATION_SHARE],
        len(table),
    )


def _check_classes(table: pd.DataFrame) -> AuditFinding:
    """Return the classes that a split lacks, as `class (split)`."""
    missing = missing_classes({str(split): Counter(rows["class"]) for split, rows in table.groupby("split")})
    return count_finding(
        "classes without a chip in a split", (f"{name} ({split})" for split in missing for name in missing[split])
    )


def _keys_in_several(table: pd.DataFrame, key: str, column: str) -> list[str]:
    """Return the values of `key` that occur with more than one value of `column`."""
    counts = table.groupby(key)[column].nunique()
    return [str(value) for value in counts.index[counts > 1]]


def _near_duplicates_across_splits(table: pd.DataFrame) -> Iterator[str]:
    """Yield `name (split) ~ name (split)` for similar but not identical chips in different splits."""
    by_hash: dict[int, list[tuple[str, str, str]]] = {}
    for *row, value in table.drop_duplicates(["content", "split"])[["split", "content", "name", "hash"]].to_numpy():
        by_hash.setdefault(value, []).append(tuple(row))
    same_hash = [pair for rows in by_hash.values() for pair in combinations(rows, 2)]
    near_hash = [
        pair
        for first, second in find_near_duplicates(list(by_hash))
        for pair in product(by_hash[first], by_hash[second])
    ]
    for (split, content, name), (other_split, other_content, other_name) in sorted([*same_hash, *near_hash]):
        if split != other_split and content != other_content:
            yield f"{name} ({split}) ~ {other_name} ({other_split})"
