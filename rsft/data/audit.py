"""Audit of chips in a chip store or in class folders: duplicates, leaks between splits, contradictory labels."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass, field
from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from rsft.data.chips.store import SPLITS, ChipStore, missing_classes, read_manifest
from rsft.data.datasets._label_files import LabeledFiles
from rsft.data.datasets._srsdd_files import REPEATED_ROW_FLAG
from rsft.data.imagery.reader import read_chip
from rsft.errors import DataError
from rsft.types import Pixels, Progress
from rsft.utils.atomic_files import sha256, write_text
from rsft.utils.process_pool import imap_unordered
from rsft.utils.untrusted.documents import load_json

AUDIT_FILE = "audit.json"
"""File name of the audit in a chip store."""
MAX_HASH_DISTANCE = 3
"""Chips whose 64-bit hashes differ in at most this number of bits are near-duplicates."""
SATURATION_SHARE = 0.25
"""A chip is saturated if at least this share of its pixels has the largest value of the data type."""

_LEAKS = ("scenes or vessels in two splits", "vessels (MMSI) in two splits", "contents in two splits")
_EXAMPLES = 5
_BIT_OFFSETS = range(0, 64, 16)  # hashes that differ in at most 3 bits agree in at least one of 4 runs of 16 bits
_COLUMNS = ("name", "path", "split", "class", "source", "group_key", "mmsi", "flags", "sha256")
_REPEATING = ("split", "class", "source", "group_key", "mmsi", "flags")  # columns with few values


@dataclass(frozen=True)
class AuditFinding:
    """One kind of fault. Pydantic reads it from audit.json, where two fields have other names.

    Attributes:
        description: the fault, in words.
        count: number of occurrences.
        total: number of checked items; None if it is not meaningful.
        examples: the first few occurrences, in order.
    """

    description: str = field(metadata={"validation_alias": "what"})
    count: int
    total: int | None = field(default=None, metadata={"validation_alias": "of"})
    examples: tuple[str, ...] = ()


@dataclass(frozen=True)
class AuditResult:
    """Checked items, faults and class counts of an audit. Pydantic reads it from audit.json, where `totals` is "facts".

    Attributes:
        subject: what was checked.
        totals: numbers that do not count as faults, in display order.
        findings: every kind of fault, those that did not occur included.
        classes: number of rows by class, origin and split.
    """

    subject: str
    totals: dict[str, int | str] = field(metadata={"validation_alias": "facts"})
    findings: Sequence[AuditFinding]
    classes: dict[str, dict[str, dict[str, int]]]

    @property
    def leaks(self) -> list[str]:
        """Count and description of the faults that let a test see training data; near-duplicates are a guess."""
        return [
            f"{fault.count:,} {fault.description}"
            for fault in self.findings
            if fault.count and fault.description in _LEAKS
        ]

    @property
    def is_clean(self) -> bool:
        """Whether no fault occurred."""
        return not any(finding.count for finding in self.findings)


def count_finding(description: str, occurrences: Iterable[object], total: int | None = None) -> AuditFinding:
    """Count the occurrences of a fault among `total` checked items; the texts of the first few become examples."""
    texts = tuple(map(str, occurrences))
    return AuditFinding(description, len(texts), total, texts[:_EXAMPLES])


def read_audits(path: Path) -> list[AuditResult]:
    """Read the results that `write_audits` wrote.

    Raises:
        DataError: the file is damaged.

    Example:
        >>> read_audits(Path("data/ships/audit.json"))[0].totals["train rows"]
        24
    """
    from pydantic import TypeAdapter

    try:
        return TypeAdapter(list[AuditResult]).validate_python(load_json(path))
    except (OSError, ValueError) as error:
        raise DataError(f"{path.name} is damaged ({error})", path, "run `rsft audit` again") from error


def write_audits(path: Path, audits: Sequence[AuditResult]) -> None:
    """Write a JSON list with one object per audit; the file is replaced atomically."""
    content = []
    for audit in audits:
        names = ("what", "count", "of", "examples")
        findings = [dict(zip(names, astuple(finding), strict=True)) for finding in audit.findings]
        header = {"clean": audit.is_clean, "subject": audit.subject, "facts": audit.totals}
        content.append(header | {"findings": findings, "classes": audit.classes})
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def audit_store(store: ChipStore, *, jobs: int = 1, progress: Progress | None = None) -> AuditResult:
    """Audit the manifest of a chip store and every chip in it, with `jobs` processes."""
    return _audit_table(store.root, read_manifest(store.root, _COLUMNS), str(store.root), True, jobs, progress)


def audit_folder(folder: Path, *, jobs: int = 1, progress: Progress | None = None) -> AuditResult:
    """Audit class folders or list files, as `ImageFolderLT` reads them; a chip is called class/file stem.

    Returns:
        Counts of chips, and one finding per check with examples.

    Raises:
        RequestError: the folder contains no labeled image.
    """
    files = LabeledFiles(folder).files
    rows = [(f"{file.label}/{file.path.stem}", str(file.path), file.split, file.label) for file in files]
    return _audit_table(Path(), pd.DataFrame(rows, columns=list(_COLUMNS[:4])), str(folder), False, jobs, progress)


def _audit_table(
    root: Path, table: pd.DataFrame, subject: str, has_digests: bool, jobs: int, progress: Progress | None
) -> AuditResult:
    total, faults = len(table), dict[int, str]()
    table = table.reindex(columns=list(_COLUMNS)).astype(dict.fromkeys(_REPEATING, "category"))
    for name, default in {"flags": "", "source": "all"}.items():
        values = table[name].cat.categories.union([default])
        table[name] = table[name].cat.set_categories(values).fillna(default)
    digests, hashes = np.zeros(total, "S32"), np.zeros(total, np.uint64)  # few bytes per chip, no objects
    is_saturated, is_altered = np.zeros(total, bool), np.zeros(total, bool)
    tasks = ((row, root / path, digest) for row, path, digest in table[["path", "sha256"]].itertuples(name=None))
    for done, (row, content) in enumerate(imap_unordered(_read_content, tasks, jobs), 1):
        digests[row], hashes[row], is_saturated[row], is_altered[row], fault = content
        if fault:
            faults[row] = fault
        if progress is not None:
            progress(done, total, "auditing chips")
    contents = np.unique(digests, return_inverse=True)[1].astype(np.int32)  # numbers in the order of the digests
    table = table.drop(columns=["path", "sha256"]).assign(content=contents, hash=hashes, is_saturated=is_saturated)
    del digests, contents, hashes
    splits = [split for split in SPLITS if (table["split"] == split).any()]
    totals: dict[str, int | str] = {f"{split} rows": int((table["split"] == split).sum()) for split in splits}
    totals["distinct contents"] = table["content"].nunique()
    totals["groups (scenes, vessels)"] = table["group_key"].nunique()
    findings = list(_find_faults(table, pd.Series(faults, dtype=object).sort_index()))
    if has_digests:
        findings.append(
            count_finding("chips whose file differs from the manifest", table["name"][is_altered], len(table))
        )
    classes: dict[str, dict[str, dict[str, int]]] = {}
    counts = table.groupby(["class", "source", "split"], observed=True).size().reset_index()
    for label, source, split, count in counts.itertuples(index=False, name=None):
        classes.setdefault(label, {}).setdefault(source, dict.fromkeys(splits, 0))[split] = int(count)
    return AuditResult(subject, totals, findings, classes)


def _read_content(task: tuple[int, Path, object]) -> tuple[int, tuple[bytes, int, bool, bool, str]]:
    """Read one chip, which is given by its row, its path and the SHA-256 in the manifest.

    Returns:
        The row; the SHA-256 of the file, the 64-bit pHash (Zauner 2010) of the mean band, whether the chip is saturated
        and whether its file differs from the manifest, and "". For a constant, damaged or missing file, the last one is
        the reason.
    """
    row, path, expected = task
    try:
        digest = sha256(path)
        pixels = read_chip(path)
    except OSError as error:
        return row, (b"", 0, False, True, f"the file cannot be read: {error.strerror}")
    except DataError as error:
        return row, (bytes.fromhex(digest), 0, False, digest != expected, error.message)
    is_integer = np.issubdtype(pixels.dtype, np.integer)
    is_saturated = is_integer and bool((pixels == np.iinfo(pixels.dtype).max).mean() >= SATURATION_SHARE)
    return row, (bytes.fromhex(digest), hash_similarity(pixels), is_saturated, digest != expected, "")


def hash_similarity(pixels: Pixels) -> int:
    """Return the 64-bit pHash (Zauner 2010) of the mean band of a chip (H, W, B)."""
    import imagehash

    gray = pixels.astype(np.float32).mean(axis=2)
    low, high = np.percentile(gray, (1, 99.5))
    gray = np.clip((gray - low) / max(high - low, 1e-6), 0, 1) * 255  # 16-bit chips are dark
    return int(str(imagehash.phash(Image.fromarray(gray.astype(np.uint8)))), 16)


def find_near_duplicates(hashes: Iterable[int]) -> set[tuple[int, int]]:
    """Find pairs of distinct 64-bit hashes that differ in at most MAX_HASH_DISTANCE bits.

    By the pigeonhole principle, such a pair agrees in at least one run of 16 bits. Only hashes that share a run are
    compared.

    Returns:
        Each pair once, the smaller hash first.
    """
    distinct, pairs = np.unique(np.fromiter(hashes, np.uint64)), set[tuple[int, int]]()
    for offset in _BIT_OFFSETS:
        runs = (distinct >> np.uint64(offset)).astype(np.uint16)
        order = np.argsort(runs, kind="stable")
        values, runs, first = distinct[order], runs[order], np.arange(len(order))
        for step in range(1, len(order)):  # compare each hash with the one `step` places behind, if it shares the run
            first = first[first + step < len(order)]
            first = first[runs[first] == runs[first + step]]
            if not len(first):
                break
            near = first[_count_bits(values[first] ^ values[first + step]) <= MAX_HASH_DISTANCE]
            pairs.update(zip(values[near].tolist(), values[near + step].tolist(), strict=True))
    return pairs


def _count_bits(values: NDArray[np.uint64]) -> NDArray[np.integer]:
    return np.asarray(np.unpackbits(values.view(np.uint8).reshape(-1, 8), axis=1).sum(axis=1))


def _find_faults(table: pd.DataFrame, faults: "pd.Series[str]") -> Iterator[AuditFinding]:
    """Yield one finding per kind of fault, those of the manifest first; `faults` has the rows that cannot be used."""
    flags, names, total = table["flags"], table["name"], len(table)
    flags = flags[flags != ""].str.split(",").explode()
    flagged = {flag: flags.index[flags == flag] for flag in sorted(set(flags) - {""})}
    firsts = table.drop(flagged.get(REPEATED_ROW_FLAG, []))  # repeated rows have other names
    leaking = _keys_in_several(table, "group_key", "split")
    test = table[table["split"] == "test"]
    leaked = test["name"][test["group_key"].isin(leaking)]
    yield count_finding("names in two splits", _keys_in_several(firsts, "name", "split"))
    del firsts
    yield count_finding(_LEAKS[0], leaking)
    yield count_finding(_LEAKS[1], _keys_in_several(table, "mmsi", "split"))
    yield count_finding("test chips of a scene or vessel of another split", leaked, len(test))
    for flag, rows in flagged.items():
        yield count_finding(f"chips with the flag {flag}", names[rows], total)
    usable = table[["split", "class", "content", "hash", "is_saturated"]].drop(faults.index)
    repeating = names[usable.index[usable.duplicated(["content", "split"])]]
    yield count_finding("chips that repeat the content of another in their split", repeating, total)
    contents = usable["content"].drop_duplicates().sort_values()
    for key, description in (("split", _LEAKS[2]), ("class", "contents in two classes")):
        yield count_finding(description, names[contents.index[contents.isin(_keys_in_several(usable, "content", key))]])
    description = f"pairs of near-duplicates across splits (pHash, at most {MAX_HASH_DISTANCE} of 64 bits)"
    yield count_finding(description, _near_duplicates_across_splits(usable, names))
    yield count_finding("chips that are constant or cannot be read", names[faults.index] + ": " + faults, total)
    saturated = names[usable.index[usable["is_saturated"]]]
    yield count_finding(f"chips with {SATURATION_SHARE:.0%} of the pixels saturated", saturated, total)
    labels = table.groupby("split", observed=True)["class"]
    missing = missing_classes({str(split): Counter(column) for split, column in labels})
    absent = [f"{name} ({split})" for split in missing for name in missing[split]]
    yield count_finding("classes without a chip in a split", absent)


def _keys_in_several(table: pd.DataFrame, key: str, column: str) -> list[Any]:
    """Return the values of `key` that occur with more than one value of `column`, in order."""
    keys = table[[key, column]].drop_duplicates()[key].dropna()
    return sorted(set(keys[keys.duplicated()]))


def _near_duplicates_across_splits(table: pd.DataFrame, names: "pd.Series[str]") -> Iterator[str]:
    """Yield `name (split) ~ name (split)` for similar but not identical chips in different splits."""
    rows = table.drop_duplicates(["content", "split"])[["split", "content", "hash"]]
    near = find_near_duplicates(rows["hash"])
    similar = rows["hash"].duplicated(keep=False) | rows["hash"].isin({value for pair in near for value in pair})
    by_hash: dict[int, list[tuple[str, int, str]]] = {}
    for index, split, content, value in rows[similar].itertuples(name=None):
        by_hash.setdefault(value, []).append((split, content, names[index]))
    same_hash = [pair for chips in by_hash.values() for pair in combinations(chips, 2)]
    near_hash = [pair for x, y in near for pair in product(by_hash[x], by_hash[y])]
    for (split, content, name), (other_split, other_content, other_name) in sorted([*same_hash, *near_hash]):
        if split != other_split and content != other_content:
            yield f"{name} ({split}) ~ {other_name} ({other_split})"
