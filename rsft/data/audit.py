"""Audit of chips: duplicates, leaks between splits, contradictory labels.

The chips are those of a chip store or of class folders.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import union_categoricals
from pandas.util import hash_pandas_object
from pydantic import TypeAdapter

from rsft.data.chips.class_names import missing_classes
from rsft.data.chips.manifest import MANIFEST, SPLITS, read_manifest_parts
from rsft.data.chips.store import ChipStore
from rsft.data.datasets.formats.fusrs_classes import REPEATED_ROW_FLAG
from rsft.data.datasets.formats.labeled_files import LabeledFiles
from rsft.data.imagery.reader import read_chip
from rsft.data.similarity import (
    Thumbnail,
    find_similar,
    hash_similarity,
    make_thumbnail,
    symmetric_digest,
)
from rsft.errors import DataError
from rsft.types import Names, Progress
from rsft.utils.atomic_files import sha256, write_text
from rsft.utils.parquet_files import read_parquet_header
from rsft.utils.process_pool import imap_unordered
from rsft.utils.progress import track
from rsft.utils.untrusted.documents import load_json

SATURATION_SHARE = 0.25
"""A chip is saturated if at least this share of its pixels has the largest value of the
data type."""

_LEAKS = (
    "scenes or vessels in two splits",
    "vessels (MMSI) in two splits",
    "contents in two splits (also turned or mirrored)",
)
_EXAMPLES = 5
# columns with few values
_REPEATING = (
    "split",
    "class",
    "source",
    "group_key",
    "mmsi",
    "flags",
)
_COLUMNS = ("name", "path", *_REPEATING, "sha256")


@dataclass(frozen=True)
class AuditFinding:
    """One kind of fault.

    Pydantic reads it from audit.json, where two fields have other names.

    Attributes:
        description: the fault, in words.
        count: number of occurrences.
        total: number of checked items; None if it is not meaningful.
        examples: the first few occurrences, in order.
    """

    description: str = field(metadata={"alias": "what"})
    count: int
    total: int | None = field(default=None, metadata={"alias": "of"})
    examples: Names = ()


@dataclass(frozen=True)
class AuditResult:
    """Checked items, faults and class counts of an audit.

    Pydantic reads it from audit.json, where `totals` is "facts".

    Attributes:
        subject: what was checked.
        totals: numbers that do not count as faults, in display order.
        findings: every kind of fault, those that did not occur included.
        classes: number of rows by class, origin and split.
    """

    subject: str
    totals: dict[str, int | str] = field(metadata={"alias": "facts"})
    findings: Sequence[AuditFinding]
    classes: dict[str, dict[str, dict[str, int]]]

    @property
    def leaks(self) -> list[str]:
        """Count and name of the faults that let a test see training data.

        Near-duplicates are a guess.
        """
        return [
            f"{fault.count:,} {fault.description}"
            for fault in self.findings
            if fault.count and fault.description in _LEAKS
        ]

    @property
    def is_clean(self) -> bool:
        """Whether no fault occurred."""
        return not any(finding.count for finding in self.findings)


def count_finding(
    description: str, occurrences: Iterable[object], total: int | None = None
) -> AuditFinding:
    """Count the occurrences of a fault among `total` checked items.

    The texts of the first few become examples.
    """
    texts = tuple(map(str, occurrences))
    return AuditFinding(description, len(texts), total, texts[:_EXAMPLES])


_AUDITS = TypeAdapter(list[AuditResult])


def read_audits(path: Path) -> list[AuditResult]:
    """Read the results that `write_audits` wrote.

    Raises:
        DataError: the file is damaged.

    Example:
        >>> read_audits(Path("data/ships/audit.json"))[0].totals["train rows"]
        24
    """
    try:
        return _AUDITS.validate_python(load_json(path))
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path.name} is damaged ({error})", path, "run `rsft audit` again"
        ) from error


def write_audits(path: Path, audits: list[AuditResult]) -> None:
    """Write a JSON list with one object per audit; the file is replaced atomically."""
    content = [
        {"clean": audit.is_clean} | document
        for audit, document in zip(
            audits, _AUDITS.dump_python(audits, mode="json", by_alias=True), strict=True
        )
    ]
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def audit_store(
    store: ChipStore, *, jobs: int = 1, progress: Progress | None = None
) -> AuditResult:
    """Audit a chip store's manifest and every chip in it, with `jobs` processes."""
    total, _ = read_parquet_header(store.root / MANIFEST)
    parts = read_manifest_parts(store.root, _COLUMNS)
    table, faults = _read_chips(store.root, parts, total, jobs, progress)
    return _audit_table(table, faults, store.root, str(store.root), has_digests=True)


