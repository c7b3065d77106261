"""The lists of FUSRS v2, judged by themselves: no image is needed to see what they repeat, leak and rename."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

from rsft.data.audit.findings import AuditFinding, AuditResult, count_finding
from rsft.data.datasets.fusar_ship import CATEGORIES
from rsft.data.datasets.fusrs import (
    CLASSES,
    FUSAR_CLASSES,
    FUSAR_OTHER,
    LIST_CHECKSUMS,
    LIST_VERSIONS,
    FUSRSListRow,
    read_fusrs_lists,
)
from rsft.errors import RequestError
from rsft.types import Rejection
from rsft.utils.atomic_files import sha256

_OWN = FUSAR_CLASSES | dict.fromkeys(FUSAR_OTHER, "other")


def has_fusrs_lists(folder: Path) -> bool:
    """Whether a list of FUSRS v2 is in `folder`."""
    return any((folder / name).is_file() for name in LIST_CHECKSUMS)


def audit_fusrs_lists(folder: Path) -> list[AuditResult]:
    """An audit of each pair of lists in `folder`, four classes first.

    Raises:
        RequestError: no pair is there, or one of a pair is missing.
        DataError: a list cannot be read or has no row that can be used.
    """
    present = [
        classes
        for classes, version in LIST_VERSIONS.items()
        if any((folder / f"{version}_{split}.txt").is_file() for split in ("train", "test"))
    ]
    if not present:
        raise RequestError("there is no list of FUSRS v2", folder, f"wanted: {', '.join(LIST_CHECKSUMS)}")
    return [_audit(folder, classes) for classes in present]


def _audit(folder: Path, classes: int) -> AuditResult:
    rows, rejected = read_fusrs_lists(folder, classes)
    train, test = ([row for row in rows if row.split == split] for split in ("train", "test"))
    files = [train[0].file, test[0].file]
    names = [{row.name for row in part} for part in (train, test)]
    facts: dict[str, int | str] = {
        "training rows": len(train),
        "test rows": len(test),
        "distinct training names": len(names[0]),
        "distinct test names": len(names[1]),
        "distinct names in all": len(names[0] | names[1]),
        "SRSDD images": len({row.image for row in rows} - {None}),
        "files as published": "yes" if all(sha256(path) == LIST_CHECKSUMS[path.name] for path in files) else "no",
    }
    findings = _findings(train, test, CLASSES[classes], rejected)
    return AuditResult(
        f"{LIST_VERSIONS[classes]}, {classes} classes, {folder}", facts, findings, _origins(rows, CLASSES[classes])
    )


def _findings(
    train: list[FUSRSListRow], test: list[FUSRSListRow], classes: tuple[str, ...], rejected: list[Rejection]
) -> list[AuditFinding]:
    rows = train + test
    seen = {row.name for row in train}
    images = {row.image for row in train} & {row.image for row in test} - {None}
    leaked = [row for row in test if row.image is not None]
    labels: dict[str, set[int]] = defaultdict(set)
    for row in rows:
        labels[row.name].add(row.label)
    own = [
        (row, _OWN.get(CATEGORIES[row.category - 1]))
        for row in rows
        if row.category is not None and 0 < row.category <= len(CATEGORIES)
    ]
    renamed = [row for row, label in own if label != classes[row.label]]
    return [
        count_finding("training rows that repeat a name", _repeated(train), len(train)),
        count_finding("test rows that repeat a name", _repeated(test), len(test)),
        count_finding("names in both splits", dict.fromkeys(row.name for row in test if row.name in seen)),
        count_finding(
            "SRSDD images in both splits", (f"L{image}" for image in sorted(images, key=lambda image: image or 0))
        ),
        count_finding(
            "SRSDD test chips of an image seen in training",
            (row.name for row in leaked if row.image in images),
            len(leaked),
        ),
        count_finding("names with two labels", (name for name, found in labels.items() if len(found) > 1)),
        count_finding(
            "FUSAR-Ship rows in another class than their category's", (row.name for row in renamed), len(own)
        ),
        count_finding("rows that are none", (f"{Path(file).name}:{line}: {why}" for file, line, why in rejected)),
    ]


def _repeated(rows: list[FUSRSListRow]) -> Iterator[str]:
    seen: set[str] = set()
    for row in rows:
        if row.name in seen:
            yield f"{row.name} ({row.file.name}:{row.line})"
        seen.add(row.name)


def _origins(rows: list[FUSRSListRow], classes: tuple[str, ...]) -> dict[str, dict[str, dict[str, int]]]:
    """What stands behind each class: rows by FUSAR-Ship category or SRSDD, and by split."""
    counts = Counter((row.label, _origin(row), row.split) for row in rows)
    tables: dict[str, dict[str, dict[str, int]]] = {name: {} for name in classes}
    for (label, origin, split), count in sorted(counts.items(), key=lambda item: (item[0][1], item[0][2] == "test")):
        tables[classes[label]].setdefault(origin, {"train": 0, "test": 0})[split] = count
    return tables


def _origin(row: FUSRSListRow) -> str:
    if row.category is None:
        return "SRSDD"
    known = 0 < row.category <= len(CATEGORIES)
    return f"FUSAR-Ship C{row.category:02} {CATEGORIES[row.category - 1] if known else 'unknown'}"
