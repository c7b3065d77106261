"""Audit of chips in a chip store or in class folders: duplicates, leaks between splits, contradictions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import combinations, product
from pathlib import Path

import pandas as pd

from rsft.data.audit.findings import AuditFinding, AuditResult, count_finding
from rsft.data.audit.near_duplicates import (
    MAX_HASH_DISTANCE,
    SATURATION_SHARE,
    find_near_duplicates,
    read_chip_contents,
)
from rsft.data.chips.manifest_columns import SPLITS
from rsft.data.chips.store import ChipStore
from rsft.data.chips.summary import missing_classes
from rsft.data.datasets._image_files import LabeledFiles
from rsft.data.datasets._sar.fusrs_classes import REPEATED_ROW_FLAG
from rsft.types import Progress

_COLUMNS = ("name", "path", "split", "class", "source", "group_key", "mmsi", "flags", "sha256")


def audit_store(store: ChipStore, *, jobs: int = 1, progress: Progress | None = None) -> AuditResult:
    """Audit the manifest of a chip store and every chip in it.

    Args:
        store: the chip store.
        jobs: number of processes.
        progress: called after each chip.

    Returns:
        The result.
    """
    table = store.table.reindex(columns=list(_COLUMNS))
    return _audit_table(store.root, table, str(store.root), True, jobs, progress)


def audit_folder(folder: Path, *, jobs: int = 1, progress: Progress | None = None) -> AuditResult:
    """Audit class folders or list files, as `ImageFolderLT` reads them; a chip is called class/file stem.

    Args:
        folder: the folder.
        jobs: number of processes.
        progress: called after each chip.

    Returns:
        The result.

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
    table = pd.concat([table, _read_contents(root, table, jobs, progress)], axis=1)
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


def _read_contents(root: Path, table: pd.DataFrame, jobs: int, progress: Progress | None) -> pd.DataFrame:
    """Return the columns content, hash, saturated and fault of every row."""
    contents = read_chip_contents([root / path for path in table["path"]], jobs, progress)
    rows = [(item.sha256, item.perceptual_hash, item.saturated_share, item.fault) for item in contents]
    columns = ["content", "hash", "saturated", "fault"]
    frame = pd.DataFrame(rows, table.index, columns, dtype=object)  # a hash has 64 bits or is None
    return frame.astype({"saturated": float})


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
        yield count_finding(description, _first_names(usable, _keys_in_several(usable, "content", key)))
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


def _first_names(table: pd.DataFrame, contents: list[str]) -> list[str]:
    """Return the first name of each content."""
    firsts = table.drop_duplicates("content").set_index("content")["name"]
    return [str(firsts[content]) for content in contents]


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