def audit_folder(
    folder: Path, *, jobs: int = 1, progress: Progress | None = None
) -> AuditResult:
    """Audit class folders or list files, as `LabeledFiles` reads them.

    A chip is called class/file stem.

    Returns:
        Counts of chips, and one finding per check with examples.

    Raises:
        RequestError: the folder contains no labeled image.
    """
    files = LabeledFiles(folder).files
    rows = [
        (f"{file.label}/{file.path.stem}", str(file.path), file.split, file.label)
        for file in files
    ]
    table = pd.DataFrame(rows, columns=list(_COLUMNS[:4])).assign(sha256=None)
    table, faults = _read_chips(Path(), [table], len(table), jobs, progress)
    return _audit_table(table, faults, Path(), str(folder), has_digests=False)


def _read_chips(
    root: Path,
    parts: Iterable[pd.DataFrame],
    total: int,
    jobs: int,
    progress: Progress | None,
) -> tuple[pd.DataFrame, "pd.Series[str]"]:
    """Read the chips of a manifest of `total` rows, which is given in parts.

    Returns:
        The manifest without digests, with the columns name_hash, content, hash,
        is_saturated and is_altered; and, by row, why a chip is unusable.
    """
    faults = {}
    kept = []
    contents = np.zeros(total, np.uint64)
    hashes = np.zeros(total, np.uint64)  # few bytes per chip, no objects
    is_saturated = np.zeros(total, bool)
    is_altered = np.zeros(total, bool)

    # paths and digests of few chips are in memory
    def iter_tasks() -> Iterator[tuple[int, Path, object]]:
        for part in parts:
            kept.append(_compress(part.reindex(columns=list(_COLUMNS))))
            for row, path, digest in part[["path", "sha256"]].itertuples(name=None):
                yield row, root / path, digest

    results = imap_unordered(_read_content, iter_tasks(), jobs)
    for row, content in track(results, total, progress, "auditing chips"):
        contents[row], hashes[row], is_saturated[row], is_altered[row], fault = content
        if fault:
            faults[row] = fault
    columns: dict[str, Any] = {
        name: pd.concat([part[name] for part in kept])
        for name in ("name", "name_hash", "path")
    }
    for name in _REPEATING:
        columns[name] = union_categoricals(
            [part[name] for part in kept], sort_categories=True
        )
    columns |= {
        "content": contents,
        "hash": hashes,
        "is_saturated": is_saturated,
        "is_altered": is_altered,
    }
    return (
        pd.DataFrame(columns, copy=False),
        pd.Series(faults, dtype=object).sort_index(),
    )


def _compress(part: pd.DataFrame) -> pd.DataFrame:
    """Return rows of a manifest in little memory, with a hash of each name."""
    part = part.astype(dict.fromkeys(_REPEATING, "string"))
    part = part.astype(dict.fromkeys(_REPEATING, "category"))
    hashes = hash_pandas_object(part["name"], index=False, categorize=False)
    part["name_hash"] = hashes.astype(np.uint32)
    part["path"] = part["path"].astype("string")
    return part.drop(columns="sha256")


def _audit_table(
    table: pd.DataFrame,
    faults: "pd.Series[str]",
    root: Path,
    subject: str,
    has_digests: bool,
) -> AuditResult:
    for name, default in {"flags": "", "source": "all"}.items():
        values = table[name].cat.categories.union([default])
        table[name] = table[name].cat.set_categories(values).fillna(default)
    splits = [split for split in SPLITS if (table["split"] == split).any()]
    totals: dict[str, int | str] = {
        f"{split} rows": int((table["split"] == split).sum()) for split in splits
    }
    totals["distinct contents"] = table["content"].nunique()
    totals["groups (scenes, vessels)"] = table["group_key"].nunique()
    findings = list(_find_faults(table, faults, root))
    if has_digests:
        altered = table["name"][table["is_altered"]]
        findings.append(
            count_finding(
                "chips whose file differs from the manifest", altered, len(table)
            )
        )
    sizes = table.groupby(["class", "source", "split"], observed=True).size()
    counts = sizes.unstack(fill_value=0).reindex(columns=splits)
    classes: Any = {
        label: rows.droplevel("class").to_dict("index")
        for label, rows in counts.groupby("class", observed=True)
    }
    return AuditResult(subject, totals, findings, classes)


def _read_content(
    task: tuple[int, Path, object],
) -> tuple[int, tuple[int, int, bool, bool, str]]:
    """Read one chip, given its row, its path and its SHA-256 in the manifest.

    Returns:
        The row; 64 bits of `symmetric_digest`, `hash_similarity`, whether the chip is
        saturated and whether its file differs from the manifest, and "". For a
        constant, damaged or missing file, the last one is the reason.
    """
    row, path, expected = task
    try:
        digest = sha256(path)
        pixels = read_chip(path)
    except OSError as error:
        return row, (0, 0, False, True, f"the file cannot be read: {error.strerror}")
    except DataError as error:
        return row, (int(digest[:16], 16), 0, False, digest != expected, error.message)
    is_integer = np.issubdtype(pixels.dtype, np.integer)
    is_saturated = is_integer and bool(
        (pixels == np.iinfo(pixels.dtype).max).mean() >= SATURATION_SHARE
    )
    content = int(symmetric_digest(pixels)[:16], 16)
    return row, (content, hash_similarity(pixels), is_saturated, digest != expected, "")


