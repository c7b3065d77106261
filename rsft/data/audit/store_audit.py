"""Chips, prepared or in class folders: what repeats, what leaks between splits, what contradicts itself."""

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
from rsft.data.chips.store import SPLITS, ChipStore
from rsft.data.chips.summary import missing_classes
from rsft.data.datasets.fusrs import REPEATED_ROW_FLAG
from rsft.data.datasets.image_folder import ImageFolderLT
from rsft.types import Progress

_COLUMNS = ("name", "path", "split", "class", "source", "group_key", "mmsi", "flags", "sha256")


def audit_store(store: ChipStore, *, jobs: int = 1, progress: Progress | None = None) -> AuditResult:
    """Audit a prepared root: its manifest, and every chip that it names."""
    table = store.table.reindex(columns=list(_COLUMNS))
    altered = "chips that are not what the manifest says"
    return _audit(store.root, table, str(store.root), altered, jobs, progress)


def audit_folder(folder: Path, *, jobs: int = 1, progress: Progress | None = None) -> AuditResult:
    """Audit a tree of class folders, or list files, as `ImageFolderLT` finds it; a name is its class and file name.

    Raises:
        RequestError: no labelled image in it.
    """
    rows = [
        (f"{file.label}/{file.path.stem}", str(file.path), file.split, file.label)
        for file in ImageFolderLT(folder).files
    ]
    table = pd.DataFrame(rows, columns=list(_COLUMNS[:4])).reindex(columns=list(_COLUMNS))
    return _audit(Path(), table, str(folder), "", jobs, progress)


def _audit(
    root: Path, table: pd.DataFrame, subject: str, altered: str, jobs: int, progress: Progress | None
) -> AuditResult:
    table = table.astype({"flags": object, "source": object}).fillna({"flags": "", "source": "all"})
    table = pd.concat([table, _looks(root, table, jobs, progress)], axis=1)
    splits = [split for split in SPLITS if (table["split"] == split).any()]
    facts: dict[str, int | str] = {f"{split} rows": int((table["split"] == split).sum()) for split in splits}
    facts["distinct contents"] = table["content"].nunique()
    facts["groups (scenes, vessels)"] = table["group_key"].nunique()
    findings = [*_of_rows(table), *_of_pixels(table), _missing(table)]
    if altered:
        findings.append(count_finding(altered, table["name"][table["content"] != table["sha256"]], len(table)))
    classes: dict[str, dict[str, dict[str, int]]] = {}
    for label, source, split in sorted(zip(table["class"], table["source"], table["split"], strict=True)):
        classes.setdefault(label, {}).setdefault(source, dict.fromkeys(splits, 0))[split] += 1
    return AuditResult(subject, facts, findings, classes)


def _looks(root: Path, table: pd.DataFrame, jobs: int, progress: Progress | None) -> pd.DataFrame:
    """content, hash, saturated and fault of every row."""
    looks = read_chip_contents([root / path for path in table["path"]], jobs, progress)
    rows = [(look.sha256, look.hash, look.saturated, look.fault) for look in looks]
    columns = ["content", "hash", "saturated", "fault"]
    found = pd.DataFrame(rows, table.index, columns, dtype=object)  # a hash is 64 bits, or nothing
    return found.astype({"saturated": float})


def _of_rows(table: pd.DataFrame) -> Iterator[AuditFinding]:
    """What the rows say, whatever the pixels."""
    flags = table["flags"].str.split(",").explode()
    flagged = {flag: flags.index[flags == flag] for flag in sorted(set(flags) - {""})}
    firsts = table.drop(flagged.get(REPEATED_ROW_FLAG, []))  # the others have names of their own
    yield count_finding("names in two splits", _in_several(firsts, "name", "split"))
    yield count_finding("scenes or vessels in two splits", _in_several(table, "group_key", "split"))
    yield count_finding("vessels (MMSI) in two splits", _in_several(table, "mmsi", "split"))
    leaking = set(_in_several(table, "group_key", "split"))
    test = table[table["split"] == "test"]
    yield count_finding(
        "test chips of a scene or vessel of another split", test["name"][test["group_key"].isin(leaking)], len(test)
    )
    for flag, rows in flagged.items():
        yield count_finding(f"chips with the flag {flag}", table["name"][rows], len(table))


def _of_pixels(table: pd.DataFrame) -> Iterator[AuditFinding]:
    """What the contents say."""
    usable = table[table["fault"] == ""]
    yield count_finding(
        "chips that repeat the content of another in their split",
        usable["name"][usable.duplicated(["content", "split"])],
        len(table),
    )
    yield count_finding("contents in two splits", _names_of(usable, _in_several(usable, "content", "split")))
    yield count_finding("contents in two classes", _names_of(usable, _in_several(usable, "content", "class")))
    yield count_finding(
        f"pairs of near-duplicates across splits (pHash, at most {MAX_HASH_DISTANCE} of 64 bits)", _near(usable)
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


def _missing(table: pd.DataFrame) -> AuditFinding:
    """`class (split)`."""
    missing = missing_classes({str(split): Counter(rows["class"]) for split, rows in table.groupby("split")})
    return count_finding(
        "classes without a chip in a split", (f"{name} ({split})" for split in missing for name in missing[split])
    )


def _in_several(table: pd.DataFrame, key: str, spread: str) -> list[str]:
    """The values of `key` that have more than one value of `spread`."""
    counts = table.groupby(key)[spread].nunique()
    return [str(value) for value in counts.index[counts > 1]]


def _names_of(table: pd.DataFrame, contents: list[str]) -> list[str]:
    """The first name of each content."""
    firsts = table.drop_duplicates("content").set_index("content")["name"]
    return [str(firsts[content]) for content in contents]


def _near(table: pd.DataFrame) -> Iterator[str]:
    """`name (split) ~ name (split)`: different contents in different splits whose hashes differ in few bits or none."""
    by_hash: dict[int, list[tuple[str, str, str]]] = {}
    for *row, value in table.drop_duplicates(["content", "split"])[["split", "content", "name", "hash"]].to_numpy():
        by_hash.setdefault(value, []).append(tuple(row))
    alike = [pair for rows in by_hash.values() for pair in combinations(rows, 2)]
    nearly = [
        pair
        for first, second in find_near_duplicates(list(by_hash))
        for pair in product(by_hash[first], by_hash[second])
    ]
    for (split, content, name), (other_split, other_content, other_name) in sorted([*alike, *nearly]):
        if split != other_split and content != other_content:
            yield f"{name} ({split}) ~ {other_name} ({other_split})"