def _find_faults(
    table: pd.DataFrame, faults: "pd.Series[str]", root: Path
) -> Iterator[AuditFinding]:
    """Yield one finding per kind of fault, those of the manifest first.

    `faults` has the rows that cannot be used.
    """
    names = table["name"]
    total = len(table)
    yield from _find_manifest_faults(table)
    usable = table[["name", "split", "class", "content", "hash", "path"]]
    yield from _find_repeated_contents(usable.drop(faults.index), total, root)
    yield count_finding(
        "chips that are constant or cannot be read",
        names[faults.index] + ": " + faults,
        total,
    )
    yield count_finding(
        f"chips with {SATURATION_SHARE:.0%} of the pixels saturated",
        names[table["is_saturated"]],
        total,
    )
    labels = table.groupby(["split", "class"], observed=True).size()
    counts = {split: labels[split].to_dict() for split in labels.index.unique("split")}
    absent = []
    for split, missing in missing_classes(counts).items():
        absent += [f"{name} ({split})" for name in missing]
    yield count_finding("classes without a chip in a split", absent)


def _find_manifest_faults(table: pd.DataFrame) -> Iterator[AuditFinding]:
    names = table["name"]
    flags = table["flags"]
    flags = flags[flags != ""].str.split(",").explode()
    flagged = {flag: flags.index[flags == flag] for flag in sorted(set(flags) - {""})}
    # these have new names
    firsts = table[["name", "name_hash", "split"]].drop(
        flagged.get(REPEATED_ROW_FLAG, [])
    )
    # to compare all texts needs 100 bytes per chip
    firsts = firsts[_is_repeated(firsts["name_hash"])]
    leaking = _keys_in_several(table, "group_key", "split")
    test = table[table["split"] == "test"]
    leaked = test["name"][test["group_key"].isin(leaking)]
    yield count_finding(
        "names in two splits", _keys_in_several(firsts, "name", "split")
    )
    yield count_finding(_LEAKS[0], leaking)
    yield count_finding(_LEAKS[1], _keys_in_several(table, "mmsi", "split"))
    yield count_finding(
        "test chips of a scene or vessel of another split", leaked, len(test)
    )
    for flag, rows in flagged.items():
        yield count_finding(f"chips with the flag {flag}", names[rows], len(table))


def _find_repeated_contents(
    usable: pd.DataFrame, total: int, root: Path
) -> Iterator[AuditFinding]:
    """Yield the findings on copies among usable chips; `total` counts all chips."""
    names = usable["name"]
    repeated = usable[_is_repeated(usable["content"])]
    repeats = repeated.index[repeated.duplicated(["content", "split"])]
    yield count_finding(
        "chips that repeat the content of another in their split", names[repeats], total
    )
    contents = repeated["content"].drop_duplicates().sort_values()
    for key, description in (
        ("split", _LEAKS[2]),
        ("class", "contents in two classes"),
    ):
        in_several = contents.isin(_keys_in_several(repeated, "content", key))
        yield count_finding(description, names[contents.index[in_several]])
    yield count_finding(
        "pairs of near-duplicates across splits (also turned or mirrored)",
        _near_duplicates_across_splits(usable.drop(repeats), root),
    )


def _keys_in_several(table: pd.DataFrame, key: str, column: str) -> list[Any]:
    """Return the values of `key` with more than one value of `column`, in order."""
    keys = table[[key, column]].drop_duplicates()[key].dropna()
    return sorted(set(keys[keys.duplicated()]))


def _is_repeated(column: "pd.Series[int]") -> "pd.Series[bool]":
    """Return `column.duplicated(keep=False)`.

    Sorting needs less memory than a hash table.
    """
    values = np.sort(column.to_numpy())
    return column.isin(values[1:][values[1:] == values[:-1]])


def _near_duplicates_across_splits(table: pd.DataFrame, root: Path) -> Iterator[str]:
    """Yield `name (split) ~ name (split)` for similar chips across splits.

    Identical chips are not similar.
    """

    def read(row: int) -> Thumbnail:
        return make_thumbnail(read_chip(root / table["path"].iloc[row]))

    contents = table["content"].to_numpy()
    splits = table["split"].cat.codes
    for row, other in sorted(find_similar(table["hash"], splits, read)):
        if contents[row] != contents[other]:
            yield " ~ ".join(
                f"{chip['name']} ({chip['split']})"
                for _, chip in table.iloc[[row, other]].iterrows()
            )
